"""Waiting for a turn: one line per key, first come, first served.

Whoever asks while others wait joins the end of the line, however little it asks for. The head of the
line alone looks at the limit, so a large cost cannot be starved by small ones that slip past it. A plain
``check`` does not wait and so does not queue: it takes what it finds.

A wait that is known to end too late fails at once. Known is when all those in front will have passed, if
nobody else spends: that is played through ahead of time. For a limit that holds permits nothing is
known, since one may be returned at any moment.

One `Lines` serves the threads and the tasks of a limiter alike. Leaving a line, for whatever reason,
wakes the next in it; so neither a timeout nor a cancellation holds up the others.
"""

from __future__ import annotations

import threading
from math import isnan
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.decision import Decision
from headgate.errors import InvalidInput, LineFull, RateLimited
from headgate.gates.forecast import Forecast
from headgate.gates.lines import Lines, TaskWaiter, ThreadWaiter, Waiter

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from headgate.gates.limiter import Limiter

__all__ = ["AsyncTurn", "Turn", "lines_of", "valid_timeout"]

_FOREVER: Final = 10 * 365 * 86_400.0
_making: Final = threading.Lock()
_W = TypeVar("_W", bound=Waiter)


def lines_of(limiter: Limiter) -> Lines:
    """The limiter's lines, made when they are first needed."""
    lines = limiter.lines
    if lines is None:
        with _making:
            lines = limiter.lines
            if lines is None:
                lines = limiter.lines = Lines()
    return lines


class _Quest:
    """One caller's way to its turn, without the waiting: that differs between threads and tasks."""

    __slots__ = (
        "_cost",
        "_deadline",
        "_granted_at",
        "_key",
        "_limiter",
        "_lines",
        "_served",
        "_waiter",
    )

    def __init__(self, limiter: Limiter, key: str, cost: int, timeout: float | None) -> None:
        self._limiter = limiter
        self._lines = lines_of(limiter)
        self._key = key
        self._cost = cost
        self._waiter: Waiter | None = None
        self._served = False
        self._granted_at = 0
        now = limiter.clock.now_ns()
        self._deadline = None if timeout is None else now + seconds_to_ns(timeout)

    def ask(self, kind: type[_W]) -> Decision | _W:
        """The turn, if it is there; else the place in line that was taken.

        Raises:
            RateLimited: the turn cannot come in time, or ever.
            LineFull: too many wait.
        """
        lines = self._lines
        with lines.lock:
            if lines.is_empty(self._key):
                decision = self._try()
                if decision.allowed:
                    return decision
            else:
                decision = self._behind_others()
            if self._remaining() == 0:
                raise RateLimited(decision, self._key)
            if not lines.has_room(self._key):
                raise LineFull(decision, self._key)
            waiter = kind(self._cost)
            self._waiter = waiter
            lines.join(self._key, waiter)
            return waiter

    def look(self) -> Decision | float | None:
        """From the line: the turn, or the seconds after which to look again; None: when woken."""
        remaining = self._remaining()
        with self._lines.lock:
            if self._waiter is None or not self._lines.is_head(self._key, self._waiter):
                if remaining == 0:
                    raise RateLimited(self._own_refusal(), self._key)
                return None if remaining is None else remaining / NS_PER_SECOND
            decision = self._try()
        if decision.allowed:
            self._served = True
            return decision
        if remaining == 0:
            raise RateLimited(decision, self._key)
        pause = decision.retry_after_ns
        if remaining is not None:
            pause = min(pause, remaining)
        return pause / NS_PER_SECOND

    def leave(self) -> None:
        """However it ended: the line goes on without this one."""
        if self._waiter is not None:
            self._lines.leave(self._key, self._waiter, served=self._served)
            self._waiter = None

    def give_back(self) -> None:
        """Return what was spent."""
        self._limiter.refund(self._key, self._cost, self._granted_at)

    def _try(self) -> Decision:
        """Ask the limit; raise when its answer means that the turn cannot come in time."""
        remaining = self._remaining()
        if remaining is not None and self._cost > 0:
            # An admitted caller of a queueing limit has to hold back, which may be for too long.
            seen = self._limiter.peek(self._key, self._cost)
            if seen.delay_ns > remaining:
                raise RateLimited(_refusal(seen, seen.delay_ns), self._key)
        decision = self._limiter.check(self._key, self._cost)
        self._granted_at = self._limiter.clock.now_ns()
        if decision.never_fits or self._is_late(decision.retry_after_ns):
            raise RateLimited(decision, self._key)
        return decision

    def _behind_others(self) -> Decision:
        """The refusal of one that stands behind others; raise when its turn is known to be too late."""
        decision = self._own_refusal()
        if self._deadline is None or self._limiter.holds_permits:
            return decision
        forecast = self._lines.forecast(self._key, self._forecast_from_now)
        known = forecast.proceeding(self._cost) - self._limiter.clock.now_ns()
        decision = _refusal(decision, known)
        if self._is_late(known):
            raise RateLimited(decision, self._key)
        return decision

    def _own_refusal(self) -> Decision:
        """What the limit says, if nobody stood in front; raise when it can never pass."""
        own = self._limiter.peek(self._key, self._cost)
        if own.never_fits:
            raise RateLimited(own, self._key)
        return _refusal(own, own.retry_after_ns)

    def _forecast_from_now(self) -> Forecast:
        return Forecast(self._limiter.limits(self._key), self._limiter.clock.now_ns())

    def _is_late(self, wait: int) -> bool:
        remaining = self._remaining()
        return remaining is not None and wait > remaining and not self._limiter.holds_permits

    def _remaining(self) -> int | None:
        if self._deadline is None:
            return None
        return max(0, self._deadline - self._limiter.clock.now_ns())


