"""The arithmetic of buckets that fill or drain at a constant rate: one timestamp per key.

The generic cell rate algorithm (GCRA; ITU-T I.371, annex A) in its virtual-scheduling form. One token
lasts one *emission interval* ``T = window / limit``. The state is the *theoretical arrival time* TAT:
the moment at which the key has its whole allowance back. ``span`` is how far TAT may lie ahead::

    debt(now)     = max(TAT, now) - now
    cost c passes   iff   debt(now) + c*T <= span
    spending it     TAT' = now + debt(now) + c*T

Time is counted in ticks of ``1/k`` nanosecond, with ``k`` chosen so that T is a whole number of ticks
whenever ``limit / gcd(limit, window) <= 16``: 7/s and 1000/min are exact. For other limits T is rounded
up to the next tick, so that tokens come back slower than asked by less than 1/16 ns each and never
faster.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Final, cast, final

from headgate.algorithms.base import Algorithm, checked
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["Gcra"]

_MAX_TICKS: Final = 16


class Gcra(Algorithm):
    """What `TokenBucket` and the leaky buckets share. State: TAT in ticks, an int."""

    def __init__(self, limit: int, window_ns: int, capacity: int) -> None:
        super().__init__(limit, window_ns, capacity, atomic=True)
        # How finely a nanosecond is divided so that the interval is whole, if 16 parts are enough.
        ticks = min(limit // gcd(limit, window_ns), _MAX_TICKS)
        self._ticks: i64 = ticks
        interval = -(-window_ns * ticks // limit)
        self._interval: i64 = interval
        self._span: i64 = interval * capacity
        # How far ahead of now a full key is believed (see base), and how long a grant can be refunded.
        self._reach: i64 = max(window_ns * ticks, interval * capacity)

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        over = self._debt(state, now) + cost * self._interval - self._span
        if over <= 0 or cost == 0:
            return 0
        return (over + self._ticks - 1) // self._ticks

    def consume(self, state: object, cost: i64, now: i64) -> object:
        return now * self._ticks + self._debt(state, now) + cost * self._interval

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        debt = self._debt(state, now)
        if (now - granted_at) * self._ticks >= self._reach:
            return now * self._ticks + debt
        back = self._span
        if cost < self.capacity:
            back = cost * self._interval
        return now * self._ticks + max(0, debt - back)

    def remaining(self, state: object, now: i64) -> i64:
        left = self._span - self._debt(state, now)
        if left <= 0:
            return 0
        return left // self._interval

    def reset(self, state: object, now: i64) -> i64:
        return (self._debt(state, now) + self._ticks - 1) // self._ticks

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        tat: i64 = cast("int", state)
        return [tat // self._ticks + wall_offset_ns, tat % self._ticks]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        whole, fraction = values
        if not 0 <= fraction < self._ticks:
            raise ValueError("a dumped bucket ends with its part of a nanosecond")
        since: i64 = whole - wall_offset_ns
        if since >= 2**59:
            raise ValueError("a dumped bucket must fill within the life of the clock")
        if since < 0:
            return 0
        return since * self._ticks + fraction

    @final
    def _debt(self, state: object, now: i64) -> i64:
        """Ticks until the whole allowance is back; above the span only after the clock went back."""
        if state is None:
            return 0
        tat: i64 = cast("int", state)
        debt = tat - now * self._ticks
        if debt <= 0 or debt - self._span > self._reach:
            return 0
        return debt
