"""How much, over what time: the rate that every limit is built from.

The text form is the one that the Python world writes, the grammar of the ``limits`` library included::

    100/minute    100 per minute    10/2 hours    10/s burst 20    1000/day tz=Europe/Paris
    5/second;100/minute            several, separated by one of ; , |

Units: ns, us, ms, s (sec, second), m (min, minute), h (hr, hour), d (day), w (week), mo (month),
y (year), singular or plural, in any case. A month is 30 days and a year 365 days, unless a time zone
makes them the calendar's own. The bounds keep all arithmetic of the algorithms inside 64 bits.
"""

from __future__ import annotations

import re
from operator import index
from typing import Final, SupportsIndex, final

from headgate.errors import InvalidRate

__all__ = ["MAX_LIMIT", "MAX_WINDOW_NS", "MIN_WINDOW_NS", "Rate", "parse_rates", "parse_window"]

MAX_LIMIT: Final = 10**12
MIN_WINDOW_NS: Final = 1_000
MAX_WINDOW_NS: Final = 5 * 365 * 86_400 * 10**9

_SECOND: Final = 10**9
_DAY: Final = 86_400 * _SECOND
_PERIODS: Final = {
    "second": _SECOND,
    "minute": 60 * _SECOND,
    "hour": 3_600 * _SECOND,
    "day": _DAY,
    "week": 7 * _DAY,
    "month": 30 * _DAY,
    "year": 365 * _DAY,
}
_PERIOD_OF: Final = {window: period for period, window in _PERIODS.items()}
_ZONED: Final = ("hour", "day", "week", "month", "year")
_SPELLINGS: Final = (
    ("ns nanosecond nanoseconds", 1),
    ("us usec microsecond microseconds", 1_000),
    ("ms msec millisecond milliseconds", 1_000_000),
    ("s sec secs second seconds", _SECOND),
    ("m min mins minute minutes", 60 * _SECOND),
    ("h hr hrs hour hours", 3_600 * _SECOND),
    ("d day days", _DAY),
    ("w wk wks week weeks", 7 * _DAY),
    ("mo mon month months", 30 * _DAY),
    ("y yr yrs year years", 365 * _DAY),
)
_UNIT_OF: Final = {word: unit_ns for words, unit_ns in _SPELLINGS for word in words.split()}
_WRITTEN: Final = {  # how windows that are not one period are written, largest unit first
    "days": _DAY,
    "hours": 3_600 * _SECOND,
    "minutes": 60 * _SECOND,
    "seconds": _SECOND,
    "ms": 1_000_000,
    "us": 1_000,
}

_MAX_TEXT: Final = 256
_MAX_DIGITS: Final = 20
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_RATE: Final = re.compile(
    rf"\s*([0-9]+)\s*(?:/|per)\s*({_NUMBER})?\s*([a-z]+)(?:\s+(\S.*?))?\s*",
    re.IGNORECASE | re.ASCII,
)
_WINDOW: Final = re.compile(rf"\s*({_NUMBER})?\s*([a-z]+)?\s*", re.IGNORECASE | re.ASCII)
_BURST: Final = re.compile(r"burst\s*=?\s*([0-9]+)(?:\s+|$)", re.IGNORECASE | re.ASCII)
_TZ: Final = re.compile(r"tz\s*=\s*(\S+)(?:\s+|$)", re.IGNORECASE | re.ASCII)
_ODD_LIMIT: Final = re.compile(
    r"\s*([-+]?(?:[0-9_]*\.[0-9]+|[0-9]+|nan|inf(?:inity)?))\s*(?:/|per)", re.IGNORECASE | re.ASCII
)
_SEPARATORS: Final = re.compile(r"[;,|]")


