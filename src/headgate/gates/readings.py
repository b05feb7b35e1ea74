"""What this process and its container use, read from the operating system.

In a container with a quota, the container's use over its quota counts: the machine's figures speak of other
people's work. Without one, it is the machine's use of those processors that this process may run on.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import ConfigurationError
from headgate.gates.cgroup import Cgroup

if TYPE_CHECKING:
    from headgate.gates.cgroup import CpuQuota, MemoryLimit

__all__ = ["Rate", "Reading", "Readings", "SystemReadings"]

# Linux counts a processor's time in ticks of 10 ms: over half a second that is good to 2 %.
_CPU_WINDOW_NS: Final = NS_PER_SECOND // 2
# Its stall times are brought up to date only every two seconds.
_PSI_WINDOW_NS: Final = 2 * NS_PER_SECOND
_NETWORK_WINDOW_NS: Final = NS_PER_SECOND
_REFRESH_NS: Final = 10 * NS_PER_SECOND
_STALLS: Final = ("cpu", "memory")
_NOT_BUSY: Final = ("idle", "iowait", "guest", "guest_nice")  # guests are in user time already


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read at one moment. None: not known here, or not yet (shares of time need two readings).

    Attributes:
        cpu: used share of the processors that this process may use; 1.0 is all of them.
        cores: how many processors' worth of time it may use.
        process_cpu: processors' worth of time that this process alone uses.
        memory: used share of the memory that this process may use.
        memory_limit: how much that is, in bytes.
        process_memory: resident bytes of this process.
        psi_some: share of time in which some task was held up for want of processor or memory.
        network: bytes a second, sent or received, whichever is more; without the loopback.
    """

    cpu: float | None = None
    cores: float | None = None
    process_cpu: float | None = None
    memory: float | None = None
    memory_limit: int | None = None
    process_memory: int | None = None
    psi_some: float | None = None
    network: float | None = None


class Readings(Protocol):
    """Where a `LoadMonitor` gets its readings from; write your own for another platform, or for tests."""

    def read(self, now_ns: int) -> Reading:
        """Read everything now; ``now_ns`` is the monitor's clock."""


@final
class Rate:
    """How fast a counter grows, per second, over a window of readings of it."""

    __slots__ = ("_readings", "_window_ns")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._readings: deque[tuple[int, float]] = deque()

    def update(self, total: float | None, now_ns: int) -> float | None:
        """Take a reading in; None until there are two. A counter or clock that goes back starts anew."""
        seen = self._readings
        if total is None:
            seen.clear()
            return None
        if seen and (total < seen[-1][1] or now_ns < seen[-1][0]):
            seen.clear()
        if not seen or now_ns > seen[-1][0]:
            seen.append((now_ns, total))
        while len(seen) > 2 and now_ns - seen[1][0] >= self._window_ns:
            seen.popleft()
        since, start = seen[0]
        if now_ns == since:
            return None
        return (total - start) * NS_PER_SECOND / (now_ns - since)


