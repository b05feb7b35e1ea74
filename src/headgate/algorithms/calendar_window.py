"""Fixed window over the calendar: hours, days, weeks, months or years as a time zone counts them.

As `headgate.algorithms.fixed_window`, with windows of unequal length: a day of 23 or 25 hours when
the clocks change, a month of 28 to 31 days. `headgate.algorithms.calendar` says where they start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from headgate.algorithms.base import Algorithm, checked
from headgate.algorithms.calendar import Calendar
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["CalendarWindow"]

_SECOND: Final = 1_000_000_000
_QUARTER: Final = 900  # seconds; time zones differ by quarters of an hour, so windows start on them
_BEFORE_ORIGIN: Final = 2 * 366 * 96  # quarters: no window that the origin lies in started earlier


@final
class _Bounds:
    """The window that is current, and the one after it. Never altered once it is built."""

    def __init__(self, start: i64, end: i64, index: i64, next_end: i64, next_index: i64) -> None:
        self.start = start
        self.end = end
        self.index = index
        self.next_end = next_end
        self.next_index = next_index


@final
class CalendarWindow(Algorithm):
    """A3: at most ``limit`` in each calendar period. State: one packed int, ``index << bits | used``.

    The index of a window is the quarter of an hour in which it starts.

    Args:
        limit: the quota per period.
        window_ns: the nominal length of the period.
        period: "hour", "day", "week" (from Monday), "month" or "year".
        tz: an IANA time zone.
        wall_offset_ns: where the clock's origin lies on the wall.
    """

    def __init__(
        self, limit: int, window_ns: int, period: str, tz: str, wall_offset_ns: int = 0
    ) -> None:
        super().__init__(limit, window_ns, limit, atomic=False)
        self._calendar = Calendar(period, tz)
        self._offset: i64 = wall_offset_ns
        self._base: i64 = wall_offset_ns // (_QUARTER * _SECOND) - _BEFORE_ORIGIN
        self._bits: i64 = limit.bit_length()
        self._mask: i64 = (1 << limit.bit_length()) - 1
        self._bounds = self._find(0)

    def can_be_paced(self) -> bool:
        """A calendar knows but one time."""
        return False

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        packed = self._standing(state, now)
        if (packed & self._mask) + cost <= self.limit:
            return 0
        return self._end(packed, now) - now

    def consume(self, state: object, cost: i64, now: i64) -> object:
        return self._standing(state, now) + cost

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        packed = self._standing(state, now)
        bounds = self._at(now)
        if packed >> self._bits != bounds.index or not bounds.start <= granted_at < bounds.end:
            return packed
        return packed - min(cost, packed & self._mask)

    def remaining(self, state: object, now: i64) -> i64:
        return self.limit - (self._standing(state, now) & self._mask)

    def reset(self, state: object, now: i64) -> i64:
        packed = self._standing(state, now)
        if packed & self._mask == 0:
            return 0
        return self._end(packed, now) - now

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        packed: i64 = cast("int", state)
        quarter = (packed >> self._bits) + self._base
        return [quarter * _QUARTER * _SECOND, packed & self._mask]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        start, used = values
        if not 0 <= used <= self.limit:
            raise ValueError("a dumped window holds a count from 0 to the limit")
        wall: i64 = start
        index = wall // (_QUARTER * _SECOND) - self._base
        if index < 0:
            return 0
        packed: i64 = used
        return index << self._bits | packed

    def _standing(self, state: object, now: i64) -> i64:
        """The state as it stands now: of the current window, or of the next if the clock went back."""
        bounds = self._at(now)
        if state is not None:
            packed: i64 = cast("int", state)
            index = packed >> self._bits
            if index == bounds.index or index == bounds.next_index:
                return packed
        return bounds.index << self._bits

    def _end(self, packed: i64, now: i64) -> i64:
        """When the window of a state that stands is over."""
        bounds = self._at(now)
        if packed >> self._bits == bounds.index:
            return bounds.end
        return bounds.next_end

    def _at(self, now: i64) -> _Bounds:
        """The bounds around now. Finding them takes the calendar, so they are kept until they are over."""
        bounds = self._bounds
        if not bounds.start <= now < bounds.end:
            bounds = self._find(now)
            self._bounds = bounds
        return bounds

    def _find(self, now: i64) -> _Bounds:
        start, end = self._calendar.bounds((now + self._offset) // _SECOND)
        _, next_end = self._calendar.bounds(end)
        return _Bounds(
            start * _SECOND - self._offset,
            end * _SECOND - self._offset,
            start // _QUARTER - self._base,
            next_end * _SECOND - self._offset,
            end // _QUARTER - self._base,
        )