@final
class Rate:
    """A quota over a window, with an optional burst and an optional calendar. Immutable.

    >>> Rate.parse("10/s burst 20")
    Rate.parse('10/second burst 20')
    >>> Rate.per_minute(100).window_ns
    60000000000

    Args:
        limit: the quota, 1 to 10**12, and at most one per nanosecond of the window.
        window_ns: what it is counted over, in nanoseconds, from a microsecond to five years.
        burst: the most that may be spent at once; the limit when left out.
        period: the name of the window; found from ``window_ns``, so it may be left out.
        tz: an IANA time zone: the window is then the calendar's hour, day, week, month or year there.

    Raises:
        InvalidRate: what is asked for is out of bounds.
    """

    def __init__(
        self,
        limit: SupportsIndex,
        window_ns: SupportsIndex,
        burst: SupportsIndex | None = None,
        period: str | None = None,
        tz: str | None = None,
    ) -> None:
        self._limit = _bounded("limit", limit)
        self._window_ns = _window(window_ns)
        self._burst = None if burst is None else _bounded("burst", burst)
        self._period = _PERIOD_OF.get(self._window_ns)
        if period is not None and period != self._period:
            raise InvalidRate(f"period must name the window, got {_shown(period)}; leave it out")
        self._tz = None if tz is None else _zone(tz, self._period)
        self._check_density()

    @property
    def limit(self) -> int:
        """The quota per window."""
        return self._limit

    @property
    def window_ns(self) -> int:
        """The window in nanoseconds; for a calendar month or year, its nominal length."""
        return self._window_ns

    @property
    def burst(self) -> int | None:
        """The most that may be spent at once, if it was set."""
        return self._burst

    @property
    def period(self) -> str | None:
        """The window's name when it is exactly one second, minute, hour, day, week, month or year."""
        return self._period

    @property
    def tz(self) -> str | None:
        """The time zone whose calendar the window follows, if any."""
        return self._tz

    @property
    def capacity(self) -> int:
        """The burst, or the limit when there is none."""
        return self._limit if self._burst is None else self._burst

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read one rate.

        Raises:
            InvalidRate: it cannot be read, or is out of bounds.
        """
        if len(text) > _MAX_TEXT:
            raise InvalidRate(f"a rate must have at most {_MAX_TEXT} characters, got {len(text)}")
        found = _RATE.fullmatch(text)
        if found is None:
            raise _unreadable(text)
        limit, count, unit, options = found.groups()
        burst, tz = _options(options or "", text)
        window_ns = _times(count, _unit(unit))
        if tz is not None and count is not None and _times(count, 1) != 1:
            raise InvalidRate(
                f"a time zone needs exactly one calendar period, got {_shown(text)}; "
                "write it like '1000/day tz=Europe/Paris'"
            )
        return Rate(_integer("limit", limit), window_ns, burst, None, tz)

    @classmethod
    def per_second(cls, limit: SupportsIndex, burst: SupportsIndex | None = None) -> Rate:
        """So many per second."""
        return Rate(limit, _SECOND, burst)

    @classmethod
    def per_minute(cls, limit: SupportsIndex, burst: SupportsIndex | None = None) -> Rate:
        """So many per minute."""
        return Rate(limit, 60 * _SECOND, burst)

    @classmethod
    def per_hour(cls, limit: SupportsIndex, burst: SupportsIndex | None = None) -> Rate:
        """So many per hour."""
        return Rate(limit, 3_600 * _SECOND, burst)

    @classmethod
    def per_day(cls, limit: SupportsIndex, burst: SupportsIndex | None = None) -> Rate:
        """So many per 24 hours."""
        return Rate(limit, _DAY, burst)

    def __str__(self) -> str:
        """The canonical text; `parse` reads it back to an equal rate."""
        text = f"{self._limit}/{self._period or _written(self._window_ns)}"
        if self._burst is not None:
            text += f" burst {self._burst}"
        if self._tz is not None:
            text += f" tz={self._tz}"
        return text

    def __repr__(self) -> str:
        return f"Rate.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rate):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> tuple[object, ...]:
        return (Rate, self._fields())

    def _fields(self) -> tuple[object, ...]:
        return (self._limit, self._window_ns, self._burst, self._period, self._tz)

    def _check_density(self) -> None:
        if self._limit > self._window_ns:
            raise InvalidRate(
                f"a rate must be at most one per nanosecond, got {self._limit} per {self._window_ns} ns; "
                "use a longer window or a lower limit"
            )
        if self.capacity * self._window_ns > MAX_WINDOW_NS * self._limit:
            raise InvalidRate(
                f"a burst must refill within five years, got {self.capacity} at {self._limit} per "
                f"{_written(self._window_ns)}; use a smaller burst or a higher limit"
            )


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Read one or more rates, separated by one of ``; , |``.

    >>> [str(rate) for rate in parse_rates("5/second; 100 per 2 minutes")]
    ['5/second', '100/2 minutes']

    Raises:
        InvalidRate: one of them cannot be read, or is out of bounds.
    """
    return tuple(Rate.parse(part) for part in _SEPARATORS.split(text))


