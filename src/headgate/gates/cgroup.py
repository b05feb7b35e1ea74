"""What the container allows: processor quota, memory limit and stall times from Linux control groups.

Version 2, version 1 and both at once (a "hybrid" host) are read; on anything else all answers are None.
A limit may be set on the group itself or on any group above it, so the tightest one on the way up counts,
and the use that is held against it is that of the same group.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, scheduler/sched-bwc.rst,
accounting/psi.rst, and proc(5) for ``mountinfo``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, final

__all__ = ["Cgroup", "CpuQuota", "MemoryLimit"]

# "No limit" in version 1 is the largest number of whole pages in 63 bits; nothing real comes near.
_UNLIMITED: Final = 1 << 60
_LONGEST: Final = 1 << 20
_SOME_TOTAL: Final = re.compile(r"^some .*\btotal=(\d+)")
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class CpuQuota(NamedTuple):
    """How much processor time a group may use.

    Attributes:
        cores: how many processors' worth of it.
        used_ns: what it has used so far.
    """

    cores: float
    used_ns: int


class MemoryLimit(NamedTuple):
    """How much memory a group may use.

    Attributes:
        limit: bytes.
        used: bytes that it uses. File pages not touched lately do not count: they can be had back any time.
    """

    limit: int
    used: int


_CpuReader: TypeAlias = Callable[[], CpuQuota | None]
_MemoryReader: TypeAlias = Callable[[], MemoryLimit | None]


class _Mount(NamedTuple):
    """A mounted hierarchy: which group its top is, where that is, and what it controls (v2: nothing)."""

    top: str
    point: Path
    controllers: frozenset[str]


@final
class Cgroup:
    """The control groups of this process.

    They are found once. Which of them have a limit is looked up by `refresh`, for it can change while the
    process runs; `cpu` and `memory` read only those, several times a second.

    Args:
        root: where ``proc`` and ``sys`` are looked for; tests give a tree of files.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        memberships = _memberships(f"{root}/proc/self/cgroup")
        mounts = _mounts(root)
        self._v2 = _groups(mounts, memberships, "")
        # Mounted together nearly everywhere. Where not, and where this process is in different groups of
        # both, nothing says what the group with the quota uses.
        self._cpu_v1: list[tuple[str, str]] = []
        if memberships.get("cpu") == memberships.get("cpuacct"):
            usage_v1 = _groups(mounts, memberships, "cpuacct")
            self._cpu_v1 = list(zip(_groups(mounts, memberships, "cpu"), usage_v1, strict=False))
        self._memory_v1 = _groups(mounts, memberships, "memory")
        # The topmost group of all is the machine; it has no type.
        self._own = next((g for g in self._v2[:1] if _text(f"{g}/cgroup.type")), None)
        self._machine = f"{root}/proc/pressure"
        self._cpus: list[_CpuReader] = []
        self._memories: list[_MemoryReader] = []
        self.refresh()

    def refresh(self) -> None:
        """Look again for limits that were set or lifted."""
        cpus = [partial(_quota_v2, group) for group in self._v2]
        cpus += [partial(_quota_v1, group, usage) for group, usage in self._cpu_v1]
        self._cpus = [read for read in cpus if read() is not None]
        memories = [partial(_memory_v2, group) for group in self._v2]
        memories += [partial(_memory_v1, group) for group in self._memory_v1]
        self._memories = [read for read in memories if read() is not None]

    def cpu(self) -> CpuQuota | None:
        """The tightest processor quota; None when there is none."""
        quotas = [quota for read in self._cpus if (quota := read()) is not None]
        return min(quotas, default=None)

    def memory(self) -> MemoryLimit | None:
        """The tightest memory limit; None when there is none."""
        limits = [limit for read in self._memories if (limit := read()) is not None]
        return min(limits, default=None)

    def stalled_us(self, resource: str) -> int | None:
        """Microseconds so far in which some task was held up for want of ``cpu``, ``memory`` or ``io``.

        Those of the group where the kernel says so, else those of the whole machine; but not the machine's
        where the group has a limit of its own, for then they speak of other people's work.
        """
        limited = {"cpu": bool(self._cpus), "memory": bool(self._memories)}
        text = "" if self._own is None else _text(f"{self._own}/{resource}.pressure")
        if not text and not limited.get(resource, False):
            text = _text(f"{self._machine}/{resource}")
        total = _SOME_TOTAL.search(text)
        return None if total is None else int(total[1])