@final
class Turn:
    """``with limiter.acquire(key): ...`` waits here, and holds a permit until the end of the block.

    Entering returns the decision. A turn is used once; the next needs another ``acquire``.
    """

    __slots__ = ("_cost", "_key", "_limiter", "_quest", "_timeout")

    def __init__(self, limiter: Limiter, key: str, cost: int, timeout: float | None) -> None:
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._timeout = valid_timeout(timeout)
        self._quest: _Quest | None = None

    def __enter__(self) -> Decision:
        quest = _Quest(self._limiter, self._key, self._cost, self._timeout)
        try:
            answer = self._take(quest)
        finally:
            quest.leave()
        if answer.delay_ns > 0:
            try:
                self._limiter.clock.sleep(answer.delay)
            except BaseException:
                quest.give_back()
                raise
        self._quest = quest
        return answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        quest, self._quest = self._quest, None
        if quest is not None and self._limiter.holds_permits:
            quest.give_back()

    def _take(self, quest: _Quest) -> Decision:
        place = quest.ask(ThreadWaiter)
        if isinstance(place, Decision):
            return place
        while True:
            answer = quest.look()
            if isinstance(answer, Decision):
                return answer
            place.pause(self._limiter.clock, answer)


@final
class AsyncTurn:
    """``async with limiter.acquire(key): ...``; the twin of `Turn` for tasks.

    ``await limiter.acquire(key)`` takes the turn alone; a permit is then held until it expires.
    """

    __slots__ = ("_cost", "_key", "_limiter", "_quest", "_timeout")

    def __init__(self, limiter: Limiter, key: str, cost: int, timeout: float | None) -> None:
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._timeout = valid_timeout(timeout)
        self._quest: _Quest | None = None

    def __await__(self) -> Generator[Any, None, Decision]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Decision:
        quest = _Quest(self._limiter, self._key, self._cost, self._timeout)
        try:
            answer = await self._take(quest)
        finally:
            quest.leave()
        if answer.delay_ns > 0:
            try:
                await self._limiter.clock.sleep_async(answer.delay)
            except BaseException:
                quest.give_back()
                raise
        self._quest = quest
        return answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        quest, self._quest = self._quest, None
        if quest is not None and self._limiter.holds_permits:
            quest.give_back()

    async def _take(self, quest: _Quest) -> Decision:
        place = quest.ask(TaskWaiter)
        if isinstance(place, Decision):
            return place
        while True:
            answer = quest.look()
            if isinstance(answer, Decision):
                return answer
            await place.pause(self._limiter.clock, answer)


def _refusal(decision: Decision, wait: int) -> Decision:
    """The same answer as a "no" for so long."""
    return Decision(
        False,
        decision.limit,
        decision.remaining,
        max(1, wait),
        decision.reset_after_ns,
        0,
        decision.policy,
        decision.window_ns,
        decision.levels,
    )


def valid_timeout(timeout: float | None) -> float | None:
    """Seconds to wait at most; None for ever, which more than ten years are too."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or isnan(timeout) or timeout < 0:
        raise InvalidInput(
            f"timeout must be >= 0 seconds, got {timeout!r}; leave it out to wait for ever"
        )
    return timeout if timeout < _FOREVER else None
