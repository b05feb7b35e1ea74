"""Building what a limiter needs, away from its hot path."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from headgate.algorithms import build
from headgate.clock import seconds_to_ns
from headgate.engine import table as table_module
from headgate.engine.table import Keyspace
from headgate.errors import InvalidRate
from headgate.rate import Rate, parse_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.clock import Clock
    from headgate.engine.table import KeyedTable

__all__ = ["is_atomic_build", "is_compiled", "keyspaces_for"]


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
    granularity: int,
    max_delay: float | None,
) -> list[Keyspace]:
    """One keyspace for each rate.

    Raises:
        InvalidRate: no rate, or one that is outside what can be kept.
    """
    spaces = []
    for one in read_rates(rate, burst):
        chosen = algorithm or ("fixed_window" if one.tz else "token_bucket")
        built = build(
            chosen,
            one,
            wall_offset_ns=clock.wall_offset_ns,
            granularity=granularity,
            max_delay_ns=None if max_delay is None else seconds_to_ns(max_delay),
        )
        spaces.append(Keyspace(table, built, name))
    return spaces


def read_rates(rate: str | Rate | Sequence[Rate], burst: int | None) -> tuple[Rate, ...]:
    """The rates that were meant, with the burst put in."""
    if isinstance(rate, str):
        rates = parse_rates(rate)
    elif isinstance(rate, Rate):
        rates = (rate,)
    else:
        rates = tuple(rate)
    if not rates or not all(isinstance(one, Rate) for one in rates):
        message = (
            "rate must be text such as '100/minute', a Rate, or a sequence of at least one Rate"
        )
        raise InvalidRate(message)
    if burst is None:
        return rates
    return tuple(Rate(one.limit, one.window_ns, burst, one.period, one.tz) for one in rates)