def parse_window(value: object) -> tuple[int, str | None]:
    """A window as nanoseconds, and its period when it is exactly one.

    Takes text such as ``"1m"``, ``"500ms"``, ``"2 hours"``, ``"day"``, or a number of seconds.

    >>> parse_window("1m")
    (60000000000, 'minute')
    >>> parse_window(1.5)
    (1500000000, None)

    Raises:
        InvalidRate: it cannot be read, or is out of bounds.
    """
    if isinstance(value, str):
        window_ns = _window(_read_window(value))
    elif isinstance(value, float):
        window_ns = _window(_seconds(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        window_ns = _window(value * _SECOND)
    else:
        raise InvalidRate(f"a window must be text ('1m') or seconds, got {_shown(value)}")
    return window_ns, _PERIOD_OF.get(window_ns)


def _read_window(text: str) -> int:
    found = _WINDOW.fullmatch(text) if len(text) <= _MAX_TEXT else None
    count, unit = found.groups() if found is not None else (None, None)
    if count is None and unit is None:
        raise InvalidRate(f"cannot read {_shown(text)} as a window; write it like '30s' or '1m'")
    return _times(count, _SECOND if unit is None else _unit(unit))


def _seconds(value: float) -> int:
    """Seconds as nanoseconds; what is out of any bounds becomes a number that `_window` refuses."""
    if 0 < value <= MAX_WINDOW_NS:
        return round(value * _SECOND)
    if value > 0:
        return MAX_WINDOW_NS + 1
    return 0  # NaN too: it compares with nothing


def _times(count: str | None, unit_ns: int) -> int:
    """``count`` units in nanoseconds, exactly; `count` is plain decimal text."""
    if count is None:
        return unit_ns
    whole, _, fraction = count.partition(".")
    scale: int = 10 ** len(fraction)
    total = (_integer("window", whole) * scale + _integer("window", fraction or "0")) * unit_ns
    if total % scale:
        raise InvalidRate(f"a window must be whole nanoseconds, got {_shown(count)} units")
    return total // scale


def _integer(what: str, digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise InvalidRate(f"{what} must have at most {_MAX_DIGITS} digits, got {len(digits)}")
    return int(digits)


def _unit(word: str) -> int:
    unit_ns = _UNIT_OF.get(word.lower())
    if unit_ns is None:
        raise InvalidRate(f"unknown unit {_shown(word)}; use ms, s, m, h, day, week, month or year")
    return unit_ns


def _options(options: str, text: str) -> tuple[int | None, str | None]:
    """The burst and the time zone, in either order, each at most once."""
    burst: int | None = None
    tz: str | None = None
    at = 0
    while at < len(options):
        if burst is None and (found := _BURST.match(options, at)) is not None:
            burst = _integer("burst", found[1])
        elif tz is None and (found := _TZ.match(options, at)) is not None:
            tz = found[1]
        else:
            raise InvalidRate(
                f"cannot read {_shown(options[at:])} in the rate {_shown(text)}; "
                "after the unit may follow 'burst N' and 'tz=Area/City'"
            )
        at = found.end()
    return burst, tz


def _unreadable(text: str) -> InvalidRate:
    found = _ODD_LIMIT.match(text)
    if found is not None and found[1].startswith("-"):
        return InvalidRate(f"limit must be >= 1, got {_shown(found[1])}; use 1 or more")
    if found is not None and not found[1].isdigit():
        return InvalidRate(
            f"limit must be a whole number, got {_shown(found[1])}; "
            "for less than one, take a longer window, such as '1/2s'"
        )
    return InvalidRate(
        f"cannot read {_shown(text)} as a rate; "
        "write it like '100/minute', '10/s burst 20' or '1000/day tz=Europe/Paris'"
    )


def _whole(what: str, value: SupportsIndex) -> int:
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise InvalidRate(f"{what} must be a whole number, got {_shown(value)}")


def _bounded(what: str, value: SupportsIndex) -> int:
    number = _whole(what, value)
    if number < 1:
        remedy = "leave it out to use the limit" if what == "burst" else "use 1 or more"
        raise InvalidRate(f"{what} must be >= 1, got {_shown(number)}; {remedy}")
    if number > MAX_LIMIT:
        raise InvalidRate(f"{what} must be <= {MAX_LIMIT}, got {_shown(number)}; lower it")
    return number


def _window(value: SupportsIndex) -> int:
    number = _whole("window_ns", value)
    if number <= 0:
        raise InvalidRate("a window must be longer than zero; use '1s' or more")
    if number < MIN_WINDOW_NS:
        raise InvalidRate(f"a window must be >= 1 us, got {number} ns; use a longer one")
    if number > MAX_WINDOW_NS:
        raise InvalidRate("a window must be <= 5 years; use a shorter one")
    return number


def _zone(name: str, period: str | None) -> str:
    if period not in _ZONED:
        raise InvalidRate(
            "a time zone needs a window of exactly one hour, day, week, month or year; "
            "leave the time zone out or use one of these"
        )
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - 10 ms that only calendars need

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidRate(
            f"unknown time zone {_shown(name)}; use an IANA name such as 'Europe/Paris' "
            "(on a system without time zones: pip install tzdata)"
        ) from None
    return name


def _written(window_ns: int) -> str:
    for unit, unit_ns in _WRITTEN.items():
        if window_ns % unit_ns == 0:
            return f"{window_ns // unit_ns} {unit}"
    return f"{window_ns} ns"


def _shown(value: object) -> str:
    """A value in a message, at a readable length, and without a look into what it may hold."""
    if not isinstance(value, (str, int, float, type(None))):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
