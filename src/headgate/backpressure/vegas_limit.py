"""Vegas: a limit of calls in flight that keeps a short queue, worked out from latencies.

Once per window (as in `headgate.backpressure.gradient_limit`), by Little's law::

    queue = L * (1 - baseline / typical)          0 when typical <= baseline + 1 ms
    s     = max(1, log10(L))
    t     = min(s, L / 10)
    L'    = L + 6 * s      when queue <= t
          = L + s          when queue < 3 * t
          = L - s          when queue > 6 * t
          = L              otherwise; and L - s when more than a tenth of the calls were dropped

(``t`` is ``s`` but for limits below 10. Of those the queue is never 6, and they would be stuck.) It does
not grow while less than half of it is in use. Choose it over the gradient for a callee that is to be kept
with next to no queue, at the price of a limit that falls slowly after a shock (by ``s`` per window).

From TCP Vegas (Brakmo, Peterson 1995) as Netflix's concurrency-limits has it (``VegasLimit``). That one
takes some sample for its baseline now and then, which is a queued one under overload; this one learns as
`headgate.backpressure.baseline` says.
"""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Final, SupportsIndex, final

from headgate.backpressure.baseline import Baseline
from headgate.backpressure.concurrency_limit import DEFAULT_LEAST, DEFAULT_MOST, ConcurrencyLimit
from headgate.backpressure.gradient_limit import LEAST_CALLS, PERIOD_NS, SLACK_NS, passed
from headgate.backpressure.latency_window import LatencyWindow

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["VegasLimit"]

_LOW: Final = 3.0
_HIGH: Final = 6.0


@final
class VegasLimit(ConcurrencyLimit):
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

    def observe(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> None:  # noqa: FBT001 - see the base
        if self._window.add(now, latency_ns, in_flight, dropped):
            window = self._window
            step = max(1.0, log10(self._exact))
            change = self._change(step)
            if change > 0.0 and float(window.peak) * 2.0 < self._exact:
                change = 0.0
            window.clear()
            self._exact = min(max(self._exact + change, float(self.least)), float(self.most))
            self.limit = int(self._exact)

    def baseline_ns(self) -> i64:
        return int(self._baseline.ns)

    def _change(self, step: float) -> float:
        """What the window asks for; teaches the baseline."""
        window = self._window
        if passed(window) < 1.0 or not window.has_latency:
            return -step
        baseline = self._baseline
        if baseline.ns == 0.0:
            baseline.start(window.calm_ns())
        typical = window.typical_ns()
        queue = 0.0
        if typical > baseline.ns + SLACK_NS:
            queue = self._exact * (1.0 - baseline.ns / typical)
        threshold = min(step, self._exact / 10.0)
        tolerated = queue <= _HIGH * threshold
        if baseline.learn(typical, self, window.peak, tolerated=tolerated):
            return step
        if queue <= threshold:
            return _HIGH * step
        if queue < _LOW * threshold:
            return step
        return 0.0 if tolerated else -step
