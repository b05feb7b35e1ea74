"""Shared counters that live in several places, none of which can be asked about another in one step.

A question whose levels live in one place is one step there. Otherwise:

- `CHECK`: all places are asked at the same time to *reserve* under a name made up for this question. If all
  admit, all reservations are *confirmed*, and then the answer is yes. If one refuses, the answer is no, and
  the others are *cancelled*. If of one nothing is known, so is of the question, and all are cancelled.
- A reservation has a name, so cancelling one that was never made does nothing, and may be said as often as it
  takes. It also has an end: what nobody confirms or cancels is released, at the latest after `HOLD_NS`.
- So nothing stays half spent for longer than that, whoever dies; see docs/adr/0096.
- `RESERVE` and `SETTLE` work the same way under the caller's own name. Where the parts are is noted in the
  place of the name.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.coordination.counter_places import CANCEL, CONFIRM, HOLD_NS
from headgate.engine.counters import (
    CHECK,
    RESERVE,
    SETTLE,
    UNKNOWN_HOLD,
    Answer,
    Question,
    Standing,
)
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headgate.clock import Clock
    from headgate.coordination.counter_places import Places
    from headgate.engine.counters import Counter

__all__ = ["SpreadCounters"]

_log = logging.getLogger("headgate.coordination")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_MOST_REMEMBERED: Final = 100_000


@final
class _Split:
    """A question, and where each of its levels lives."""

    __slots__ = ("at", "granted_at", "hold", "parts", "question")

    def __init__(
        self,
        question: Question,
        where: Sequence[int],
        hold: str,
        granted_at: Mapping[tuple[int, int], int],
    ) -> None:
        self.question = question
        self.hold = hold
        self.granted_at = granted_at
        self.parts: dict[int, list[int]] = {}
        for level, place in enumerate(where):
            self.parts.setdefault(place, []).append(level)
        self.at: dict[int, int] = {}

    @property
    def is_tentative(self) -> bool:
        """Whether it is a `CHECK` that has to be reserved first."""
        return self.question.kind == CHECK and len(self.parts) > 1 and self.question.cost > 0

    def step(self, place: int, kind: int) -> Question:
        """What one place is asked."""
        question = self.question
        levels = [question.levels[level] for level in self.parts[place]] if question.levels else []
        if kind in (CONFIRM, CANCEL):
            return Question(kind, levels, question.cost, hold=self.hold)
        if self.is_tentative:
            return Question(RESERVE, levels, question.cost, hold=self.hold, ttl_us=HOLD_NS // 1000)
        return Question(
            kind,
            levels,
            question.cost,
            self.granted_at.get((place, question.granted_at_us), question.granted_at_us),
            question.lease,
            question.hold,
            question.ttl_us,
        )


@final
class _Round:
    """What all places are asked at the same time."""

    def __init__(self) -> None:
        self._asked: dict[int, list[Question]] = {}
        self._answers: Mapping[int, Sequence[Answer | None]] = {}

    def add(self, place: int, question: Question) -> int:
        """Its number among the questions to this place."""
        line = self._asked.setdefault(place, [])
        line.append(question)
        return len(line) - 1

    def add_all(self, split: _Split, kind: int) -> None:
        for place in split.parts:
            split.at[place] = self.add(place, split.step(place, kind))

    async def go(self, places: Places) -> None:
        if self._asked:
            self._answers = await places.ask(self._asked)

    def answer(self, place: int, number: int) -> Answer | None:
        return self._answers[place][number]

    def answers(self, split: _Split) -> dict[int, Answer | None]:
        return {place: self.answer(place, split.at[place]) for place in split.parts}


@final
class SpreadCounters:
    """A store of counters over several places.

    Args:
        places: where they live.
        clock: for pauses, and for when to give up.

    Attributes:
        split: questions so far whose levels lived in several places.
        cancelled: of those, the ones that were refused or failed, so that parts had to be given back.
        abandoned: steps that nobody answered until their hold was over, and which it has ended therefore.
    """

    def __init__(self, places: Places, clock: Clock | None = None) -> None:
        self._places = places
        self._clock = SystemClock() if clock is None else clock
        self._run = secrets.token_hex(8)
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # (place, the moment that an answer gave) -> when it was granted there; see `_remember`.
        self._granted_at: dict[tuple[int, int], int] = {}
        self.split = 0
        self.cancelled = 0
        self.abandoned = 0

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer | None]:
        """See `CounterStore`."""
        found = await self._find(questions)
        splits = [self._split_up(question, found) for question in questions]
        round_one = _Round()
        for split in splits:
            if split is not None:
                round_one.add_all(split, split.question.kind)
        try:
            noted, _ = await asyncio.gather(self._note(splits), round_one.go(self._places))
        except BaseException:
            self._cancel_all(split for split in splits if split is not None)
            raise
        answers = [
            self._unlocated(question, found)
            if split is None
            else self._conclude(split, round_one.answers(split), noted)
            for question, split in zip(questions, splits, strict=True)
        ]
        await self._confirm(
            split
            for split, answer in zip(splits, answers, strict=True)
            if split is not None and split.is_tentative and answer is not None and _passes(answer)
        )
        if answers and all(answer is None for answer in answers):
            raise StoreUnavailable(
                "the store of shared counters did not answer: no place of it did"
            )
        return answers

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """See `CounterStore`."""
        return await self._places.leases(counter, key)

    async def release_expired(self, most: int = 256) -> int:
        """See `CounterStore`."""
        return await self._places.release_expired(most)

    async def ping(self) -> None:
        """See `CounterStore`."""
        await self._places.ping()

    async def close(self) -> None:
        """See `CounterStore`. What is still to be cancelled is released when its time is over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._places.close()

    # Before the first round ----------------------------------------------------------------------

    async def _find(self, questions: Sequence[Question]) -> dict[str, Sequence[int] | None]:
        holds = [question.hold for question in questions if question.kind == SETTLE]
        return await self._places.find(holds) if holds else {}

    def _split_up(
        self, question: Question, found: Mapping[str, Sequence[int] | None]
    ) -> _Split | None:
        """None for a `SETTLE` of a hold that is nowhere, or nobody knows where."""
        if question.kind == SETTLE:
            where = found.get(question.hold)
            return _Split(question, where, question.hold, {}) if where else None
        places = [self._places.place_of(key) for _, key in question.levels]
        hold = question.hold
        split = _Split(question, places, hold, self._granted_at)
        if len(split.parts) > 1:
            self.split += 1
            if split.is_tentative:
                self._number += 1
                split.hold = f"{self._run}.{self._number}"
        return split

    async def _note(self, splits: Iterable[_Split | None]) -> set[str]:
        holds = {
            split.question.hold: (_places_by_level(split), split.question.ttl_us)
            for split in splits
            if split is not None and split.question.kind == RESERVE
        }
        return await self._places.note(holds) if holds else set()

    # After it ------------------------------------------------------------------------------------

    def _unlocated(
        self, question: Question, found: Mapping[str, Sequence[int] | None]
    ) -> Answer | None:
        """Of a `SETTLE` whose hold is not noted, or of which that cannot be found out."""
        if question.hold not in found:
            return None
        return Answer(0, [], failed=UNKNOWN_HOLD)

    def _conclude(
        self, split: _Split, parts: Mapping[int, Answer | None], noted: set[str]
    ) -> Answer | None:
        known = {place: part for place, part in parts.items() if part is not None}
        kind = split.question.kind
        holds = split.is_tentative or kind == RESERVE
        is_lost = len(known) < len(parts) or (kind == RESERVE and split.question.hold not in noted)
        if is_lost:
            if holds:
                self._cancel_all([split])
            return None
        if len(known) == 1:
            (part,) = known.values()
            return part
        admitted = [place for place, part in known.items() if _passes(part)]
        if holds and admitted and len(admitted) < len(known):
            for place in admitted:
                for standing in known[place].standings:
                    standing.remaining += split.question.cost  # it is about to be given back
            self._cancel(split, admitted)
        answer = _combined(split, known)
        if kind == CHECK and len(admitted) == len(known):
            self._remember(known, answer.at_us)
        return answer

    def _remember(self, parts: Mapping[int, Answer], at_us: int) -> None:
        """An answer gives one moment, and each place granted at its own: a refund must name that one."""
        granted_at = self._granted_at
        for place, part in parts.items():
            if part.at_us != at_us:
                granted_at[(place, at_us)] = part.at_us
        while len(granted_at) > _MOST_REMEMBERED:
            del granted_at[next(iter(granted_at))]

    async def _confirm(self, splits: Iterable[_Split]) -> None:
        """All have admitted it. What cannot be confirmed now is confirmed later."""
        confirmed = list(splits)
        if not confirmed:
            return
        round_two = _Round()
        for split in confirmed:
            round_two.add_all(split, CONFIRM)
        try:
            await round_two.go(self._places)
        except BaseException:
            self._cancel_all(confirmed)
            raise
        steps = [
            (place, split.step(place, CONFIRM))
            for split in confirmed
            for place, part in round_two.answers(split).items()
            if part is None
        ]
        self._later(steps)

    def _cancel_all(self, splits: Iterable[_Split]) -> None:
        for split in splits:
            if split.is_tentative or split.question.kind == RESERVE:
                self._cancel(split, split.parts)

    def _cancel(self, split: _Split, places: Iterable[int]) -> None:
        self.cancelled += 1
        self._later([(place, split.step(place, CANCEL)) for place in places])

    # Steps that nobody waits for -----------------------------------------------------------------

    def _later(self, steps: list[tuple[int, Question]]) -> None:
        if steps:
            task = asyncio.get_running_loop().create_task(self._carry_out(steps))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, steps: list[tuple[int, Question]]) -> None:
        """Until all are answered, or their holds have ended by themselves."""
        until = self._clock.now_ns() + HOLD_NS
        pause = _FIRST_PAUSE
        while True:
            steps = await self._try(steps)
            if not steps:
                return
            if self._clock.now_ns() >= until:
                break
            await self._clock.sleep_async(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)
        self.abandoned += len(steps)
        _log.warning(
            "%d reservations could not be ended within %g s; each has ended by itself, or will when its "
            "server is back",
            len(steps),
            HOLD_NS / NS_PER_SECOND,
        )

    async def _try(self, steps: list[tuple[int, Question]]) -> list[tuple[int, Question]]:
        """The steps that were not answered."""
        again = _Round()
        numbers = [again.add(place, question) for place, question in steps]
        await again.go(self._places)
        return [
            step
            for step, number in zip(steps, numbers, strict=True)
            if again.answer(step[0], number) is None
        ]


def _places_by_level(split: _Split) -> list[int]:
    found = [0] * len(split.question.levels)
    for place, levels in split.parts.items():
        for level in levels:
            found[level] = place
    return found


def _at_us(parts: Mapping[int, Answer]) -> int:
    """The earliest: a refund that names it, elsewhere, gives back too little at worst, never too much."""
    return min(part.at_us for part in parts.values())


def _combined(split: _Split, parts: Mapping[int, Answer]) -> Answer:
    for part in parts.values():
        if part.failed:
            return Answer(_at_us(parts), [], failed=part.failed)
    count = sum(len(levels) for levels in split.parts.values())
    standings: list[Standing | None] = [None] * count
    for place, levels in split.parts.items():
        for level, standing in zip(levels, parts[place].standings, strict=True):
            standings[level] = standing
    return Answer(_at_us(parts), [standing for standing in standings if standing is not None])


def _passes(answer: Answer) -> bool:
    return not answer.failed and all(standing.wait_ns == 0 for standing in answer.standings)
