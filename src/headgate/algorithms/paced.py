"""A limit whose rate is turned up and down while it runs (A6).

It is the same algorithm on a clock of its own, which runs at a *pace* of so many thousandths of the real
one. What takes a second to come back at pace 1000 takes two at pace 500::

    own(now) = own0 + (now - now0) * pace / 1000        now0, own0: when the pace was last set

So a change costs the same for one key as for a million, and is exact: what a key has spent stays spent,
what it may still spend it keeps, and what comes back comes at the new rate from that moment on. Over any
interval no more is admitted than the algorithm would in ``interval * pace / 1000`` of its own time.

``limit`` speaks of the rate in force. A fixed window is no longer aligned to the wall once its pace was
another than 1000. Moments must be below ``2**57`` (four and a half years of uptime), since own time may run
twice as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.algorithms.base import Algorithm
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["EVEN", "Paced"]

EVEN: Final = 1000
"""The pace of real time."""


@final
class Paced(Algorithm):
    """An algorithm at another pace. State: that of the algorithm, in its own time.

    Args:
        inner: the algorithm; not one of the calendar, nor one of leases.
        now: own time is real time up to here, in nanoseconds.
    """

    def __init__(self, inner: Algorithm, now: i64) -> None:
        super().__init__(inner.limit, inner.window_ns, inner.capacity, atomic=inner.atomic)
        self._inner = inner
        self.pace: i64 = EVEN
        self._now_there: i64 = now
        self._own: i64 = now

    def set_pace(self, pace: i64, now: i64) -> None:
        """Go on at another pace, from 1 to 2000 thousandths.

        Harmless to repeat; and `dump` is off by what own time has strayed since it was last called.
        """
        self._own = self._at(now)
        self._now_there = now
        self.pace = pace
        self.limit = max(1, self._inner.limit * pace // EVEN)

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        wait = self._inner.wait(state, cost, self._at(now))
        if wait == NEVER:
            return NEVER
        return self._real_wait(wait, now)

    def delay(self, state: object, cost: i64, now: i64) -> i64:
        return self._real_wait(self._inner.delay(state, cost, self._at(now)), now)

    def consume(self, state: object, cost: i64, now: i64) -> object:
        return self._inner.consume(state, cost, self._at(now))

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        return self._inner.refund(state, cost, self._at(now), self._at(granted_at))

    def remaining(self, state: object, now: i64) -> i64:
        return self._inner.remaining(state, self._at(now))

    def reset(self, state: object, now: i64) -> i64:
        return self._real_wait(self._inner.reset(state, self._at(now)), now)

    def used(self, state: object, now: i64) -> i64:
        return self._inner.used(state, self._at(now))

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        return self._inner.dump(state, wall_offset_ns + self._now_there - self._own)

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        return self._inner.load(values, wall_offset_ns + self._now_there - self._own)

    @final
    def _at(self, now: i64) -> i64:
        """Own time. The product is taken in two parts, so that it fits into 64 bits."""
        if self.pace == EVEN:
            return max(0, self._own + now - self._now_there)
        since = now - self._now_there
        run = since // EVEN * self.pace + since % EVEN * self.pace // EVEN
        return max(0, self._own + run)

    @final
    def _real_wait(self, wait: i64, now: i64) -> i64:
        """The least real time in which so much own time passes."""
        if wait == 0 or self.pace == EVEN:
            return wait
        until = self._at(now) + wait
        real = wait // self.pace * EVEN + wait % self.pace * EVEN // self.pace
        while self._at(now + real) < until:
            real += 1
        while real > 0 and self._at(now + real - 1) >= until:
            real -= 1
        return real
