"""Building what a limiter needs, away from its hot path."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, SupportsIndex

from headgate.algorithms import build
from headgate.algorithms.factory import MAX_GRANULARITY
from headgate.algorithms.paced import EVEN
from headgate.backpressure.adaptive_rate import MOST_FACTOR
from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.engine import table as table_module
from headgate.engine.reservations import MAX_TTL_NS
from headgate.engine.table import Keyspace
from headgate.errors import InvalidInput, InvalidRate
from headgate.inputs import shown, valid_count, whole_number
from headgate.rate import MAX_WINDOW_NS, Rate, parse_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.clock import Clock
    from headgate.engine.table import KeyedTable

__all__ = [
    "is_atomic_build",
    "is_compiled",
    "keyspaces_for",
    "require_pace",
    "valid_moment",
    "valid_pace",
    "valid_ttl",
]

_CLOCK_BITS: Final = 57


def is_compiled() -> bool:
    """Whether the hot rooms run as compiled code."""
    return not str(table_module.__file__).endswith(".py")


def is_atomic_build() -> bool:
    """Whether compiled code keeps the interpreter's lock from its start to its end."""
    gil_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_compiled() and (gil_enabled is None or bool(gil_enabled()))


def keyspaces_for(  # noqa: PLR0913 - every setting of a limit passes through here
    table: KeyedTable,
    clock: Clock,
    rate: str | Rate | Sequence[Rate],
    *,
    burst: int | None,
    algorithm: str | None,
    name: str,
    granularity: SupportsIndex,
    max_delay: float | None,
) -> list[Keyspace]:
    """One keyspace for each rate.

    Raises:
        InvalidRate: no rate, or one that is outside what can be kept.
    """
    slots = valid_count("granularity", granularity, MAX_GRANULARITY)
    max_delay_ns = None
    if max_delay is not None:
        max_delay_ns = _seconds("max_delay", max_delay, MAX_WINDOW_NS)
    spaces = []
    rates = read_rates(rate, burst)
    for one in rates:
        chosen = algorithm or ("fixed_window" if one.tz else "token_bucket")
        built = build(
            chosen,
            one,
            wall_offset_ns=clock.wall_offset_ns,
            granularity=slots,
            max_delay_ns=max_delay_ns,
        )
        # Header fields list the limits by name, so the names of several must differ.
        spaces.append(Keyspace(table, built, name if len(rates) == 1 else f"{name}:{one}"))
    return spaces


def read_rates(rate: str | Rate | Sequence[Rate], burst: int | None) -> tuple[Rate, ...]:
    """The rates that were meant, with the burst put in."""
    rates: tuple[object, ...] = ()
    if isinstance(rate, str):
        rates = parse_rates(rate)
    elif isinstance(rate, Rate):
        rates = (rate,)
    elif isinstance(rate, Iterable):
        rates = tuple(rate)
    read = tuple(one for one in rates if isinstance(one, Rate))
    if not read or len(read) < len(rates):
        message = (
            "rate must be text such as '100/minute', a Rate, or a sequence of at least one Rate"
        )
        raise InvalidRate(message)
    if burst is None:
        return read
    return tuple(Rate(one.limit, one.window_ns, burst, one.period, one.tz) for one in read)


def valid_ttl(seconds: object) -> int:
    """How long a hold lasts, in nanoseconds.

    Raises:
        InvalidInput: it is no number, not above zero, or longer than 366 days.
    """
    return _seconds("ttl", seconds, MAX_TTL_NS)


def require_pace(spaces: Iterable[Keyspace]) -> None:
    """Refuse limits whose rate cannot be changed while they run.

    Raises:
        InvalidInput: one of them has no rate, or follows a calendar.
    """
    if not all(space.algorithm.can_be_paced() for space in spaces):
        raise InvalidInput(
            "a concurrency limit has no rate to change, and a calendar has but one; use AdaptiveLimiter "
            "for calls in flight, or leave the time zone out"
        )


def valid_pace(factor: object) -> int:
    """A factor of a rate in thousandths.

    Raises:
        InvalidInput: it is no number from 0.001 to 2.
    """
    # NaN compares with nothing, and so is refused too.
    if (
        isinstance(factor, bool)
        or not isinstance(factor, (int, float))
        or not 0.001 <= factor <= MOST_FACTOR
    ):
        raise InvalidInput(f"factor must be a number from 0.001 to 2, got {shown(factor)}")
    return round(factor * EVEN)


def valid_moment(moment: SupportsIndex) -> int:
    """A moment on the clock.

    Raises:
        InvalidInput: it is no whole number of nanoseconds, or one that no clock shows.
    """
    number = whole_number(moment)
    if number is None or number.bit_length() > _CLOCK_BITS:
        message = "granted_at_ns must be a moment that clock.now_ns() gave; leave it out for now"
        raise InvalidInput(message)
    return number


def _seconds(name: str, seconds: object, most_ns: int) -> int:
    """A length of time in nanoseconds. NaN compares with nothing, and so is refused too."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        message = f"{name} must be a number of seconds, got {type(seconds).__name__}"
        raise InvalidInput(message)
    if not 0 < seconds <= most_ns / NS_PER_SECOND:
        message = f"{name} must be above 0 and at most {most_ns // NS_PER_SECOND} seconds"
        raise InvalidInput(message)
    return max(1, seconds_to_ns(seconds))
