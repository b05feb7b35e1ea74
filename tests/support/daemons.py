"""Readings and limits for tests of the daemon guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.gates.daemon_guard import DaemonGuard
from headgate.gates.daemon_limits import DaemonLimits
from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.readings import Reading

if TYPE_CHECKING:
    from headgate.clock import Clock

MB = 1 << 20
MAX_MEMORY_MB = 100


class Usage:
    """What the process is said to use: MB of memory, percent of one processor."""

    def __init__(self) -> None:
        self.memory: float | None = 10.0
        self.cpu: float | None = 5.0

    def read(self, now_ns: int) -> Reading:
        memory = None if self.memory is None else round(self.memory * MB)
        cpu = None if self.cpu is None else self.cpu / 100
        return Reading(process_memory=memory, process_cpu=cpu)


def guarded(clock: Clock, usage: Usage | None = None, **limits: Any) -> DaemonGuard:
    """A guard that believes these readings, each as soon as it is told."""
    monitor = LoadMonitor(
        interval=0.001,
        max_memory_mb=MAX_MEMORY_MB,
        max_cpu_percent=200,
        readings=usage or Usage(),
        clock=clock,
    )
    return DaemonGuard(DaemonLimits(**limits), name="test", monitor=monitor, clock=clock)
