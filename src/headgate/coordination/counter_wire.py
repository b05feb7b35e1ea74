"""Questions and answers of shared counters as bytes: what `counters.lua` reads and writes.

No input or output happens here. A batch is one packed argument and the keys that it touches; an answer is
one flat list of numbers. Both are built without an object for each value, because a node asks tens of
thousands of questions a second.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from headgate.coordination.counter_limits import HeldLevel, KnownLimits
from headgate.engine.counters import (
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    UNKNOWN_HOLD,
    UNREADABLE,
    Answer,
    Standing,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.coordination.counter_limits import KnownLimit
    from headgate.engine.counters import Counter, LeaseRequest, Question

__all__ = ["Batch", "CounterWire"]

_MOST: Final = 2**53
_MOST_DEMAND: Final = 1e15
_DUE, _LEASES = 7, 8
_DONE, _DONE_OTHERWISE, _UNKNOWN_HOLD, _, _AGAIN = range(5)

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


@final
class CounterWire:
    """The keys and the words of one store.

    Args:
        prefix: of all keys.
        seen_us: about what the store's clock shows; the answers correct it.

    Attributes:
        limits: that were asked for lately.
        seen_us: as above.
    """

    def __init__(self, prefix: str, seen_us: int) -> None:
        self._start = f"{prefix}:{{"
        self._index = f"{prefix}:holds"
        self.seen_us = seen_us
        self.limits = KnownLimits()

    def key_of(self, counter: Counter, key: str) -> str:
        """The Redis key of a counter's key. What stands in braces decides on the slot in a cluster."""
        return f"{self._start}{key}{self.limits.of(counter).suffix}"

    def hold_key(self, hold: str) -> str:
        """The Redis key of a hold."""
        return f"{self._start}{hold}}}:hold"

    @property
    def index_key(self) -> str:
        """The Redis key of the index of holds by expiry."""
        return self._index

    def batch(
        self,
        questions: Sequence[Question],
        held: Mapping[str, Sequence[HeldLevel]],
        now_us: int | None,
    ) -> Batch:
        """Write questions down.

        Args:
            questions: of any kind.
            held: the levels of the holds that are to be settled; a hold that is missing is unknown.
            now_us: for tests: what the store is to take for its clock.
        """
        batch = Batch(self, now_us)
        for question in questions:
            batch.add(question, held)
        return batch

    def due(self, most: int, now_us: int | None) -> Batch:
        """Which holds are due?"""
        batch = Batch(self, now_us)
        batch.flat += (_DUE, 0, batch.key_number(self._index), most)
        return batch

    def leases(self, counter: Counter, key: str, now_us: int | None) -> Batch:
        """Who holds what of a key?"""
        batch = Batch(self, now_us)
        batch.flat += (_LEASES, 0, batch.key_number(self.key_of(counter, key)))
        return batch

    def release(
        self, holds: Sequence[str], held: Mapping[str, Sequence[HeldLevel]], now_us: int | None
    ) -> Batch:
        """Release these holds if they are due."""
        batch = Batch(self, now_us)
        for hold in holds:
            batch.add_settle(hold, 0, held[hold], if_due=True)
        return batch

    def read_holds(self, packed: Mapping[str, bytes | None]) -> dict[str, list[HeldLevel]]:
        """The levels of holds as they stand in the store; those that cannot be read are left out."""
        found = {}
        for hold, text in packed.items():
            if text is None:
                continue
            try:
                payload = _decode(text)[4]
                found[hold] = [HeldLevel(*level) for level in json.loads(payload)]
            except (ValueError, TypeError, LookupError):
                continue
        return found


