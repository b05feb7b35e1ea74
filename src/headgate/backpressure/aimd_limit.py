"""AIMD: a limit of calls in flight that creeps up until something is dropped, and then gives way.

A call counts as lost when it was dropped, or took longer than the timeout::

    L = L + 1        once per window (0.5 s and 10 calls at least) in which none was lost
                     and at least half of it was in use
    L = 0.9 * L      at the first loss, and then not again until a window is over

One loss per window counts, because losses come in bursts: were each of a hundred to count, the limit would
be at its least after the first of them.

It looks at no latency below the timeout, so it needs a callee that says when it is overloaded. Behind
one that only becomes slower, it grows until the timeout.

From Chiu and Jain 1989, as in Netflix's concurrency-limits (``AIMDLimit``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, SupportsIndex, final

from headgate.backpressure.concurrency_limit import DEFAULT_LEAST, DEFAULT_MOST, ConcurrencyLimit
from headgate.backpressure.gradient_limit import LEAST_CALLS, PERIOD_NS
from headgate.backpressure.latency_window import LatencyWindow
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["DEFAULT_TIMEOUT_NS", "AimdLimit"]

DEFAULT_TIMEOUT_NS: Final = 5_000_000_000
_BACKOFF: Final = 0.9


@final
class AimdLimit(ConcurrencyLimit):
    """See the module; the other arguments are those of `ConcurrencyLimit`.

    Args:
        timeout_ns: a call that took longer counts as lost; above 0.
    """

    def __init__(
        self,
        initial: SupportsIndex,
        least: SupportsIndex = DEFAULT_LEAST,
        most: SupportsIndex = DEFAULT_MOST,
        timeout_ns: i64 = DEFAULT_TIMEOUT_NS,
    ) -> None:
        super().__init__(initial, least, most)
        if timeout_ns <= 0:
            raise InvalidInput(f"timeout_ns must be above 0, got {timeout_ns}")
        self._window = LatencyWindow(PERIOD_NS, LEAST_CALLS, self.least)
        self._timeout_ns: i64 = timeout_ns
        self._exact = float(self.limit)

    def observe(self, now: i64, latency_ns: i64, in_flight: i64, dropped: bool) -> None:  # noqa: FBT001 - see the base
        window = self._window
        lost = dropped or latency_ns > self._timeout_ns
        if lost and window.drops == 0:
            self._set(self._exact * _BACKOFF)
        complete = window.add(now, latency_ns, in_flight, lost)
        if complete:
            if window.drops == 0 and float(window.peak) * 2.0 >= self._exact:
                self._set(self._exact + 1.0)
            window.clear()

    def _set(self, limit: float) -> None:
        self._exact = min(max(limit, float(self.least)), float(self.most))
        self.limit = int(self._exact)
