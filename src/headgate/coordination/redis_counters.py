"""Shared counters on a Redis or Valkey: one round trip for any number of questions.

The store decides, by the script of ``lua/`` and its own clock. A batch is one command on one connection; what
the script answers is complete. Only a hold that is settled takes a second round trip before, because its
keys are not known to whoever settles it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.coordination.counter_wire import CounterWire
from headgate.coordination.redis_connections import (
    address_of,
    driver,
    heal_async,
    open_async_client,
    store_errors,
)
from headgate.coordination.redis_scripts import Script
from headgate.engine.counters import SETTLE, STORE_EPOCH_NS, UNREADABLE, Answer
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.coordination.counter_limits import HeldLevel
    from headgate.coordination.counter_wire import Batch
    from headgate.engine.counters import Counter, Question

__all__ = ["RedisCounters", "counter_script"]

_WHAT: Final = "the store of shared counters"
_NS_PER_US: Final = 1_000
_MOST_ROUNDS: Final = 4
_FILES: Final = (
    "numbers",
    "gcra",
    "fixed_window",
    "sliding_window_counter",
    "event_log",
    "dual",
    "ledger",
    "cells",
    "counters",
)


def counter_script(redis: Any) -> Script:
    """The script of shared counters, joined from its files."""
    return Script(redis, *[f"lua/{name}.lua" for name in _FILES])


@final
class RedisCounters:
    """A store of counters on a single server, or behind Sentinels.

    It belongs to one event loop. Nothing is sent twice: a question that may have arrived must not be counted
    again.

    Args:
        store: the address (see `headgate.coordination.redis_address`), or a ``redis.asyncio.Redis``.
        cluster: the nodes of one name share their counters.
        timeout_ns: how long to wait for an answer; a client that was handed in brings its own.

    Attributes:
        now_us: for tests: what the store is to take for its clock; None is its own.
    """

    def __init__(
        self, store: object, cluster: str = "main", timeout_ns: int = NS_PER_SECOND
    ) -> None:
        self._redis = driver("shared counters")
        address = address_of(store, "counters must be kept at an address of a Redis")
        self._opened = address is not None
        self._client: Any = (
            store if address is None else open_async_client(address, timeout_ns / NS_PER_SECOND)
        )
        self._script = counter_script(self._redis)
        seen_us = (SystemClock().wall_ns() - STORE_EPOCH_NS) // _NS_PER_US
        self._wire = CounterWire(f"headgate:{cluster}", seen_us)
        self.now_us: int | None = None

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer | None]:
        """See `CounterStore`."""
        held = await self._read_holds([q.hold for q in questions if q.kind == SETTLE])
        return await self._answers(
            lambda places: self._wire.batch(
                [questions[place] for place in places], held, self.now_us
            ),
            range(len(questions)),
        )

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """See `CounterStore`."""
        batch = self._wire.leases(counter, key, self.now_us)
        found = batch.read_list(await self._send(batch), 3)
        if found is None:
            raise StoreUnavailable(f"{_WHAT} did not answer: what it has at this key is not ours")
        return found

    async def release_expired(self, most: int = 256) -> int:
        """See `CounterStore`."""
        batch = self._wire.due(most, self.now_us)
        due = batch.read_list(await self._send(batch), 1)
        holds = [hold for (hold,) in due or []]
        held = await self._read_holds(holds)
        lost = [hold for hold in holds if hold not in held]
        if lost:
            with store_errors(_WHAT):
                await self._client.zrem(self._wire.index_key, *lost)
        if not held:
            return 0
        names = list(held)
        answers = await self._answers(
            lambda places: self._wire.release(
                [names[place] for place in places], held, self.now_us
            ),
            range(len(names)),
        )
        return sum(answer is not None and not answer.failed for answer in answers)

    async def ping(self) -> None:
        """See `CounterStore`. It runs the script on nothing, so that no question has to wait for that."""
        batch = self._wire.batch((), {}, self.now_us)
        reply = await self._send(batch)
        with store_errors(_WHAT):
            batch.read(reply)

    async def close(self) -> None:
        """See `CounterStore`. A client that was handed in is left open."""
        if self._opened:
            await self._client.aclose()

    async def _answers(
        self, batch_of: Callable[[Sequence[int]], Batch], places: Sequence[int]
    ) -> list[Answer | None]:
        """The answers to numbered questions; those that lacked something are asked again with it.

        The store may keep some of the keys under settings that it was not told, or it is another day there.
        """
        batch = batch_of(places)
        answers = await self._carry(batch)
        waiting = batch.again
        for _ in range(_MOST_ROUNDS):
            if not waiting:
                break
            batch = batch_of(waiting)
            for place, answer in zip(waiting, await self._carry(batch), strict=True):
                answers[place] = answer
            waiting = [waiting[place] for place in batch.again]
        for place in waiting:
            answers[place] = Answer(self._wire.seen_us, [], failed=UNREADABLE)
        return answers

    async def _carry(self, batch: Batch) -> list[Answer | None]:
        reply = b"" if batch.is_empty else await self._send(batch)
        with store_errors(_WHAT):
            return batch.read(reply)

    async def _send(self, batch: Batch) -> Any:
        try:
            with store_errors(_WHAT):
                return await self._script.run_on_async(self._client, batch.keys, batch.packed())
        except StoreUnavailable as error:
            await heal_async(self._client, error)
            raise

    async def _read_holds(self, holds: Iterable[str]) -> dict[str, list[HeldLevel]]:
        names = list(dict.fromkeys(holds))
        if not names:
            return {}
        keys = [self._wire.hold_key(name).encode("utf-8", "backslashreplace") for name in names]
        with store_errors(_WHAT):
            found = await self._client.execute_command("MGET", *keys, NEVER_DECODE=True)
        return self._wire.read_holds(dict(zip(names, found, strict=True)))
