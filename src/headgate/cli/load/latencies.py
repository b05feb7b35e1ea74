"""Latencies, counted in little memory and exactly enough."""

from __future__ import annotations

from typing import Final

__all__ = ["Latencies"]

_FINE_NS: Final = 1_000
_COARSE_NS: Final = 100_000
_FINE_UNTIL_NS: Final = 20_000_000


class Latencies:
    """Counts by the microsecond up to 20 ms, and by the tenth of a millisecond above.

    >>> latencies = Latencies()
    >>> for microseconds in range(1, 1001):
    ...     latencies.add(microseconds * 1000)
    >>> latencies.percentile(50), latencies.percentile(99.9)
    (0.0005, 0.000999)
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, nanoseconds: int, times: int = 1) -> None:
        """Count one latency, or several that are equal."""
        step = _FINE_NS if nanoseconds < _FINE_UNTIL_NS else _COARSE_NS
        place = nanoseconds - nanoseconds % step
        self._counts[place] = self._counts.get(place, 0) + times
        self.count += times

    def percentile(self, percent: float) -> float:
        """Seconds within which this part of all was done; 0 when there were none."""
        wanted = self.count * percent / 100
        seen = 0
        place = 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            if seen >= wanted:
                break
        return place / 1e9