@final
class Batch:
    """Questions on their way.

    Attributes:
        keys: that it touches.
        flat: the questions.
        unread: the store's answers that are texts or several numbers, for those that ask for such.
        again: numbers of the questions that have to be asked again, with what was learnt.
    """

    def __init__(self, wire: CounterWire, now_us: int | None) -> None:
        self._wire = wire
        self._now_us = now_us
        self._numbers: dict[str, int] = {}
        self._recipes: list[tuple[int, str, dict[str, object]]] = []
        self._recipe_numbers: dict[int, int] = {}
        self._levels: list[Sequence[KnownLimit] | None] = []
        self._kinds: list[int] = []
        self.flat: list[Any] = []
        self.again: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask the store."""
        return not self.flat

    @property
    def keys(self) -> list[bytes]:
        """All keys, in the order of their numbers."""
        return [_bytes(key) for key in self._numbers]

    def packed(self) -> bytes:
        """The argument of the script."""
        now_us = False if self._now_us is None else self._now_us
        return _encode((now_us, self._recipes, self.flat))

    def add(self, question: Question, held: Mapping[str, Sequence[HeldLevel]]) -> None:
        """Write one question down."""
        kind = question.kind
        if kind == SETTLE:
            levels = held.get(question.hold)
            if levels is None:
                self._levels.append(None)
                self._kinds.append(kind)
            else:
                self.add_settle(question.hold, question.cost, levels, if_due=False)
            return
        flat = self.flat
        flat += (kind, len(question.levels))
        wire = self._wire
        known: list[KnownLimit] = []
        keys: list[str] = []
        for counter, key in question.levels:
            one = wire.limits.of(counter)
            name = f"{wire._start}{key}{one.suffix}"  # noqa: SLF001 - key_of would look it up again
            known.append(one)
            keys.append(name)
            self.add_level(one, name)
        self._levels.append(known)
        self._kinds.append(kind)
        if kind == RENEW:
            if question.lease is None:
                raise ValueError("a question of the kind RENEW has a lease")
            flat += _lease(question.lease)
            return
        flat.append(min(question.cost, _MOST))
        if kind == REFUND:
            flat.append(question.granted_at_us)
        elif kind == RESERVE:
            payload = [
                [name, one.version, one.recipe] for name, one in zip(keys, known, strict=True)
            ]
            flat += (
                self.key_number(wire.hold_key(question.hold)),
                self.key_number(wire.index_key),
                question.hold,
                question.ttl_us,
                json.dumps(payload),
            )

    def add_settle(
        self, hold: str, cost: int, levels: Sequence[HeldLevel], *, if_due: bool
    ) -> None:
        """Write down the end of a hold."""
        wire = self._wire
        flat = self.flat
        flat += (SETTLE, len(levels))
        known = [wire.limits.of_held(level) for level in levels]
        for level, one in zip(levels, known, strict=True):
            self.add_level(one, level.key)
        self._levels.append(known)
        self._kinds.append(SETTLE)
        flat += (
            min(cost, _MOST),
            self.key_number(wire.hold_key(hold)),
            self.key_number(wire.index_key),
            hold,
            if_due,
        )

    def add_level(self, known: KnownLimit, key: str) -> None:
        """Write down a key, and the settings it is asked under."""
        numbers = self._numbers
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = len(numbers) + 1
            if known.keeps_log or known.formers:
                numbers[f"{key}:log"] = number + 1
        recipe = self._recipe_numbers.get(id(known))
        if recipe is None:
            recipe = self._add_recipe(known)
        flat = self.flat
        flat.append(number)
        flat.append(recipe)

    def key_number(self, key: str) -> int:
        """The number of a key that is no counter's."""
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def read(self, reply: bytes) -> list[Answer | None]:
        """The answers; None to those that have to be asked again. ``reply`` is empty when nothing was asked.

        Raises:
            ValueError: it is not what the script answers.
        """
        values: list[Any] = _numbers_of(reply) if reply else [self._wire.seen_us]
        at_us = values[0]
        self._wire.seen_us = at_us
        answers: list[Answer | None] = []
        place = 1
        for number, known in enumerate(self._levels):
            if known is None:
                answers.append(Answer(at_us, [], failed=UNKNOWN_HOLD))
                continue
            status = values[place]
            place += 1
            if status == _DONE:
                standings = []
                for one in known:
                    wait, delay, remaining, reset = values[place : place + 4]
                    place += 4
                    standings.append(
                        Standing(wait, delay, remaining, reset, one.limit, one.window_ns)
                    )
            elif status == _DONE_OTHERWISE:
                standings = []
                for _ in known:
                    wait, delay, remaining, reset, limit, us, rest = values[place : place + 7]
                    place += 7
                    standings.append(
                        Standing(wait, delay, remaining, reset, limit, us * 1000 + rest)
                    )
            elif status == _AGAIN and self._wire.limits.learn(known, values[place]):
                place += 1
                self.again.append(number)
                answers.append(None)
                continue
            else:
                place += status == _AGAIN  # the settings that make no limit
                why = UNKNOWN_HOLD if status == _UNKNOWN_HOLD else UNREADABLE
                answers.append(Answer(at_us, [], failed=why))
                continue
            answer = Answer(at_us, standings)
            if self._kinds[number] == RENEW:
                answer.granted, answer.held, answer.again_ns, answer.outstanding = values[
                    place : place + 4
                ]
                place += 4
            answers.append(answer)
        return answers

    def read_list(self, reply: bytes, width: int) -> list[Any] | None:
        """What belongs to the only question, in pieces of so many values; None: it cannot be read."""
        values = _numbers_of(reply)
        self._wire.seen_us = values[0]
        status, *rest = values[1:]
        if status != _DONE:
            return None
        return [tuple(rest[place : place + width]) for place in range(1, len(rest), width)]

    def _add_recipe(self, known: KnownLimit) -> int:
        wire = self._wire
        self._recipes.append(known.sent(wire.seen_us))
        number = self._recipe_numbers[id(known)] = len(self._recipes)
        for recipe in known.formers:
            former = wire.limits.of_former(recipe)
            if former is not None:
                self._recipes.append(former.sent(wire.seen_us))
        return number


def _lease(lease: LeaseRequest) -> tuple[object, ...]:
    demand = lease.demand
    return (
        lease.node,
        lease.seq,
        lease.left,
        lease.back,
        min(lease.need, _MOST),
        min(lease.ahead, _MOST),
        min(float(demand), _MOST_DEMAND) if demand > 0 else 0.0,
        lease.ttl_us,
        lease.bound,
    )


def _numbers_of(reply: bytes) -> list[Any]:
    try:
        values = _decode(reply)
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(f"an answer that cannot be read: {error}") from error
    if not isinstance(values, list) or not values or not isinstance(values[0], int):
        raise ValueError("an answer that is no list of numbers")
    return values


def _bytes(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError:
        return key.encode("utf-8", "backslashreplace")
