"""Where the periods of a time zone's calendar start and end, in seconds since the Unix epoch.

Periods follow one another without gap or overlap. A day starts at the first moment of its date, also
where the clocks skip midnight or pass it twice; a date that a zone skipped altogether has no length.
Weeks start on Monday. Hours have 60 minutes, except that one ends early where the clocks change by a
part of an hour.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, final
from zoneinfo import ZoneInfo

__all__ = ["Calendar"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400
_HOUR: Final = 3_600


@final
class Calendar:
    """One kind of period in one time zone.

    >>> start, end = Calendar("day", "Europe/Paris").bounds(1774749600)  # 2026-03-29, 03:00 there
    >>> (end - start) / 3600
    23.0

    Args:
        period: "hour", "day", "week", "month" or "year".
        tz: an IANA time zone.
    """

    def __init__(self, period: str, tz: str) -> None:
        self._period = period
        self._zone = ZoneInfo(tz)

    def bounds(self, second: int) -> tuple[int, int]:
        """The start and the end of the period that a moment lies in."""
        if self._period == "hour":
            return self._hour(second)
        day = self._first_day(self._local(second).date())
        start = self._start_of(day)
        day = self._next(day)
        end = self._start_of(day)
        while end <= second:  # the clocks went back past the start of this period
            start = end
            day = self._next(day)
            end = self._start_of(day)
        return start, end

    def _hour(self, second: int) -> tuple[int, int]:
        offset = self._offset(second)
        start = second - (second + offset) % _HOUR
        end = start + _HOUR
        if self._offset(start) != offset:
            start = self._jump(start, second)
        if self._offset(end - 1) != offset:
            end = self._jump(second, end - 1)
        return start, end

    def _first_day(self, day: date) -> date:
        """The first date of the period that a date lies in."""
        if self._period == "week":
            return day - timedelta(days=day.weekday())
        if self._period == "month":
            return day.replace(day=1)
        if self._period == "year":
            return day.replace(month=1, day=1)
        return day

    def _next(self, day: date) -> date:
        """The first date of the next period, from the first date of this one."""
        if self._period == "week":
            return day + timedelta(days=7)
        if self._period == "month":
            return (day + timedelta(days=31)).replace(day=1)
        if self._period == "year":
            return day.replace(year=day.year + 1)
        return day + timedelta(days=1)

    def _start_of(self, day: date) -> int:
        """The first second of a date."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        second = _seconds(midnight)
        if self._local(second).replace(tzinfo=None) == midnight.replace(tzinfo=None):
            return second
        # Midnight was skipped: the date starts where the clocks jump.
        return self._jump(_seconds(midnight.replace(fold=1)), second)

    def _jump(self, before: int, after: int) -> int:
        """The first second on the offset of ``after``; it differs from the one ``before``."""
        offset = self._offset(after)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                after = middle
            else:
                before = middle
        return after

    def _local(self, second: int) -> datetime:
        return (_EPOCH + timedelta(seconds=second)).astimezone(self._zone)

    def _offset(self, second: int) -> int:
        offset = self._local(second).utcoffset()
        return 0 if offset is None else offset.days * _DAY + offset.seconds


def _seconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return since.days * _DAY + since.seconds
