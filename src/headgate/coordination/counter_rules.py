"""What a limit comes to in the language of the counters' script: constants worked out, times as pairs.

Times in the script are whole microseconds and what is left of one, because that is what its numbers hold
exactly. A *rule* is a plain mapping that the script reads; ``coordination/lua/`` says what each member is.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Final

from headgate.algorithms.calendar import Calendar
from headgate.clock import NS_PER_SECOND
from headgate.engine.counters import STORE_EPOCH_NS

if TYPE_CHECKING:
    from headgate.policy.model import LimitSpec

__all__ = ["bounds_around", "calendar_of", "keeps_log", "rule_of"]

_NS_PER_US: Final = 1_000
_US_PER_SECOND: Final = 1_000_000
_MAX_TICKS: Final = 16
_GCRA, _FIXED, _COUNTER, _LOG, _DUAL = 1, 2, 3, 4, 5


def keeps_log(spec: LimitSpec) -> bool:
    """Whether a key of this limit has a second key, with a log."""
    name = spec.algorithm
    return name in {"sliding_window_log", "concurrency"} or (
        name == "dual" and spec.granularity == 1
    )


def calendar_of(spec: LimitSpec) -> Calendar | None:
    """The calendar that the limit's windows follow, if they do."""
    rate = spec.rate
    if rate.tz is None or rate.period is None:
        return None
    return Calendar(rate.period, rate.tz)


def bounds_around(calendar: Calendar, at_us: int) -> list[int]:
    """The starts of the period before a moment, of its own, and of the three after it: store's clock."""
    epoch = STORE_EPOCH_NS // NS_PER_SECOND
    start, end = calendar.bounds(at_us // _US_PER_SECOND + epoch)
    seconds = [calendar.bounds(start - 1)[0], start, end]
    for _ in range(2):
        seconds.append(calendar.bounds(seconds[-1])[1])
    return [(second - epoch) * _US_PER_SECOND for second in seconds]


def rule_of(spec: LimitSpec) -> dict[str, object]:
    """The rule of a limit; of one that follows a calendar without its ``bounds``."""
    name = spec.algorithm
    rate = spec.rate
    rule: dict[str, object]
    if name in {"token_bucket", "leaky_bucket", "leaky_bucket_queue"}:
        rule = _bucket(rate.limit, rate.window_ns, rate.capacity, spec.max_delay_ns)
        rule["queues"] = name == "leaky_bucket_queue"
    elif name == "dual":
        rule = _dual(spec)
    elif name == "fixed_window":
        rule = _fixed(rate.limit, rate.window_ns)
    elif name in {"sliding_window", "sliding_window_counter"}:
        rule = _counter(rate.limit, rate.window_ns, spec.granularity)
    else:
        rule = _log(rate.limit, rate.window_ns)
    whole_us, rest_ns = divmod(rate.window_ns, _NS_PER_US)
    return rule | {
        # As LeaseTerms has them.
        "rate": rate.limit / (whole_us + rest_ns / _NS_PER_US) * _US_PER_SECOND,
        "leasable": name not in {"concurrency", "leaky_bucket_queue"},
        "repays": name in {"token_bucket", "leaky_bucket"},
        "ends_at_once": name == "fixed_window",
        "permits": name == "concurrency",
        "logs": keeps_log(spec),
    }


def _bucket(
    limit: int, window_ns: int, capacity: int, max_delay_ns: int | None = None
) -> dict[str, object]:
    ticks = min(limit // gcd(limit, window_ns), _MAX_TICKS)
    interval = -(-window_ns * ticks // limit)
    span = interval * capacity
    if max_delay_ns is not None:
        span = max_delay_ns * ticks + interval
        capacity = span // interval
    reach = max(window_ns * ticks, span)
    base = _NS_PER_US * ticks
    rule = _common(_GCRA, limit, window_ns, capacity) | {"base": base, "ticks": ticks}
    rule["iu"], rule["it"] = divmod(interval, base)
    rule["su"], rule["st"] = divmod(span, base)
    rule["ru"], rule["rt"] = divmod(reach, base)
    rule["fu"], rule["ft"] = divmod(span + reach, base)
    return rule


def _fixed(limit: int, window_ns: int) -> dict[str, object]:
    rule = _common(_FIXED, limit, window_ns, limit)
    rule["pu"], rule["pn"] = divmod(STORE_EPOCH_NS % window_ns, _NS_PER_US)
    return rule


def _counter(limit: int, window_ns: int, granularity: int) -> dict[str, object]:
    slot = -(-window_ns // granularity)
    rule = _common(_COUNTER, limit, window_ns, limit) | {"slots": granularity}
    rule["su"], rule["sn"] = divmod(slot, _NS_PER_US)
    rule["pu"], rule["pn"] = divmod(STORE_EPOCH_NS % slot, _NS_PER_US)
    return rule


def _log(limit: int, window_ns: int) -> dict[str, object]:
    return _common(_LOG, limit, window_ns, limit)


def _dual(spec: LimitSpec) -> dict[str, object]:
    rate = spec.rate
    bucket = _bucket(rate.limit, rate.window_ns, rate.capacity)
    if spec.granularity > 1:
        window = _counter(rate.limit, rate.window_ns, spec.granularity)
    else:
        window = _log(rate.limit, rate.window_ns)
    window["logs"] = spec.granularity == 1
    rule = _common(_DUAL, rate.limit, rate.window_ns, min(rate.capacity, rate.limit))
    return rule | {"bucket": bucket, "inner": window}


def _common(kind: int, limit: int, window_ns: int, capacity: int) -> dict[str, object]:
    whole_us, rest_ns = divmod(window_ns, _NS_PER_US)
    return {"kind": kind, "limit": limit, "capacity": capacity, "wu": whole_us, "wn": rest_ns}
