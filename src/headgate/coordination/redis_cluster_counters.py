"""Shared counters on a Redis Cluster: `SpreadCounters` over its slots.

The keys of counters are divided into `PLACES` places by a hash of their text, and each place is in one slot;
their slots lie evenly among all, so every server has its share of them.
So a batch takes one command for each place that it touches; all commands for one server travel together,
and all servers are asked at the same time.

A command that met the wrong server (MOVED, ASK) was not carried out, so it goes on to the right one. When a
server does not answer, who has which slots is asked anew, beside the work.
"""

from __future__ import annotations

import asyncio
import logging
from binascii import crc_hqx
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final, final
from zlib import crc32

import msgspec

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.coordination.counter_limits import HeldLevel
from headgate.coordination.counter_places import CANCEL, CONFIRM
from headgate.coordination.counter_wire import CounterWire
from headgate.coordination.redis_connections import (
    address_of,
    driver,
    open_async_client,
    store_errors,
)
from headgate.coordination.redis_counters import counter_script
from headgate.coordination.spread_counters import SpreadCounters
from headgate.engine.counters import SETTLE, STORE_EPOCH_NS, UNREADABLE, Answer
from headgate.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headgate.clock import Clock
    from headgate.coordination.counter_wire import Batch
    from headgate.engine.counters import Counter, Question

__all__ = ["PLACES", "RedisClusterPlaces", "place_tags", "redis_cluster_counters"]

_log = logging.getLogger("headgate.coordination")

PLACES: Final = 64
"""Enough for a dozen servers, and few enough that the questions of a batch share commands."""
_WHAT: Final = "the store of shared counters"
_WANTED: Final = "counters must be kept at an address of a Redis Cluster"
_NS_PER_US: Final = 1_000
_MOST_ROUNDS: Final = 4
_GRACE_MS: Final = 86_400_000
_BETWEEN_LOOKS: Final = 0.2
_SLOTS: Final = 16_384


def redis_cluster_counters(
    store: object,
    cluster: str = "main",
    timeout_ns: int = NS_PER_SECOND // 2,
    clock: Clock | None = None,
) -> SpreadCounters:
    """A store of counters on a Redis Cluster.

    Args:
        store: its address (see `headgate.coordination.redis_address`).
        cluster: the nodes of one name share their counters.
        timeout_ns: how long to wait for an answer; some questions take two.
        clock: for pauses.
    """
    return SpreadCounters(RedisClusterPlaces(store, cluster, timeout_ns), clock)


@final
class _Asked:
    """What one place is asked, and what it has answered so far."""

    def __init__(self, place: int, questions: Sequence[Question]) -> None:
        self.place = place
        self.questions = questions
        self.answers: list[Answer | None] = [None] * len(questions)
        self.waiting = list(range(len(questions)))
        self.held: Mapping[str, Sequence[HeldLevel]] = {}


