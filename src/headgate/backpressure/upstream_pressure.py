"""What an upstream said about itself, how long it is believed, and what a client does about it.

A report is fresh for its ttl. From then on it is believed half as much with every second, until it says
nothing (as in `headgate.backpressure.global_pressure`). A report with a lower number than the last is an
answer that was overtaken, and not heard while the last is fresh.

The client does two things. It gives the upstream less to refuse: K of the client throttle goes from its
own value, at pressure 1, down to 1.2 at pressure 1.5. And it sends less of what matters least, before
any of it is refused: of tier 3 from pressure 1 on, of tier 2 from 1.25, of tier 1 from 1.5; the share
that is not sent grows by a quarter of the pressure's excess, up to a half. Of tier 0 nothing is held
back for pressure alone. (Chosen by experiments 4 and 5: with 1.1 the upstream is idle at times; below
pressure 1 it has recovered, and is to be asked.)
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from headgate.backpressure.pressure_header import PressureReport

__all__ = ["UpstreamPressure", "held_back", "tightened"]

HALF_LIFE_NS: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_NOTHING_AFTER: Final = 40  # half-lives

_TIGHTENS_FROM: Final = 1.0
_TIGHTEST_AT: Final = 1.5
_TIGHTEST: Final = 1.2
_STARTS: Final = (inf, 1.5, 1.25, 1.0)  # by tier
_SLOPE: Final = 0.25
_MOST_HELD_BACK: Final = 0.5


@final
class UpstreamPressure:
    """The last report of one upstream."""

    __slots__ = ("_heard_at", "_report")

    def __init__(self) -> None:
        self._report: PressureReport | None = None
        self._heard_at = 0

    def hear(self, report: PressureReport, now: int) -> None:
        """Take a report, unless a newer one is still fresh."""
        last = self._report
        if (
            last is not None
            and report.seq < last.seq
            and self._age(now) <= last.ttl_ms * _NS_PER_MS
        ):
            return
        self._report = report
        self._heard_at = now

    def value(self, now: int) -> float:
        """The pressure that the report still stands for; 0 when there was none."""
        report = self._report
        if report is None:
            return 0.0
        stale = self._age(now) - report.ttl_ms * _NS_PER_MS
        if stale <= 0:
            return report.p
        if stale > _NOTHING_AFTER * HALF_LIFE_NS:
            return 0.0
        return report.p * float(0.5 ** (stale / HALF_LIFE_NS))

    def _age(self, now: int) -> int:
        """After the clock went back, a report counts as one that came just now."""
        self._heard_at = min(self._heard_at, now)
        return now - self._heard_at


def tightened(multiplier: float, pressure: float) -> float:
    """K for an upstream under this pressure.

    >>> tightened(2.0, 1.0), tightened(2.0, 1.5), round(tightened(2.0, 1.25), 2)
    (2.0, 1.2, 1.6)
    """
    lowest = min(_TIGHTEST, multiplier)
    share = min(max((pressure - _TIGHTENS_FROM) / (_TIGHTEST_AT - _TIGHTENS_FROM), 0.0), 1.0)
    return multiplier - (multiplier - lowest) * share


def held_back(pressure: float, tier: int) -> float:
    """The share of a tier's requests that a client does not send under this pressure.

    >>> [held_back(2.0, tier) for tier in range(4)]
    [0.0, 0.125, 0.1875, 0.25]
    """
    return min(max((pressure - _STARTS[tier]) * _SLOPE, 0.0), _MOST_HELD_BACK)
