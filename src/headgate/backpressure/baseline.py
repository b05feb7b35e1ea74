"""What a call takes when nothing waits, learnt so that waiting does not creep into it.

A rule that compares latencies with a long-term average of themselves takes yesterday's queue for
today's normal: under a modest overload its limit creeps up for ever. So a baseline is learnt like this,
once per window, from its typical latency, the *sample*:

- It follows the sample (a tenth of the way) only while calls are few: the most in flight stay below
  0.9 of the limit. While the sample is more than is tolerated, it follows ten times more slowly, because
  that is also how an overload begins.
- Otherwise it only falls: to the average of the recent samples when that is below it. To the average, and
  not to the lowest sample: after some thousand windows the lowest would be one of luck, and the limit
  that is held against it too low.
- Five windows in a row at the smallest limit that were all too slow say that it is not the limit which
  makes calls slow: the service itself has become slower. Their average is the new baseline.

One sample, however far off (the clock was set forward by a year), moves it up by a tenth at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.backpressure.concurrency_limit import ConcurrencyLimit

__all__ = ["Baseline"]

_FEW: Final = 0.9
_RATE: Final = 0.1
_WARY_RATE: Final = 0.01
_RECENT_RATE: Final = 0.05
_WINDOWS_AT_LEAST: Final = 5
_MOST_STEP: Final = 2.0
_MOST_STRAY: Final = 2.0


@final
class Baseline:
    """The baseline of one limit.

    Attributes:
        ns: the baseline; 0.0 before the first sample.
    """

    def __init__(self) -> None:
        self.ns = 0.0
        self._recent = 0.0
        self._slow_at_least: i64 = 0
        self._slow_sum = 0.0

    def start(self, sample_ns: float) -> None:
        """Take the first sample."""
        self._take(max(sample_ns, 1.0))

    def learn(
        self, sample_ns: float, limit: ConcurrencyLimit, peak: i64, *, tolerated: bool
    ) -> bool:
        """Learn from a window, when there is a baseline.

        Args:
            sample_ns: its typical latency.
            limit: what was in force.
            peak: the most in flight in it.
            tolerated: whether the sample is not too far above the baseline.

        Returns:
            True when the service was found to be slower than it was.
        """
        sample = max(sample_ns, 1.0)
        stray = min(max(self._recent, sample / _MOST_STRAY), sample * _MOST_STRAY)
        self._recent = stray + _RECENT_RATE * (sample - stray)
        stuck = limit.limit <= limit.least and not tolerated
        if stuck:
            self._slow_at_least += 1
            self._slow_sum += sample
            if self._slow_at_least >= _WINDOWS_AT_LEAST:
                self._take(self._slow_sum / float(self._slow_at_least))
                return True
            return False
        self._forget_slow()
        if float(peak) < _FEW * float(limit.limit):
            rate = _RATE if tolerated else _WARY_RATE
            self.ns += rate * (min(sample, self.ns * _MOST_STEP) - self.ns)
        elif self._recent < self.ns:
            self.ns = self._recent
        return False

    def _take(self, sample: float) -> None:
        self.ns = sample
        self._recent = sample
        self._forget_slow()

    def _forget_slow(self) -> None:
        self._slow_at_least = 0
        self._slow_sum = 0.0
