"""From a name and a rate to an algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.algorithms.concurrency import Concurrency
from headgate.algorithms.dual import Dual
from headgate.algorithms.fixed_window import FixedWindow
from headgate.algorithms.leaky_bucket import LeakyBucketMeter, LeakyBucketQueue
from headgate.algorithms.sliding_window_counter import SlidingWindowCounter
from headgate.algorithms.sliding_window_log import SlidingWindowLog
from headgate.algorithms.token_bucket import TokenBucket
from headgate.errors import InvalidInput, InvalidRate
from headgate.rate import MAX_WINDOW_NS

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from headgate.rate import Rate

__all__ = ["ALGORITHMS", "build", "options_of"]

MAX_GRANULARITY: Final = 60
MAX_LOGGED: Final = 1_000_000
"""The largest limit that may be kept as a log: 16 MB for one key."""

_ALIASES: Final = {"sliding_window": "sliding_window_counter"}
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "token_bucket": ("burst",),
    "sliding_window_log": (),
    "sliding_window_counter": ("granularity",),
    "fixed_window": ("timezone",),
    "leaky_bucket": ("burst",),
    "leaky_bucket_queue": ("burst", "max_delay"),
    "dual": ("burst", "granularity"),
    "concurrency": (),
}

ALGORITHMS: Final = (*_OPTIONS, *_ALIASES)
"""The names that `build` knows; ``sliding_window`` is short for ``sliding_window_counter``."""


def options_of(algorithm: str) -> tuple[str, ...]:
    """Which of burst, granularity, max_delay and timezone an algorithm takes.

    >>> options_of("leaky_bucket_queue")
    ('burst', 'max_delay')

    Raises:
        InvalidInput: there is no such algorithm.
    """
    options = _OPTIONS.get(_ALIASES.get(algorithm, algorithm))
    if options is None:
        raise InvalidInput(
            f"unknown algorithm {algorithm[:60]!r}; use one of {', '.join(ALGORITHMS)}",
            algorithm=algorithm[:60],
        )
    return options


def build(
    algorithm: str,
    rate: Rate,
    *,
    wall_offset_ns: int = 0,
    granularity: int = 1,
    max_delay_ns: int | None = None,
) -> Algorithm:
    """The algorithm of that name for a rate.

    Args:
        algorithm: one of `ALGORITHMS`.
        rate: quota and window; its burst is the capacity of a bucket or a queue, and its time zone makes
            a fixed window follow the calendar.
        wall_offset_ns: where the clock's origin lies on the wall.
        granularity: slots of the sliding-window counter, 1 to 60. ``dual`` keeps an exact log with 1, and
            a counter of that many slots with more.
        max_delay_ns: the longest delay of ``leaky_bucket_queue``; room for ``burst`` when left out.

    Raises:
        InvalidInput: an unknown name, or an option that is out of bounds or that the algorithm lacks.
        InvalidRate: the rate has a burst or a time zone that the algorithm lacks, or is too large for it.
    """
    _check_options(algorithm, rate, granularity, max_delay_ns)
    name = _ALIASES.get(algorithm, algorithm)
    limit, window_ns = rate.limit, rate.window_ns
    if name == "token_bucket":
        return TokenBucket(limit, window_ns, rate.capacity)
    if name == "leaky_bucket":
        return LeakyBucketMeter(limit, window_ns, rate.capacity)
    if name == "leaky_bucket_queue":
        return LeakyBucketQueue(limit, window_ns, rate.capacity, max_delay_ns)
    if name == "sliding_window_counter":
        return SlidingWindowCounter(limit, window_ns, granularity, wall_offset_ns)
    if name == "fixed_window":
        return _fixed_window(rate, wall_offset_ns)
    if name == "dual":
        return _dual(rate, granularity, wall_offset_ns)
    _check_logged(name, limit)
    if name == "concurrency":
        return Concurrency(limit, window_ns)
    return SlidingWindowLog(limit, window_ns)


def _fixed_window(rate: Rate, wall_offset_ns: int) -> Algorithm:
    if rate.tz is None or rate.period is None:
        return FixedWindow(rate.limit, rate.window_ns, wall_offset_ns)
    # Calendars need datetime and zoneinfo, which nobody else should have to import.
    from headgate.algorithms.calendar_window import CalendarWindow  # noqa: PLC0415

    return CalendarWindow(rate.limit, rate.window_ns, rate.period, rate.tz, wall_offset_ns)


def _dual(rate: Rate, granularity: int, wall_offset_ns: int) -> Algorithm:
    bucket = TokenBucket(rate.limit, rate.window_ns, rate.capacity)
    if granularity > 1:
        counter = SlidingWindowCounter(rate.limit, rate.window_ns, granularity, wall_offset_ns)
        return Dual(bucket, counter)
    _check_logged("dual", rate.limit)
    return Dual(bucket, SlidingWindowLog(rate.limit, rate.window_ns))


def _check_options(algorithm: str, rate: Rate, granularity: int, max_delay_ns: int | None) -> None:
    options = options_of(algorithm)
    if rate.burst is not None and rate.burst != rate.limit and "burst" not in options:
        raise InvalidRate(f"{algorithm} has no burst, got {rate.burst}; leave it out")
    if rate.tz is not None and "timezone" not in options:
        raise InvalidRate(
            f"a time zone needs the algorithm fixed_window, got {algorithm}; leave it out or change that"
        )
    if not 1 <= granularity <= MAX_GRANULARITY:
        raise InvalidInput(f"granularity must be 1 to {MAX_GRANULARITY}, got {granularity}")
    if granularity != 1 and "granularity" not in options:
        raise InvalidInput(f"{algorithm} has no granularity, got {granularity}; leave it out")
    if max_delay_ns is None:
        return
    if "max_delay" not in options:
        raise InvalidInput(f"max_delay needs the algorithm leaky_bucket_queue, got {algorithm}")
    if rate.burst is not None:
        raise InvalidInput("a queue is bounded by burst or by max_delay, got both; leave one out")
    if not 0 < max_delay_ns <= MAX_WINDOW_NS:
        raise InvalidInput(
            "max_delay must be above 0 and at most 5 years; leave it out for the default"
        )


def _check_logged(algorithm: str, limit: int) -> None:
    if limit > MAX_LOGGED:
        raise InvalidRate(
            f"{algorithm} remembers each admission, so its limit must be <= {MAX_LOGGED}, got {limit}; "
            "use sliding_window_counter, or dual with a granularity above 1"
        )
