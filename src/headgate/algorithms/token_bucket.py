"""Token bucket, kept as one timestamp per key.

The generic cell rate algorithm (GCRA; ITU-T I.371, annex A) in its virtual-scheduling form. One token
lasts one *emission interval* ``T = window / limit``. The state is the *theoretical arrival time* TAT:
the moment at which the bucket is full again. With ``b`` the capacity::

    tokens(now)   = b - (max(TAT, now) - now) / T
    cost c passes   iff   max(TAT, now) + c*T - now <= b*T
    spending it     TAT' = max(TAT, now) + c*T

Time is counted in ticks of ``1/k`` nanosecond, with ``k`` chosen so that T is a whole number of ticks
whenever ``limit / gcd(limit, window) <= 16``: 7/s and 1000/min are exact. For other limits T is rounded
up to the next tick, so that the bucket refills slower than asked by less than 1/16 ns per token and
never faster.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Final, cast, final

from headgate.algorithms.base import Algorithm
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["TokenBucket"]

_MAX_TICKS: Final = 16


def ticks_per_ns(limit: int, window_ns: int) -> int:
    """How finely a nanosecond is divided so that ``window / limit`` is whole, 16 at most."""
    return min(limit // gcd(limit, window_ns), _MAX_TICKS)


@final
class TokenBucket(Algorithm):
    """A1: ``limit`` tokens flow in per window, up to ``capacity``. State: TAT in ticks, an int."""

    def __init__(self, limit: int, window_ns: int, capacity: int) -> None:
        super().__init__(limit, window_ns, capacity)
        ticks = ticks_per_ns(limit, window_ns)
        interval = -(-window_ns * ticks // limit)
        self._ticks: i64 = ticks
        self._interval: i64 = interval
        self._span: i64 = interval * capacity

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        over = self._debt(state, now) + cost * self._interval - self._span
        if over <= 0:
            return 0
        return (over + self._ticks - 1) // self._ticks

    def consume(self, state: object, cost: i64, now: i64) -> object:
        return now * self._ticks + self._debt(state, now) + cost * self._interval

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        debt = self._debt(state, now)
        back = self._span
        if cost < self.capacity:
            back = cost * self._interval
        return now * self._ticks + max(0, debt - back)

    def remaining(self, state: object, now: i64) -> i64:
        return (self._span - self._debt(state, now)) // self._interval

    def reset(self, state: object, now: i64) -> i64:
        return (self._debt(state, now) + self._ticks - 1) // self._ticks

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        tat: i64 = cast("int", state)
        return [tat // self._ticks + wall_offset_ns, tat % self._ticks]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        whole, fraction = values
        tat: i64 = (whole - wall_offset_ns) * self._ticks + fraction
        return tat

    def _debt(self, state: object, now: i64) -> i64:
        """Ticks until the bucket is full: 0 when full, the span when empty.

        More than the span is only seen after the clock went back: then the bucket is empty, no worse.
        """
        if state is None:
            return 0
        tat: i64 = cast("int", state)
        debt = tat - now * self._ticks
        if debt <= 0:
            return 0
        if debt > self._span:
            return self._span
        return debt
