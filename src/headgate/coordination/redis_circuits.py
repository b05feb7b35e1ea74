"""Circuits on a Redis or Valkey, by one script (``circuit.lua``), through redis-py."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary

from headgate.clock import NS_PER_SECOND
from headgate.coordination.redis_connections import (
    address_of,
    driver,
    heal,
    heal_async,
    open_async_client,
    open_client,
    store_errors,
)
from headgate.coordination.redis_scripts import Script
from headgate.engine.circuits import CircuitAnswer
from headgate.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from headgate.backpressure.breaker_rule import BreakerRule
    from headgate.engine.circuits import CircuitQuestion

__all__ = ["RedisCircuits"]

_KEY: Final = "headgate:circuit:"
_NS_PER_US: Final = 1_000
_WHAT: Final = "the store of shared circuits"
_WANTED: Final = (
    "shared must be an address such as redis://127.0.0.1:6379/0, or a client of redis-py"
)


@final
class RedisCircuits:
    """A store of circuits.

    Nothing is sent twice: a question that may have arrived must not be counted again. So the connections
    that are opened here do not retry; a client that was handed in does as it was told.

    Args:
        store: the address (see `headgate.coordination.redis_address`), or a client: ``redis.Redis`` or
            ``redis.asyncio.Redis``.
        timeout_ns: how long to wait for an answer. A ``redis.Redis`` that was handed in brings the
            timeout of its own sockets.
    """

    def __init__(self, store: object, timeout_ns: int) -> None:
        self._redis = driver("a shared circuit")
        self._timeout = timeout_ns / NS_PER_SECOND
        self._client: Any = None
        self._async_client: Any = None
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._script = Script(self._redis, "circuit.lua")
        self._rules: dict[int, tuple[BreakerRule, str]] = {}
        self._take(store)

    def ask(self, name: str, rule: BreakerRule, question: CircuitQuestion) -> CircuitAnswer:
        """See `CircuitStore`."""
        client = self._sync_client()
        arguments = self._arguments(name, rule, question)
        try:
            with store_errors(_WHAT):
                reply = self._script.run(client, *arguments)
        except StoreUnavailable as error:
            heal(client, error)
            raise
        return _read(reply)

    async def ask_async(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> CircuitAnswer:
        """See `CircuitStore`."""
        if self._client is not None and self._address is None:
            return await self._ask_in_thread(name, rule, question)
        client = self._client_of_loop()
        arguments = self._arguments(name, rule, question)
        try:
            with store_errors(_WHAT):
                async with asyncio.timeout(self._timeout):
                    reply = await self._script.run_async(client, *arguments)
        except StoreUnavailable as error:
            await heal_async(client, error)
            raise
        return _read(reply)

    def close(self) -> None:
        """Close what was opened here, except for tasks: see `close_async`."""
        if self._address is not None and self._client is not None:
            self._client.close()

    async def close_async(self) -> None:
        """Close what was opened here for the tasks of this event loop."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _ask_in_thread(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> CircuitAnswer:
        with store_errors(_WHAT):
            async with asyncio.timeout(self._timeout):
                return await asyncio.to_thread(self.ask, name, rule, question)

    def _take(self, store: object) -> None:
        from redis import asyncio as redis_asyncio  # noqa: PLC0415 - the driver is optional

        self._address = address_of(store, _WANTED)
        if self._address is not None:
            self._client = open_client(self._address, self._timeout)
        elif isinstance(store, (redis_asyncio.Redis, redis_asyncio.RedisCluster)):
            self._async_client = store
        elif isinstance(store, (self._redis.Redis, self._redis.RedisCluster)):
            self._client = store
        else:
            raise InvalidInput(f"{_WANTED}, got {type(store).__name__}")

    def _sync_client(self) -> Any:
        if self._client is None:
            raise InvalidInput(
                "the client that is shared through is for asyncio; use async with, or give an address"
            )
        return self._client

    def _client_of_loop(self) -> Any:
        """Connections belong to the event loop that they were opened in."""
        if self._async_client is not None:
            return self._async_client
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None and self._address is not None:
            client = open_async_client(self._address, self._timeout)
            self._by_loop[loop] = client
        return client

    def _arguments(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> tuple[object, ...]:
        return (
            _KEY + name,
            self._rule(rule),
            question.epoch,
            question.outcomes,
            question.lease,
            question.ended,
            question.told_ns // _NS_PER_US,
            repr(question.uniform),
            question.force,
            int(question.probes),
            "",
        )

    def _rule(self, rule: BreakerRule) -> str:
        """The rule as the script reads it; a breaker has one, so it is written once."""
        kept = self._rules.get(id(rule))
        if kept is None:
            kept = self._rules[id(rule)] = (rule, json.dumps(_members(rule)))
        return kept[1]


def _members(rule: BreakerRule) -> dict[str, object]:
    def us(nanoseconds: int) -> int:
        return max(1, nanoseconds // _NS_PER_US)

    return {
        "in_row": rule.in_row,
        "failure_ppm": rule.failure_ppm,
        "slow_ppm": rule.slow_ppm,
        "least_calls": rule.least_calls,
        "window_calls": rule.window_calls,
        "slots": rule.slots,
        "slot_us": us(rule.slot_ns),
        "open_us": us(rule.open_ns),
        "longest_us": us(rule.longest_ns),
        "jitter": rule.jitter,
        "probes": rule.probes,
        "successes": rule.successes,
        "lease_us": us(rule.lease_ns),
        "steps": len(rule.steps),
        "step_us": us(rule.step_ns),
        "step_calls": rule.step_calls,
        "forgive_us": us(rule.forgive_ns),
    }


def _read(reply: Any) -> CircuitAnswer:
    try:
        state, epoch, wait_us, *rest = (int(number) for number in reply)
        return CircuitAnswer(state, epoch, wait_us * _NS_PER_US, *rest)
    except (TypeError, ValueError) as error:
        raise StoreUnavailable(f"{_WHAT} answered what no circuit is: {error}") from error
