"""What a load monitor found, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from headgate.backpressure.pressure import LOOP_LAG_NS, PSI_TO, QUEUE_DELAY_NS
from headgate.backpressure.thresholds import Status, Threshold
from headgate.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.backpressure.pressure import Signals
    from headgate.gates.readings import Reading

__all__ = ["UNITS", "LoadReport", "ResourceReport", "Resources"]

MEGABYTE: Final = 1 << 20
_MEGABIT_IN_BYTES: Final = 125_000

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cpu": "percent of one processor",
        "memory": "MB of 1048576 bytes",
        "network": "Mbit/s",
        "in_flight": "requests",
        "loop_lag": "ms",
        "queue_delay": "ms",
        "psi": "share of time",
    }
)
"""The resources of a report, and the units of their values and limits."""


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """One resource. Units: `UNITS`.

    Attributes:
        value: the latest reading; None when it is not known.
        limit: what it is held against; None when there is no limit.
        ratio: value over limit.
        status: a warning from 80 % of the limit, a violation from 100 %.
        peak: the highest reading so far.
        warnings: how often 80 % was crossed upwards.
        violations: how often 100 % was.
    """

    value: float | None
    limit: float | None
    ratio: float | None
    status: Status
    peak: float
    warnings: int
    violations: int


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One sample of a `LoadMonitor`.

    Attributes:
        at_ns: when, on the monitor's clock.
        pressure: smoothed; 0 idle, 1 at the limit, at most 2.
        raw: the pressure of this sample alone.
        cause: the signal that it comes from, such as ``"loop_lag"``; "" when there is none.
        overloaded: on when the smoothed pressure reaches 1, until it is below 0.7.
        resources: by name; see `UNITS`.
    """

    at_ns: int
    pressure: float
    raw: float
    cause: str
    overloaded: bool
    resources: Mapping[str, ResourceReport]

    @property
    def status(self) -> Status:
        """The worst of all resources."""
        return max((r.status for r in self.resources.values()), key=lambda status: status.severity)

    @property
    def violated(self) -> list[str]:
        """The resources at or over their limits."""
        return [n for n, r in self.resources.items() if r.status is Status.VIOLATE]

    def as_dict(self) -> dict[str, object]:
        """For JSON: plain numbers, text and dictionaries."""
        return {
            "pressure": round(self.pressure, 4),
            "raw": round(self.raw, 4),
            "cause": self.cause,
            "overloaded": self.overloaded,
            "status": self.status.value,
            "resources": {name: _as_dict(r) for name, r in self.resources.items()},
        }


def _as_dict(resource: ResourceReport) -> dict[str, object]:
    return {
        "value": _rounded(resource.value),
        "limit": _rounded(resource.limit),
        "ratio": _rounded(resource.ratio),
        "status": resource.status.value,
        "peak": _rounded(resource.peak),
        "warnings": resource.warnings,
        "violations": resource.violations,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the owner of a monitor allows; None leaves it to the machine or the container."""

    memory_mb: float | None
    cpu_percent: float | None
    network_mbps: float | None
    in_flight: float | None


class Resources:
    """The thresholds of one monitor, one for each resource."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._thresholds = {name: Threshold() for name in UNITS}

    def update(
        self, reading: Reading, signals: Signals, in_flight: tuple[float, float | None]
    ) -> None:
        """Take one sample in."""
        count, most = in_flight
        values: dict[str, tuple[float | None, float | None]] = {
            "cpu": self._cpu(reading),
            "memory": self._memory(reading),
            "network": (_over(reading.network, _MEGABIT_IN_BYTES), self._limits.network_mbps),
            "in_flight": (count, most),
            "loop_lag": (_over(signals.loop_lag_ns, NS_PER_MS), LOOP_LAG_NS / NS_PER_MS),
            "queue_delay": (_over(signals.queue_delay_ns, NS_PER_MS), QUEUE_DELAY_NS / NS_PER_MS),
            "psi": (reading.psi_some, PSI_TO),
        }
        for name, (value, limit) in values.items():
            self._thresholds[name].update(value, limit)

    def report(self) -> Mapping[str, ResourceReport]:
        """All of them, as they stand."""
        return MappingProxyType(
            {
                name: ResourceReport(
                    each.value,
                    each.limit,
                    each.ratio,
                    each.status,
                    each.peak,
                    each.warnings,
                    each.violations,
                )
                for name, each in self._thresholds.items()
            }
        )

    def cpu_share(self, reading: Reading) -> float | None:
        """Of what may be used, by the machine's or by the owner's word, the tighter one."""
        own = _share(_over(reading.process_cpu, 0.01), self._limits.cpu_percent)
        return _worse(reading.cpu, own)

    def memory_share(self, reading: Reading) -> float | None:
        """Likewise."""
        own = _share(_over(reading.process_memory, MEGABYTE), self._limits.memory_mb)
        return _worse(reading.memory, own)

    def _cpu(self, reading: Reading) -> tuple[float | None, float | None]:
        if self._limits.cpu_percent is not None:
            return _over(reading.process_cpu, 0.01), self._limits.cpu_percent
        if reading.cpu is None or reading.cores is None:
            return None, None
        return reading.cpu * reading.cores * 100.0, reading.cores * 100.0

    def _memory(self, reading: Reading) -> tuple[float | None, float | None]:
        if self._limits.memory_mb is not None:
            return _over(reading.process_memory, MEGABYTE), self._limits.memory_mb
        if reading.memory is None or reading.memory_limit is None:
            return None, None
        limit = reading.memory_limit / MEGABYTE
        return reading.memory * limit, limit


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _share(value: float | None, limit: float | None) -> float | None:
    return None if value is None or limit is None else value / limit


def _worse(*shares: float | None) -> float | None:
    return max((s for s in shares if s is not None and not isnan(s)), default=None)
