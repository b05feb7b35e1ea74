"""How the requests of a server go: counts, latency, pace.

Latency is that of the latest 1,024 requests that went well: a fast failure must not look like good
latency. A percentile is the smallest duration that so many percent of them do not exceed (nearest rank).
The pace is counted in whole seconds, over the last sixty of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

__all__ = ["Outcome", "RequestFigures", "RequestStatistics"]

_KEPT: Final = 1_024
_BINS: Final = 60
_NS: Final = 1_000_000_000


class Outcome(Enum):
    """How a request ended. One that was abandoned says nothing: cancelled, or refused by a limit."""

    OK = "ok"
    FAILED = "failed"
    ABANDONED = "abandoned"


@final
class RequestFigures:
    """A reading.

    Attributes:
        total: requests that ended; the sum of the next three.
        ok: went well.
        failed: did not.
        abandoned: say nothing.
        mean_ns: mean duration; 0 before the first.
        p95_ns: what 95 % of them do not exceed.
        p99_ns: likewise.
        per_second: requests that ended in the last minute, per second.
        error_rate: failed over ok and failed; 0.0 before the first.
    """

    __slots__ = (
        "abandoned",
        "error_rate",
        "failed",
        "mean_ns",
        "ok",
        "p95_ns",
        "p99_ns",
        "per_second",
        "total",
    )

    def __init__(self, ok: int, failed: int, abandoned: int) -> None:
        self.ok = ok
        self.failed = failed
        self.abandoned = abandoned
        self.total = ok + failed + abandoned
        self.error_rate = failed / (ok + failed) if ok + failed else 0.0
        self.mean_ns = 0
        self.p95_ns = 0
        self.p99_ns = 0
        self.per_second = 0.0


@final
class RequestStatistics:
    """Counts requests. Not locked: its owner does that.

    Args:
        now: when counting begins.
    """

    def __init__(self, now: int) -> None:
        self._began_ns = now
        self._counts = dict.fromkeys(Outcome, 0)
        self._durations: list[int] = []
        self._next = 0
        self._bins = [0] * _BINS
        self._seconds = [-1] * _BINS

    def ended(self, outcome: Outcome, duration_ns: int, now: int) -> None:
        """Note one request. A duration below 0, which a clock that went back makes, counts as 0."""
        self._counts[outcome] += 1
        second = now // _NS
        place = second % _BINS
        if self._seconds[place] != second:
            self._seconds[place] = second
            self._bins[place] = 0
        self._bins[place] += 1
        if outcome is Outcome.OK:
            self._keep(max(0, duration_ns))

    def read(self, now: int) -> RequestFigures:
        """What was counted until now."""
        counts = self._counts
        figures = RequestFigures(
            counts[Outcome.OK], counts[Outcome.FAILED], counts[Outcome.ABANDONED]
        )
        ordered = sorted(self._durations)
        if ordered:
            figures.mean_ns = sum(ordered) // len(ordered)
            figures.p95_ns = _percentile(ordered, 95)
            figures.p99_ns = _percentile(ordered, 99)
        figures.per_second = self._recent(now) / self._span(now)
        return figures

    def _keep(self, duration_ns: int) -> None:
        if len(self._durations) < _KEPT:
            self._durations.append(duration_ns)
            return
        self._durations[self._next] = duration_ns
        self._next = (self._next + 1) % _KEPT

    def _recent(self, now: int) -> int:
        last = now // _NS
        return sum(
            count
            for count, second in zip(self._bins, self._seconds, strict=True)
            if last - _BINS < second <= last
        )

    def _span(self, now: int) -> int:
        """The seconds that were counted, at most a minute."""
        return min(_BINS, max(1, now // _NS - self._began_ns // _NS + 1))


def _percentile(ordered: list[int], percent: int) -> int:
    return ordered[-(-percent * len(ordered) // 100) - 1]
