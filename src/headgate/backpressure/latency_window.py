"""The calls that ended within a stretch of time, boiled down to a typical latency.

A window is complete when it has lasted its period *and* has heard of enough calls, so a slow service gets
long windows and not noisy ones. It keeps 256 latencies at most: when it is full, every other one goes,
and from then on only every second (fourth, ...) call is kept. So a window of a busy service takes no more
memory or sorting than that of an idle one.

What is typical is the mean of all but the tenth at either end. Up to a tenth of outliers change nothing.
Latencies in two heaps (a cache that is hit or missed) move it with their mix, where a median would jump from
one heap to the other at the least change. And a random spread of services looks less like waiting in it.

The first window is four times as long, because what is learnt from it is kept for long, and should not be
luck.

Calls that began while few were in flight have waited for nobody. The first of them are remembered apart,
because a program that is started in the middle of an overload sees no others like them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["LatencyWindow"]

_MOST_KEPT: Final = 256
_MOST_CALM: Final = 16
_LEAST_CALM: Final = 3
_FIRST: Final = 4


@final
class LatencyWindow:
    """One window at a time; `clear` begins the next.

    Args:
        period_ns: how long a window lasts at least.
        least_calls: how many calls it hears of at least.
        few: up to so many calls in flight are few.

    Attributes:
        calls: that it heard of, dropped ones included.
        drops: those that were dropped.
        peak: the most that were in flight.
    """

    def __init__(self, period_ns: i64, least_calls: i64, few: i64) -> None:
        self._period_ns: i64 = period_ns
        self._least_calls: i64 = least_calls
        self._length: i64 = _FIRST
        self._few: i64 = few
        self._calm: list[int] = []
        self._opened_at: i64 = 0
        self._latencies: list[int] = []
        self._stride: i64 = 1
        self._answered: i64 = 0
        self.calls: i64 = 0
        self.drops: i64 = 0
        self.peak: i64 = 0

    def add(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> bool:  # noqa: FBT001 - on the path of every call
        """Hear of one call; whether the window is complete with it."""
        if self.calls == 0 or now < self._opened_at:  # the clock may have gone back
            self._opened_at = now
        self.calls += 1
        self.peak = max(self.peak, in_flight)
        if dropped:
            self.drops += 1
        elif latency_ns >= 0:
            if self._answered % self._stride == 0:
                self._keep(latency_ns)
            self._answered += 1
            if in_flight <= self._few and len(self._calm) < _MOST_CALM:
                self._calm.append(latency_ns)
        length = self._length
        return (
            self.calls >= self._least_calls * length
            and now - self._opened_at >= self._period_ns * length
        )

    @property
    def has_latency(self) -> bool:
        """Whether any call was answered."""
        return len(self._latencies) > 0

    def typical_ns(self) -> float:
        """The mean of all but the lowest and the highest tenth; only valid when there are any."""
        return _trimmed_mean(self._latencies)

    def calm_ns(self) -> float:
        """The same of the calls that began while few were in flight, if it is far less."""
        typical = self.typical_ns()
        if len(self._calm) < _LEAST_CALM:
            return typical
        calm = _trimmed_mean(self._calm)
        return calm if calm * 1.5 < typical else typical

    def clear(self) -> None:
        """Begin the next window."""
        self._length = 1
        self._latencies = []
        self._calm = []
        self._stride = 1
        self._answered = 0
        self.calls = 0
        self.drops = 0
        self.peak = 0

    def _keep(self, latency_ns: i64) -> None:
        if len(self._latencies) >= _MOST_KEPT:
            self._latencies = self._latencies[::2]
            self._stride *= 2
            if self._answered % self._stride != 0:
                return
        self._latencies.append(latency_ns)


def _trimmed_mean(latencies: list[int]) -> float:
    ordered = sorted(latencies)
    kept = len(ordered)
    skipped = kept // 10
    middle = ordered[skipped : kept - skipped]
    return sum(middle) / len(middle)
