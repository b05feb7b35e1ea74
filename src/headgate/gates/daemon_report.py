"""What a daemon's guard tells: log lines, the metrics document; and what it does about full memory."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.thresholds import Status, Threshold
from headgate.clock import NS_PER_MS, NS_PER_SECOND, seconds_to_ns
from headgate.gates.load_report import UNITS
from headgate.gates.memory_release import release_memory

if TYPE_CHECKING:
    from headgate.gates.daemon_guard import DaemonGuard
    from headgate.gates.load_report import LoadReport, ResourceReport

__all__ = ["DaemonReporter"]

_log = logging.getLogger("headgate.daemon")
_RELEASE_NS: Final = 10 * NS_PER_SECOND
_SILENCE_NS: Final = 10 * NS_PER_SECOND
_COUNTED: Final = ("connections", "concurrent_requests", "requests_per_minute")


@final
class _Every:
    """Whether something is due that is done now and then; a clock that jumps makes it due."""

    __slots__ = ("_interval_ns", "_last_ns")

    def __init__(self, interval_ns: int, now: int) -> None:
        self._interval_ns = interval_ns
        self._last_ns = now

    def is_due(self, now: int) -> bool:
        if 0 <= now - self._last_ns < self._interval_ns:
            return False
        self._last_ns = now
        return True


@final
class DaemonReporter:
    """Follows one guard. Its `turn` is for one thread at a time."""

    def __init__(self, guard: DaemonGuard, now: int) -> None:
        self._guard = guard
        self._began_ns = now
        self._began_wall_ns = guard.clock.wall_ns()
        self._monitor_line = _Every(seconds_to_ns(guard.limits.monitor_interval), now)
        self._summary_line = _Every(seconds_to_ns(guard.limits.summary_interval), now)
        self._release = _Every(_RELEASE_NS, now - _RELEASE_NS)
        limits = guard.limits
        self._counted = {name: Threshold() for name in _COUNTED}
        self._most = dict(
            zip(
                _COUNTED,
                (
                    limits.max_connections,
                    limits.max_concurrent_requests,
                    limits.max_requests_per_minute,
                ),
                strict=True,
            )
        )
        for name in _COUNTED:
            self.count(name, 0)
        self._spoke: dict[str, _Every] = {}
        self._standing: dict[str, Status] = {}
        self._violations: dict[str, int] = {}

    def count(self, name: str, value: int) -> None:
        """Take in how many there are now, of one of the things that are counted."""
        self._counted[name].update(value, self._most[name])

    def turn(self, report: LoadReport, now: int) -> None:
        """Log what changed, and the lines that are due; give memory back when there is too much."""
        for name in self._guard.watched():
            self._note(name, report.resources[name], now)
        for name, threshold in self._counted.items():
            self._note(name, threshold, now)
        if "memory" in self._guard.violations_in(report) and self._release.is_due(now):
            release_memory()
        if self._monitor_line.is_due(now):
            _log.info("%s", self._line(report))
        if self._summary_line.is_due(now):
            _log.info("%s", self._summary(now))

    def document(self, report: LoadReport, now: int) -> dict[str, Any]:
        """The metrics document. Times are in seconds; other units are `UNITS` of `LoadReport`."""
        guard = self._guard
        figures = guard.statistics.read(now)
        resources = {
            name: _resource(report.resources[name], UNITS[name]) for name in ("memory", "cpu")
        }
        for name, threshold in self._counted.items():
            resources[name] = _resource(threshold, name.partition("_")[0])
        return {
            "daemon": {
                "name": guard.name,
                "pid": os.getpid(),
                "profile": guard.limits.profile,
                "status": self._status(report),
                "started_at": self._began_wall_ns / NS_PER_SECOND,
                "uptime": max(0, now - self._began_ns) / NS_PER_SECOND,
            },
            "resources": resources,
            "performance": {
                "total": figures.total,
                "ok": figures.ok,
                "failed": figures.failed,
                "abandoned": figures.abandoned,
                "in_flight": guard.in_flight,
                "mean": figures.mean_ns / NS_PER_SECOND,
                "p95": figures.p95_ns / NS_PER_SECOND,
                "p99": figures.p99_ns / NS_PER_SECOND,
                "requests_per_second": figures.per_second,
                "error_rate": figures.error_rate,
            },
            "security": {"validation_failures": guard.invalid, "rejections": guard.rejections},
            "connections": {
                "total": guard.connections.total,
                "active": len(guard.connections),
                "stale": guard.connections.stale,
            },
        }

    def _status(self, report: LoadReport) -> str:
        if self._guard.stopping:
            return "stopping"
        if self._guard.violations_in(report):
            return "violated"
        limited = any(each.status is Status.VIOLATE for each in self._counted.values())
        return "limited" if limited else "ok"

    def _note(self, name: str, resource: ResourceReport | Threshold, now: int) -> None:
        """A line when the standing changed, but not one after the other while it goes up and down."""
        status, value = resource.status, resource.value
        if resource.violations > self._violations.get(name, 0) and status is not Status.VIOLATE:
            status, value = Status.VIOLATE, resource.peak  # it came and went between two turns
        if status is self._standing.get(name, Status.OK):
            self._violations[name] = resource.violations
            return
        if not self._spoke.setdefault(name, _Every(_SILENCE_NS, now - _SILENCE_NS)).is_due(now):
            return
        self._violations[name] = resource.violations
        self._standing[name] = status
        _log.log(
            logging.INFO if status is Status.OK else logging.WARNING,
            "%s: %s %s, %.0f of %.0f%s",
            self._guard.name,
            name.replace("_", " "),
            _WORDS[status],
            value or 0.0,
            resource.limit or 0.0,
            _SHORT.get(name, ""),
        )

    def _line(self, report: LoadReport) -> str:
        guard, limits = self._guard, self._guard.limits
        used = [
            f"{name} {each.value or 0.0:.0f} of {each.limit:.0f}{_SHORT[name]}"
            for name, each in report.resources.items()
            if name in guard.watched() and each.limit is not None
        ]
        return ", ".join(
            [
                f"{guard.name}: {len(guard.connections)} of {limits.max_connections} connections",
                f"{guard.in_flight} of {limits.max_concurrent_requests} requests under way",
                f"{guard.minute_count()} of {limits.max_requests_per_minute} in the last minute",
                *used,
            ]
        )

    def _summary(self, now: int) -> str:
        guard = self._guard
        figures = guard.statistics.read(now)
        return (
            f"{guard.name}: up {max(0, now - self._began_ns) / NS_PER_SECOND:.0f} s, {figures.total} "
            f"requests ({figures.ok} ok, {figures.failed} failed, {figures.abandoned} abandoned), "
            f"mean {figures.mean_ns / NS_PER_MS:.1f} ms, p95 {figures.p95_ns / NS_PER_MS:.1f} ms, "
            f"p99 {figures.p99_ns / NS_PER_MS:.1f} ms, {figures.per_second:.1f} a second, "
            f"{guard.rejections} rejected, {guard.invalid} invalid, {guard.connections.total} "
            f"connections, {guard.connections.stale} of them stale"
        )


_WORDS: Final = {
    Status.OK: "fine again",
    Status.WARN: "near the limit",
    Status.VIOLATE: "at the limit",
}
_SHORT: Final = {"memory": " MB", "cpu": " %", "network": " Mbit/s"}


def _resource(resource: ResourceReport | Threshold, unit: str) -> dict[str, Any]:
    return {
        "current": resource.value,
        "limit": resource.limit,
        "peak": resource.peak,
        "status": resource.status.value,
        "warnings": resource.warnings,
        "violations": resource.violations,
        "unit": unit,
    }
