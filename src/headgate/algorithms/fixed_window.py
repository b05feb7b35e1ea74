"""Fixed window: a count that starts anew at every full window of the wall clock.

Windows are aligned to the Unix epoch: with a window of one minute they start at full minutes (UTC).
Within one window at most ``limit`` are admitted. Around a boundary up to ``2 * limit`` can pass in a
short time; where that matters, choose a sliding window.

The state packs the window's index and its count into one int: ``index << bits | used``. Indices count
from the window that the clock's origin lies in, so that the int stays within 64 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from headgate.algorithms.base import Algorithm, checked
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["FixedWindow"]


@final
class FixedWindow(Algorithm):
    """A3: at most ``limit`` in each window of the wall clock. State: one packed int.

    Args:
        limit: the quota per window.
        window_ns: the window.
        wall_offset_ns: where the clock's origin lies on the wall.
    """

    def __init__(self, limit: int, window_ns: int, wall_offset_ns: int = 0) -> None:
        super().__init__(limit, window_ns, limit, atomic=True)
        self._phase: i64 = wall_offset_ns % window_ns
        self._bits: i64 = limit.bit_length()
        self._mask: i64 = (1 << limit.bit_length()) - 1

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        packed = self._standing(state, now)
        if (packed & self._mask) + cost <= self.limit:
            return 0
        return self._end(packed) - now

    def consume(self, state: object, cost: i64, now: i64) -> object:
        return self._standing(state, now) + cost

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        packed = self._standing(state, now)
        if (granted_at + self._phase) // self.window_ns != packed >> self._bits:
            return packed
        return packed - min(cost, packed & self._mask)

    def remaining(self, state: object, now: i64) -> i64:
        return self.limit - (self._standing(state, now) & self._mask)

    def reset(self, state: object, now: i64) -> i64:
        packed = self._standing(state, now)
        if packed & self._mask == 0:
            return 0
        return self._end(packed) - now

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        packed: i64 = cast("int", state)
        start = (packed >> self._bits) * self.window_ns - self._phase
        return [start + wall_offset_ns, packed & self._mask]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        start, used = values
        if not 0 <= used <= self.limit:
            raise ValueError("a dumped window holds a count from 0 to the limit")
        since: i64 = start - wall_offset_ns
        if since >= 2**59:
            raise ValueError("a dumped window must start within the life of the clock")
        index = (since + self._phase) // self.window_ns
        if index < 0:
            return 0
        packed: i64 = used
        return index << self._bits | packed

    def _standing(self, state: object, now: i64) -> i64:
        """The state as it stands now: of the current window, or of the next if the clock went back."""
        current = (now + self._phase) // self.window_ns
        if state is not None:
            packed: i64 = cast("int", state)
            ahead = (packed >> self._bits) - current
            if ahead == 0 or ahead == 1:
                return packed
        return current << self._bits

    def _end(self, packed: i64) -> i64:
        """When the window of a state is over."""
        return ((packed >> self._bits) + 1) * self.window_ns - self._phase
