"""How hard pressed this process is, as one number.

Each signal is scaled so that 0 is idle and 1 is at the limit, and the worst one counts::

    p = max(loop lag p90 / 100 ms,    queue delay / 20 ms,       cpu from .80 to .95,
            PSI "some" from .2 to .6, memory from .85 to .95,    in flight / limit)

A maximum rather than a mean: a full memory is no better for an idle processor. Loop lag leads in asyncio
programs, where the processor is never seen to be full; in threaded programs the processor does.

`PressureMeter` smooths it, quick to rise and slow to fall, and says when there is overload, with a gap
between on and off so that it does not flap. See the table in docs/how-to/load-and-pressure.md.
"""

from __future__ import annotations

from math import isnan
from typing import Final, final

from headgate.clock import NS_PER_MS

__all__ = [
    "CEILING",
    "IN_FLIGHT",
    "OFF_BELOW",
    "ON_AT",
    "SIGNAL_NAMES",
    "PressureMeter",
    "Signals",
    "raw_pressure",
]

LOOP_LAG_NS: Final = 100 * NS_PER_MS
QUEUE_DELAY_NS: Final = 20 * NS_PER_MS
CPU_FROM: Final = 0.80
CPU_TO: Final = 0.95
PSI_FROM: Final = 0.2
PSI_TO: Final = 0.6
MEMORY_FROM: Final = 0.85
MEMORY_TO: Final = 0.95

IN_FLIGHT: Final = "in_flight"
SIGNAL_NAMES: Final = ("loop_lag", "queue_delay", "cpu", "psi", "memory", IN_FLIGHT)
"""What `raw_pressure` may name as the cause."""

ATTACK: Final = 0.5
RELEASE: Final = 0.1
STEP_NS: Final = 100 * NS_PER_MS
ON_AT: Final = 1.0
OFF_BELOW: Final = 0.7

# Twice the limit says all there is to say: controllers cut by half at most. Without a ceiling, one stall of
# five seconds (p = 50) would keep overload on for four seconds after; with it, it is one.
CEILING: Final = 2.0


@final
class Signals:
    """One sample of everything that is known. None, or no number at all (NaN): not known.

    Args:
        loop_lag_ns: how late timers fire, the 90th percentile since the last sample.
        queue_delay_ns: how long work waited before it was begun.
        cpu: used share of the processors that this process may use: the container's quota if it has one.
        psi_some: share of time in which some task was held up for want of processor or memory (Linux PSI).
        memory: used share of the memory that this process may use.
        in_flight: requests in flight over the concurrency limit.
    """

    __slots__ = ("cpu", "in_flight", "loop_lag_ns", "memory", "psi_some", "queue_delay_ns")

    def __init__(
        self,
        *,
        loop_lag_ns: float | None = None,
        queue_delay_ns: float | None = None,
        cpu: float | None = None,
        psi_some: float | None = None,
        memory: float | None = None,
        in_flight: float | None = None,
    ) -> None:
        self.loop_lag_ns = loop_lag_ns
        self.queue_delay_ns = queue_delay_ns
        self.cpu = cpu
        self.psi_some = psi_some
        self.memory = memory
        self.in_flight = in_flight

    def scaled(self) -> tuple[float, float, float, float, float, float]:
        """Each signal on the common scale, 0 to `CEILING`, in the order of `SIGNAL_NAMES`."""
        return (
            _scale(self.loop_lag_ns, 0.0, LOOP_LAG_NS),
            _scale(self.queue_delay_ns, 0.0, QUEUE_DELAY_NS),
            _scale(self.cpu, CPU_FROM, CPU_TO),
            _scale(self.psi_some, PSI_FROM, PSI_TO),
            _scale(self.memory, MEMORY_FROM, MEMORY_TO),
            _scale(self.in_flight, 0.0, 1.0),
        )


def raw_pressure(signals: Signals) -> tuple[float, str]:
    """The pressure of one sample, 0 to `CEILING`, and which signal it comes from ("" at 0).

    >>> raw_pressure(Signals(loop_lag_ns=50_000_000, cpu=0.70))
    (0.5, 'loop_lag')
    """
    worst, which = 0.0, ""
    for value, name in zip(signals.scaled(), SIGNAL_NAMES, strict=True):
        if value > worst:
            worst, which = value, name
    return worst, which


@final
class PressureMeter:
    """The smoothed pressure, and whether there is overload.

    Every 100 ms the value moves half the way up to a higher sample, or a tenth of the way down to a lower
    one. `update` may come at any interval: it moves as far as so many steps of 100 ms would have. A clock
    that went back counts as one step.

    >>> meter = PressureMeter()
    >>> [round(meter.update(1.2, now), 3) for now in (0, 100_000_000, 200_000_000)]
    [0.6, 0.9, 1.05]
    >>> meter.overloaded
    True

    Attributes:
        value: the pressure; 1 is at the limit.
        overloaded: on from 1, until below 0.7.
    """

    __slots__ = ("_at", "_started", "overloaded", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.overloaded = False
        self._at: int = 0
        self._started = False

    def update(self, raw: float, now: int) -> float:
        """Take a sample in, and return the new value.

        Args:
            raw: the pressure of the sample. What is no number (NaN) counts as 0.
            now: nanoseconds on any clock.
        """
        target = _scale(raw, 0.0, 1.0)
        elapsed = now - self._at
        if not self._started or elapsed < 0:
            elapsed = STEP_NS
        self._started = True
        self._at = now
        factor = ATTACK if target > self.value else RELEASE
        left: float = (1.0 - factor) ** (elapsed / STEP_NS)
        self.value = target + (self.value - target) * left
        if self.value >= ON_AT:
            self.overloaded = True
        elif self.value < OFF_BELOW:
            self.overloaded = False
        return self.value


def _scale(value: float | None, start: float, end: float) -> float:
    """0 up to ``start``, 1 at ``end``, and on in a straight line up to the ceiling."""
    if value is None or isnan(value) or value <= start:
        return 0.0
    return min((value - start) / (end - start), CEILING)