@final
class RedisClusterPlaces:
    """The `Places` of a Redis Cluster. It belongs to one event loop."""

    def __init__(self, store: object, cluster: str, timeout_ns: int) -> None:
        redis = driver("shared counters")
        address = address_of(store, _WANTED)
        if address is None:
            raise InvalidInput(f"{_WANTED}, got {type(store).__name__}")
        self._client: Any = open_async_client(address, timeout_ns / NS_PER_SECOND)
        self._script = counter_script(redis)
        self._unknown = redis.exceptions.NoScriptError
        seen_us = (SystemClock().wall_ns() - STORE_EPOCH_NS) // _NS_PER_US
        self._prefix = f"headgate:{cluster}"
        self._tags = [_bytes(f"{{{tag}}}") for tag in place_tags()]
        self._wires = [CounterWire(f"{self._prefix}:{{{tag}}}", seen_us) for tag in place_tags()]
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self.now_us: int | None = None

    def place_of(self, key: str) -> int:
        """See `Places`."""
        return crc32(_bytes(key)) % PLACES

    async def ask(
        self, asked: Mapping[int, Sequence[Question]]
    ) -> Mapping[int, Sequence[Answer | None]]:
        """See `Places`."""
        lines = [_Asked(place, questions) for place, questions in asked.items()]
        waiting = await self._with_holds(lines)
        for _ in range(_MOST_ROUNDS):
            if not waiting:
                break
            # Once more for keys that are kept under settings that the store was not told.
            waiting = await self._round(waiting)
        for line in waiting:
            for number in line.waiting:
                line.answers[number] = Answer(0, [], failed=UNREADABLE)
        return {line.place: line.answers for line in lines}

    async def note(self, holds: Mapping[str, tuple[Sequence[int], int]]) -> set[str]:
        """See `Places`."""
        commands = []
        for hold, (places, ttl_us) in holds.items():
            key = self._where(hold)
            text = msgspec.msgpack.encode(places)
            commands.append((key, ("SET", key, text, "PX", ttl_us // 1000 + _GRACE_MS)))
        replies = await self._send(commands)
        return {
            hold
            for hold, reply in zip(holds, replies, strict=True)
            if not isinstance(reply, Exception)
        }

    async def find(self, holds: Sequence[str]) -> dict[str, Sequence[int] | None]:
        """See `Places`."""
        replies = await self._send(
            [(self._where(hold), ("GET", self._where(hold))) for hold in holds]
        )
        found: dict[str, Sequence[int] | None] = {}
        for hold, reply in zip(holds, replies, strict=True):
            if reply is None:
                found[hold] = None
            elif not isinstance(reply, Exception):
                found[hold] = msgspec.msgpack.decode(reply, type=list[int])
        return found

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """See `Places`."""
        place = self.place_of(key)
        for _ in range(_MOST_ROUNDS):
            batch = self._wires[place].leases(counter, key, self.now_us)
            (reply,) = await self._run([(place, batch)])
            with store_errors(_WHAT):
                if isinstance(reply, Exception):
                    raise reply
                found = batch.read_list(reply, 3)
            if found is not None:
                return found
        raise StoreUnavailable(f"{_WHAT} did not answer: what it has at this key cannot be read")

    async def release_expired(self, most: int) -> int:
        """See `Places`. Places whose server is away keep theirs until it is back."""
        batches = [(n, wire.due(most, self.now_us)) for n, wire in enumerate(self._wires)]
        due: list[tuple[int, str]] = []
        for (place, batch), reply in zip(batches, await self._run(batches), strict=True):
            if not isinstance(reply, Exception):
                due += [(place, hold) for (hold,) in batch.read_list(reply, 1) or []]
        return await self._release(due[:most]) if due else 0

    async def ping(self) -> None:
        """See `Places`: one of the servers is enough. All that are there have the script afterwards."""
        with store_errors(_WHAT):
            await self._client.initialize()
        by_server: dict[str, int] = {}
        for place, tag in enumerate(self._tags):
            with suppress(Exception):  # nobody has the slot at present
                by_server.setdefault(self._client.get_node_from_key(tag).name, place)
        batches = [(place, self._wires[place].due(1, self.now_us)) for place in by_server.values()]
        replies = await self._run(batches)
        if all(isinstance(reply, Exception) for reply in replies):
            raise StoreUnavailable(f"{_WHAT} did not answer: no server of the cluster did")

    async def close(self) -> None:
        """See `Places`."""
        if self._looking is not None:
            self._looking.cancel()
        await self._client.aclose()

    # Rounds --------------------------------------------------------------------------------------

    async def _round(self, lines: list[_Asked]) -> list[_Asked]:
        """Ask what waits; the lines in which something has to be asked again."""
        batches = [(line.place, self._batch(line)) for line in lines]
        replies = await self._run(batches)
        again = []
        for line, (_, batch), reply in zip(lines, batches, replies, strict=True):
            answers = _read(batch, reply)
            if answers is None:
                continue
            for number, answer in zip(line.waiting, answers, strict=True):
                line.answers[number] = answer
            line.waiting = [line.waiting[number] for number in batch.again]
            if line.waiting:
                again.append(line)
        return again

    def _batch(self, line: _Asked) -> Batch:
        wire = self._wires[line.place]
        batch = wire.batch((), {}, self.now_us)
        for number in line.waiting:
            question = line.questions[number]
            if question.kind == CONFIRM:
                batch.add_settle(question.hold, -1, (), if_due=False)
            elif question.kind == CANCEL:
                batch.add_settle(question.hold, 0, _held_levels(wire, question), if_due=False)
            else:
                batch.add(question, line.held)
        return batch

    async def _with_holds(self, lines: list[_Asked]) -> list[_Asked]:
        """Read the holds that are to be settled; the lines of which that is known."""
        wanted = [
            (line.place, question.hold)
            for line in lines
            for question in line.questions
            if question.kind == SETTLE
        ]
        if not wanted:
            return lines
        held, lost = await self._read_holds(wanted)
        for line in lines:
            line.held = held.get(line.place, {})
        return [line for line in lines if line.place not in lost]

    async def _read_holds(
        self, wanted: Iterable[tuple[int, str]]
    ) -> tuple[dict[int, dict[str, list[HeldLevel]]], set[int]]:
        """The levels of holds in each place; and the places that did not answer."""
        pairs = list(wanted)
        keys = [_bytes(self._wires[place].hold_key(hold)) for place, hold in pairs]
        replies = await self._send([(key, ("GET", key)) for key in keys])
        held: dict[int, dict[str, list[HeldLevel]]] = {}
        lost = set()
        for (place, hold), reply in zip(pairs, replies, strict=True):
            if isinstance(reply, Exception):
                lost.add(place)
            else:
                held.setdefault(place, {}).update(self._wires[place].read_holds({hold: reply}))
        return held, lost

    async def _release(self, due: list[tuple[int, str]]) -> int:
        released = 0
        found, lost = await self._read_holds(due)
        batches = []
        for place in {place for place, _ in due} - lost:
            held = found.get(place, {})
            gone = [hold for where, hold in due if where == place and hold not in held]
            if gone:
                index = _bytes(self._wires[place].index_key)
                await self._send([(index, ("ZREM", index, *gone))])
            if held:
                batches.append((place, self._wires[place].release(list(held), held, self.now_us)))
        for (_, batch), reply in zip(batches, await self._run(batches), strict=True):
            answers = _read(batch, reply) or []
            released += sum(answer is not None and not answer.failed for answer in answers)
        return released

    # Servers -------------------------------------------------------------------------------------

    async def _run(self, batches: Sequence[tuple[int, Batch]]) -> list[Any]:
        """The replies of the script, or what failed."""
        commands = []
        places = []
        replies: list[Any] = [b""] * len(batches)
        for number, (place, batch) in enumerate(batches):
            if not batch.is_empty:
                keys = batch.keys
                commands.append((self._tags[place], (len(keys), *keys, batch.packed())))
                places.append(number)
        sha, text = self._script.sha, self._script.text
        found = await self._send([(tag, ("EVALSHA", sha, *rest)) for tag, rest in commands])
        unknown = [n for n, reply in enumerate(found) if isinstance(reply, self._unknown)]
        if unknown:
            # After a flush, or on a new server; both are rare.
            told = [(commands[n][0], ("EVAL", text, *commands[n][1])) for n in unknown]
            for n, reply in zip(unknown, await self._send(told), strict=True):
                found[n] = reply
        for number, reply in zip(places, found, strict=True):
            replies[number] = reply
        return replies

    async def _send(self, commands: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Any]:
        """Send each command to the server of its key; the replies, or what failed.

        Raises:
            StoreUnavailable: nobody says which servers there are.
        """
        with store_errors(_WHAT):
            await self._client.initialize()
        replies: list[Any] = [None] * len(commands)
        by_node: dict[str, list[int]] = {}
        for number, (key, _) in enumerate(commands):
            try:
                node = self._client.get_node_from_key(key)
            except Exception as error:  # noqa: BLE001 - nobody has the slot at present
                replies[number] = error
                continue
            by_node.setdefault(node.name, []).append(number)
        await asyncio.gather(
            *(self._send_to_one(commands, numbers, replies) for numbers in by_node.values())
        )
        if any(isinstance(reply, Exception) for reply in replies):
            self._look_for_servers()
        return replies

    async def _send_to_one(
        self,
        commands: Sequence[tuple[bytes, tuple[Any, ...]]],
        numbers: list[int],
        replies: list[Any],
    ) -> None:
        pipeline = self._client.pipeline()
        for number in numbers:
            pipeline.execute_command(*commands[number][1], NEVER_DECODE=True)
        try:
            found = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is known of these
            found = [error] * len(numbers)
        for number, reply in zip(numbers, found, strict=True):
            replies[number] = reply

    def _look_for_servers(self) -> None:
        """Find out who has which slots, unless that was done a moment ago."""
        loop = asyncio.get_running_loop()
        if self._looking is None and loop.time() - self._looked_at >= _BETWEEN_LOOKS:
            self._looked_at = loop.time()
            self._looking = loop.create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._client.nodes_manager.initialize()
        except Exception as error:  # noqa: BLE001 - then it is tried again, later
            _log.debug("nobody says who has which slots: %r", error)
        finally:
            self._looking = None

    def _where(self, hold: str) -> bytes:
        return _bytes(f"{self._prefix}:{{{hold}}}:where")


def place_tags() -> list[str]:
    """For each place a tag whose slot is in that place's part of all slots."""
    found: dict[int, str] = {}
    for tag in map(str, count()):
        # What Redis calls CRC16 is CRC-CCITT (XModem).
        found.setdefault(crc_hqx(tag.encode(), 0) % _SLOTS * PLACES // _SLOTS, tag)
        if len(found) == PLACES:
            break
    return [found[place] for place in range(PLACES)]


def _held_levels(wire: CounterWire, question: Question) -> list[HeldLevel]:
    """The levels of a question as they stand in its hold."""
    return [
        HeldLevel(wire.key_of(counter, key), counter.version, wire.limits.of(counter).recipe)
        for counter, key in question.levels
    ]


def _read(batch: Batch, reply: Any) -> list[Answer | None] | None:
    """The answers of a batch; None when there are none."""
    if isinstance(reply, Exception):
        return None
    try:
        return batch.read(reply)
    except ValueError as error:
        _log.error("a server of the shared counters answered what cannot be read: %s", error)
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
