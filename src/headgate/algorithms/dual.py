"""Two limits on one key that decide as one: a bucket for bursts AND a window for precision.

A cost passes when both parts admit it; then both are charged. When either refuses, neither is. The wait
is the least one after which both admit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from headgate.algorithms.base import Algorithm, checked
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["Dual"]


@final
class Dual(Algorithm):
    """A5: both parts pass, or nothing is consumed. State: the pair of the parts' states.

    Args:
        bucket: bounds bursts.
        window: bounds the count; its limit and window are those that decisions speak of.
    """

    def __init__(self, bucket: Algorithm, window: Algorithm) -> None:
        capacity = min(bucket.capacity, window.capacity)
        super().__init__(window.limit, window.window_ns, capacity, atomic=False)
        self._bucket = bucket
        self._window = window

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        bucket, window = _parts(state)
        at = now
        while True:
            wait = max(self._bucket.wait(bucket, cost, at), self._window.wait(window, cost, at))
            if wait == 0:
                return at - now
            # Once more from there: after the clock went back, a part may believe its state only then.
            at += wait

    def consume(self, state: object, cost: i64, now: i64) -> object:
        bucket, window = _parts(state)
        return (
            self._bucket.consume(bucket, cost, now),
            self._window.consume(window, cost, now),
        )

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        bucket, window = _parts(state)
        return (
            self._bucket.refund(bucket, cost, now, granted_at),
            self._window.refund(window, cost, now, granted_at),
        )

    def remaining(self, state: object, now: i64) -> i64:
        bucket, window = _parts(state)
        return min(self._bucket.remaining(bucket, now), self._window.remaining(window, now))

    def reset(self, state: object, now: i64) -> i64:
        bucket, window = _parts(state)
        return max(self._bucket.reset(bucket, now), self._window.reset(window, now))

    def used(self, state: object, now: i64) -> i64:
        """The window's count; what is left of the burst shows in `remaining`."""
        _, window = _parts(state)
        return self._window.used(window, now)

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        bucket, window = _parts(state)
        dumped = self._bucket.dump(bucket, wall_offset_ns)
        return [len(dumped), *dumped, *self._window.dump(window, wall_offset_ns)]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        if not values or not 0 <= values[0] < len(values):
            raise ValueError("a dumped pair starts with the length of its first part")
        end = values[0] + 1
        return (
            self._bucket.load(values[1:end], wall_offset_ns),
            self._window.load(values[end:], wall_offset_ns),
        )


def _parts(state: object) -> tuple[object, object]:
    if state is None:
        return (None, None)
    return cast("tuple[object, object]", state)
