"""Who may pass? (first cut: token bucket only; the full factory follows)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.algorithms.token_bucket import TokenBucket
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from headgate.rate import Rate


def build(
    algorithm: str,
    rate: Rate,
    *,
    wall_offset_ns: int = 0,
    granularity: int = 1,
    max_delay_ns: int | None = None,
) -> Algorithm:
    """The algorithm of that name."""
    if algorithm != "token_bucket":
        raise InvalidInput(f"unknown algorithm {algorithm!r}")
    return TokenBucket(rate.limit, rate.window_ns, rate.capacity)
