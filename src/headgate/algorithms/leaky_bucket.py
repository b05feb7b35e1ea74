"""Leaky bucket, both kinds (J. Turner, 1986): water comes in by requests and leaks out at a rate.

The level is the debt of `headgate.algorithms.gcra` in tokens: ``level(now) = (max(TAT, now) - now) / T``.

As a *meter*, a request pours in its cost and is refused when the bucket would run over::

    cost c passes   iff   level(now) + c <= capacity

which is the token bucket seen from the other side (``tokens = capacity - level``): same answers.

As a *queue*, what is in the bucket is waiting, and leaves it one token every T: the output is smooth.
An admitted request is told to hold back until all that was there before it has left::

    delay           = level(now) * T
    cost c passes   iff   its last token need not wait longer than max_delay:
                          (level(now) + c - 1) * T <= max_delay

Without a ``max_delay`` the queue holds ``capacity`` tokens, the one at its head included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.algorithms.gcra import Gcra

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["LeakyBucketMeter", "LeakyBucketQueue"]


@final
class LeakyBucketMeter(Gcra):
    """A4: refuses what would make the bucket run over. State: when it is empty, in ticks, an int."""


@final
class LeakyBucketQueue(Gcra):
    """A4: delays what comes too fast, and refuses what would wait too long. State: as the meter.

    Args:
        limit: tokens that leave the queue per window.
        window_ns: that window.
        capacity: the tokens that the queue holds; not used with ``max_delay_ns``.
        max_delay_ns: the longest that an admitted token may wait, in nanoseconds.
    """

    def __init__(
        self, limit: int, window_ns: int, capacity: int, max_delay_ns: int | None = None
    ) -> None:
        super().__init__(limit, window_ns, capacity)
        if max_delay_ns is not None:
            self._span = max_delay_ns * self._ticks + self._interval
            self.capacity = self._span // self._interval
            self._reach = max(window_ns * self._ticks, self._span)

    def delay(self, state: object, cost: i64, now: i64) -> i64:
        return (self._debt(state, now) + self._ticks - 1) // self._ticks