@final
class SystemReadings:
    """Reads this machine, by psutil and the files of Linux.

    Args:
        cgroup: the container; found when left out.
        system: psutil, or what answers like it in tests.

    Raises:
        ConfigurationError: psutil is not installed.
    """

    def __init__(self, cgroup: Cgroup | None = None, system: Any = None) -> None:
        self._psutil = _psutil() if system is None else system
        self._cgroup = Cgroup() if cgroup is None else cgroup
        self._cpus = _own_cpus(self._psutil)
        self._cpu = Rate(_CPU_WINDOW_NS)
        self._process_cpu = Rate(_CPU_WINDOW_NS)
        self._stalls = {name: Rate(_PSI_WINDOW_NS) for name in _STALLS}
        self._sent = Rate(_NETWORK_WINDOW_NS)
        self._received = Rate(_NETWORK_WINDOW_NS)
        self._refreshed_ns: int | None = None
        self._pid = -1
        self._process: Any = None
        self._had_quota = False

    def read(self, now_ns: int) -> Reading:
        """Read everything; takes some tenths of a millisecond."""
        self._refresh(now_ns)
        quota = self._cgroup.cpu()
        limit = self._cgroup.memory()
        cores = float(len(self._cpus)) if quota is None else min(quota.cores, len(self._cpus))
        memory, memory_limit = self._memory(limit)
        process = self._own_process()
        times = process.cpu_times()
        return Reading(
            cpu=self._busy(quota, cores, now_ns),
            cores=cores,
            process_cpu=self._process_cpu.update(times.user + times.system, now_ns),
            memory=memory,
            memory_limit=memory_limit,
            process_memory=process.memory_info().rss,
            psi_some=self._stalled(now_ns),
            network=self._network(now_ns),
        )

    def _refresh(self, now_ns: int) -> None:
        """Now and then: limits of a container, and the processors of a process, can be changed."""
        last = self._refreshed_ns
        if last is None or not 0 <= now_ns - last < _REFRESH_NS:
            self._refreshed_ns = now_ns
            self._cgroup.refresh()
            self._cpus = _own_cpus(self._psutil)

    def _busy(self, quota: CpuQuota | None, cores: float, now_ns: int) -> float | None:
        if (quota is not None) != self._had_quota:  # another counter from here on
            self._cpu.update(None, now_ns)
            self._had_quota = quota is not None
        if quota is not None:
            used = quota.used_ns / NS_PER_SECOND
        else:
            used = sum(_busy_seconds(self._psutil, self._cpus))
        rate = self._cpu.update(used, now_ns)
        return None if rate is None else rate / cores

    def _memory(self, limit: MemoryLimit | None) -> tuple[float | None, int | None]:
        machine = self._psutil.virtual_memory()
        if limit is not None and (not machine.total or limit.limit < machine.total):
            return limit.used / limit.limit, limit.limit
        if not machine.total:
            return None, None
        return 1.0 - machine.available / machine.total, machine.total

    def _stalled(self, now_ns: int) -> float | None:
        worst: float | None = None
        for name, rate in self._stalls.items():
            total = self._cgroup.stalled_us(name)
            share = rate.update(None if total is None else total / 1e6, now_ns)
            if share is not None:
                worst = max(worst or 0.0, min(share, 1.0))
        return worst

    def _network(self, now_ns: int) -> float | None:
        cards = self._psutil.net_io_counters(pernic=True, nowrap=False) or {}
        outside = [card for name, card in cards.items() if name != "lo"]
        if not outside:
            return None
        sent = self._sent.update(sum(card.bytes_sent for card in outside), now_ns)
        received = self._received.update(sum(card.bytes_recv for card in outside), now_ns)
        return None if sent is None or received is None else max(sent, received)

    def _own_process(self) -> Any:
        pid = os.getpid()
        if pid != self._pid:  # the first reading, or the first one in a forked child
            self._pid = pid
            self._process = self._psutil.Process(pid)
            self._process_cpu.update(None, 0)
        return self._process


def _busy_seconds(psutil: Any, cpus: list[int]) -> list[float]:
    times = psutil.cpu_times(percpu=True)
    # In a sandbox fewer may be told of than there are; then all of them stand for ours.
    own = [times[cpu] for cpu in cpus if cpu < len(times)] or times
    return [sum(each) - sum(getattr(each, name, 0.0) for name in _NOT_BUSY) for each in own]


def _own_cpus(psutil: Any) -> list[int]:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(psutil.cpu_count() or 1))


def _psutil() -> Any:
    try:
        import psutil  # noqa: PLC0415 - an extra, asked for only when the system is read
    except ImportError as error:
        raise ConfigurationError(
            "reading the load of this machine needs psutil; install headgate[monitor], or give "
            "readings of your own"
        ) from error
    return psutil