def _memberships(path: str) -> dict[str, str]:
    """Controller -> group, as in ``/proc/self/cgroup``; "" for version 2."""
    found: dict[str, str] = {}
    for line in _text(path).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found.update((name, parts[2]) for name in parts[1].split(","))
    return found


def _mounts(root: Path) -> list[_Mount]:
    found = []
    for line in _text(f"{root}/proc/self/mountinfo").splitlines():
        head, separator, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] in {"cgroup", "cgroup2"}:
            controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset({""})
            point = root / _unescape(fields[4]).lstrip("/")
            found.append(_Mount(_unescape(fields[3]), point, controllers))
    return found


def _groups(mounts: list[_Mount], memberships: dict[str, str], controller: str) -> list[str]:
    """The folders of the group and of those above it, as far as they can be seen from here."""
    mount = next((mount for mount in mounts if controller in mount.controllers), None)
    own = memberships.get(controller)
    if mount is None or own is None:
        return []
    inside = _inside(mount.top, own)
    folder = mount.point.joinpath(*inside)
    if not folder.is_dir():  # the names are another namespace's; what is mounted here is ours
        return [str(mount.point)]
    return [str(group) for group in (folder, *list(folder.parents)[: len(inside)])]


def _inside(top: str, own: str) -> list[str]:
    """The way from the mounted group down to the own one; nothing when it is not below it."""
    parts = [part for part in own.split("/") if part]
    tops = [part for part in top.split("/") if part]
    if ".." in parts or parts[: len(tops)] != tops:
        return []
    return parts[len(tops) :]


def _quota_v2(group: str) -> CpuQuota | None:
    quota, _, period = _text(f"{group}/cpu.max").partition(" ")
    used = _field(f"{group}/cpu.stat", "usage_usec")
    return _quota(_whole(quota), _whole(period), None if used is None else used * 1_000)


def _quota_v1(group: str, usage: str) -> CpuQuota | None:
    quota = _whole(_text(f"{group}/cpu.cfs_quota_us"))
    period = _whole(_text(f"{group}/cpu.cfs_period_us"))
    return _quota(quota, period, _whole(_text(f"{usage}/cpuacct.usage")))


def _quota(quota: int | None, period: int | None, used_ns: int | None) -> CpuQuota | None:
    if quota is None or quota <= 0 or period is None or period <= 0 or used_ns is None:
        return None
    return CpuQuota(quota / period, used_ns)


def _memory_v2(group: str) -> MemoryLimit | None:
    limit = _whole(_text(f"{group}/memory.max"))
    used = _whole(_text(f"{group}/memory.current"))
    return _limit(limit, used, group, "inactive_file")


def _memory_v1(group: str) -> MemoryLimit | None:
    limit = _whole(_text(f"{group}/memory.limit_in_bytes"))
    used = _whole(_text(f"{group}/memory.usage_in_bytes"))
    return _limit(limit, used, group, "total_inactive_file")


def _limit(limit: int | None, used: int | None, group: str, idle: str) -> MemoryLimit | None:
    if limit is None or used is None or not 0 < limit < _UNLIMITED:
        return None
    return MemoryLimit(limit, max(0, used - (_field(f"{group}/memory.stat", idle) or 0)))


def _field(path: str, name: str) -> int | None:
    """One value of a file of lines "name value"."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _whole(value)
    return None


def _whole(text: str) -> int | None:
    """A whole number; None for ``max``, for nothing and for anything else."""
    text = text.strip()
    return int(text) if _WHOLE.fullmatch(text) else None


def _text(path: str) -> str:
    """What a file says; nothing when there is none or it may not be read.

    By the system's own calls, because this is done a dozen times for each sample of a load monitor, and a
    file object takes four times as long.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(file, _LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(file)


def _unescape(text: str) -> str:
    """A path as ``mountinfo`` writes it: spaces and the like are octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
