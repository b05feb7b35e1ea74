"""The states of a circuit, and the numbers that say when it changes from one to another.

What they mean is told by `headgate.backpressure.breaker`. The state of a circuit is a number where it is
computed with, and a `CircuitState` where people see it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.outcome_window import CountWindow, OutcomeWindow, TimeWindow

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = [
    "CLOSED",
    "DISABLED",
    "FORCED_OPEN",
    "HALF_OPEN",
    "METRICS_ONLY",
    "OPEN",
    "RAMP",
    "STATES",
    "BreakerRule",
    "CircuitState",
]

_MILLION: Final = 1_000_000

CLOSED: Final = 0
OPEN: Final = 1
HALF_OPEN: Final = 2
RAMP: Final = 3
FORCED_OPEN: Final = 4
DISABLED: Final = 5
METRICS_ONLY: Final = 6


class CircuitState(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMP = "ramp"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


STATES: Final = tuple(CircuitState)
"""The states by their numbers."""


@final
class BreakerRule:
    """The numbers of a breaker. They are not checked here: who reads them from people does that.

    Args:
        in_row: failures in a row that open it; 0: that rule is off.
        failure_rate: the share of failures that opens it, to a millionth; 0.0: off.
        slow_rate: likewise of slow calls.
        least_calls: calls in the window before a share means anything, >= 1.
        window_calls: the last so many calls are looked at; 0: those of the last seconds.
        slots: of the window by time.
        slot_ns: the length of each.
        open_ns: how long it stays open the first time.
        longest_ns: how long at most, before jitter.
        jitter: the share by which that is varied, 0 to 1.
        probes: calls that may probe at a time, >= 1.
        successes: of probes that end half-open, >= 1.
        lease_ns: how long a probe may take.
        steps: the shares of the ramp; none: it closes at once.
        step_ns: the least length of a step.
        step_calls: the least number of calls in it, >= 1.
        forgive_ns: how long it must be closed for k to begin afresh.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the rule has as many numbers
        self,
        in_row: int = 0,
        failure_rate: float = 0.5,
        slow_rate: float = 0.0,
        least_calls: int = 20,
        window_calls: int = 0,
        slots: int = 10,
        slot_ns: int = 1_000_000_000,
        open_ns: int = 5_000_000_000,
        longest_ns: int = 60_000_000_000,
        jitter: float = 0.2,
        probes: int = 3,
        successes: int = 5,
        lease_ns: int = 30_000_000_000,
        steps: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0),
        step_ns: int = 5_000_000_000,
        step_calls: int = 10,
        forgive_ns: int = 60_000_000_000,
    ) -> None:
        self.in_row: i64 = in_row
        self.failure_rate = failure_rate
        self.slow_rate = slow_rate
        self.least_calls: i64 = least_calls
        self.window_calls: i64 = window_calls
        self.slots: i64 = slots
        self.slot_ns: i64 = slot_ns
        self.open_ns: i64 = open_ns
        self.longest_ns: i64 = longest_ns
        self.jitter = jitter
        self.probes: i64 = probes
        self.successes: i64 = successes
        self.lease_ns: i64 = lease_ns
        self.steps = steps
        self.step_ns: i64 = step_ns
        self.step_calls: i64 = step_calls
        self.forgive_ns: i64 = forgive_ns
        # Whole numbers, because comparing them is exact, and in compiled code costs next to nothing.
        self.failure_ppm: i64 = round(failure_rate * _MILLION)
        self.slow_ppm: i64 = round(slow_rate * _MILLION)

    def window(self) -> OutcomeWindow:
        """A window as this rule has it."""
        if self.window_calls > 0:
            return CountWindow(self.window_calls)
        return TimeWindow(self.slots, self.slot_ns)

    def trips(self, calls: i64, failures: i64, slow: i64, in_row: i64, least: i64) -> bool:
        """Whether these are enough to open."""
        if self.in_row > 0 and in_row >= self.in_row:
            return True
        if calls < least:
            return False
        if self.failure_ppm > 0 and failures * _MILLION >= self.failure_ppm * calls:
            return True
        return self.slow_ppm > 0 and slow * _MILLION >= self.slow_ppm * calls

    def over_half(self, calls: i64, failures: i64, slow: i64, in_row: i64) -> bool:
        """Whether these are over half of what opens."""
        if self.in_row > 0 and 2 * in_row > self.in_row:
            return True
        if self.failure_ppm > 0 and 2 * failures * _MILLION > self.failure_ppm * calls:
            return True
        return self.slow_ppm > 0 and 2 * slow * _MILLION > self.slow_ppm * calls

    def span(self, openings: i64, uniform: float) -> i64:
        """How long the circuit stays open for the n-th time in a row."""
        span = self.open_ns
        for _ in range(1, openings):
            if span >= self.longest_ns:
                break
            span *= 2
        span = min(span, self.longest_ns)
        return span + round(float(span) * self.jitter * (2.0 * uniform - 1.0))
