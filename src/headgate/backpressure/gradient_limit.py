"""The gated gradient: a limit of calls in flight that follows how much longer they take than need be.

Once per window (0.5 s and 10 calls at least; the first is longer), with its typical latency
(`headgate.backpressure.latency_window`) and the baseline (`headgate.backpressure.baseline`, the gate in the
name)::

    tolerable = max(1.5 * baseline, baseline + 1 ms)
    g         = clamp(tolerable / typical, 0.5, 1)
    L'        = L * g                   when g < 1
              = L + sqrt(L)             when g = 1, at most 5 times the most in flight
    L         = 0.8 * L + 0.2 * L'

With ``c`` servers behind it and more to do than they can, it comes to rest near ``1.5 * c``: they are
never idle, and a call waits half its own time.

- The millisecond is for fast services: what the scheduler adds to a call of 50 us is no queue.
- What is not in use does not shrink: after an idle night the limit is what it was. It does not grow
  either, beyond 5 times what was in flight.
- When more than a tenth of a window's calls were dropped, ``g`` is at most the part that was not. Their
  latencies are left out.
- At the start the limit grows by 40 % per window, until calls are slow for the first time. So it may start
  low. Likewise when the service itself was found to be slower: back up to where it was before.

From the gradient of Netflix's concurrency-limits (``Gradient2Limit``), which learns its baseline from all
samples.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, SupportsIndex, final

from headgate.backpressure.baseline import Baseline
from headgate.backpressure.concurrency_limit import DEFAULT_LEAST, DEFAULT_MOST, ConcurrencyLimit
from headgate.backpressure.latency_window import LatencyWindow

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["LEAST_CALLS", "PERIOD_NS", "SLACK_NS", "TOLERANCE", "GradientLimit", "passed"]

PERIOD_NS: Final = 500_000_000
LEAST_CALLS: Final = 10
TOLERANCE: Final = 1.5
SLACK_NS: Final = 1_000_000.0

_SMOOTHING: Final = 0.2
_LEAST_GRADIENT: Final = 0.5
_MOST_OVER_PEAK: Final = 5.0
_RETURN: Final = 2.0


@final
class GradientLimit(ConcurrencyLimit):
    """See the module; the arguments are those of `ConcurrencyLimit`."""

    def __init__(
        self,
        initial: SupportsIndex,
        least: SupportsIndex = DEFAULT_LEAST,
        most: SupportsIndex = DEFAULT_MOST,
    ) -> None:
        super().__init__(initial, least, most)
        self._window = LatencyWindow(PERIOD_NS, LEAST_CALLS, self.least)
        self._baseline = Baseline()
        self._exact = float(self.limit)
        # Where the limit was when calls were last fast, and whether it is on its way there.
        self._good = float(self.most)
        self._returning = True

    def observe(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> None:  # noqa: FBT001 - see the base
        if self._window.add(now, latency_ns, in_flight, dropped):
            window = self._window
            peak = window.peak
            gradient = min(self._judge(), passed(window))
            window.clear()
            self._move(gradient, float(peak))

    def baseline_ns(self) -> i64:
        return int(self._baseline.ns)

    def _judge(self) -> float:
        """The gradient of the window's latencies; teaches the baseline."""
        window = self._window
        if not window.has_latency:
            return 1.0
        baseline = self._baseline
        if baseline.ns == 0.0:
            baseline.start(window.calm_ns())
        typical = window.typical_ns()
        tolerable = max(TOLERANCE * baseline.ns, baseline.ns + SLACK_NS)
        gradient = 1.0
        if typical > tolerable:
            gradient = max(_LEAST_GRADIENT, tolerable / typical)
        if baseline.learn(typical, self, window.peak, tolerated=gradient == 1.0):
            self._returning = True
            return 1.0
        return gradient

    def _move(self, gradient: float, peak: float) -> None:
        before = self._exact
        if gradient < 1.0:
            if self._returning:
                self._returning = False
                self._good = before
            aim = before * gradient
        else:
            self._returning = self._returning and before < self._good
            headroom = _RETURN * before if self._returning else sqrt(before)
            aim = max(before, min(before + headroom, _MOST_OVER_PEAK * peak))
        self._exact = before + _SMOOTHING * (aim - before)
        self._exact = min(max(self._exact, float(self.least)), float(self.most))
        if gradient == 1.0 and not self._returning:
            self._good = self._exact
        self.limit = int(self._exact)


def passed(window: LatencyWindow) -> float:
    """The part of a window's calls that was not dropped, 0.5 at least; 1.0 when few were."""
    if window.drops * 10 <= window.calls:
        return 1.0
    return max(_LEAST_GRADIENT, 1.0 - float(window.drops) / float(window.calls))
