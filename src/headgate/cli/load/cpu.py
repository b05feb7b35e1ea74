"""Whose processor time: the server's, found by the port that it listens on, and how busy the machine is."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.cli.load.result import LoadResult

__all__ = ["CpuMeter", "busy_machine", "cpu_seconds", "listener_pid"]

_LISTENING = "0A"


class CpuMeter:
    """The processor time of the server, and ours, between two moments.

    Args:
        server: tells the server's processor time in seconds, or None.
    """

    def __init__(self, server: Callable[[], float | None]) -> None:
        self._server = server
        self._server_began: float | None = None
        self._own_began = 0.0

    def start(self) -> None:
        """The first moment."""
        self._server_began = self._server()
        self._own_began = _own_seconds()

    def stop(self, result: LoadResult, seconds: float) -> None:
        """The second moment, so many seconds later."""
        server = self._server()
        result.client_cpu = (_own_seconds() - self._own_began) / seconds
        if server is not None and self._server_began is not None:
            result.server_cpu = server - self._server_began


def _own_seconds() -> float:
    """Ours, and that of the programs that we ran to their end."""
    return sum(os.times()[:4])


def listener_pid(host: str, port: int) -> int | None:
    """The process on this machine that listens on the port; None when it is elsewhere or not to be seen."""
    if not _is_here(host):
        return None
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listeners(table, port)}
    targets = {f"socket:[{inode}]" for inode in inodes}
    if not targets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(handle.readlink()) in targets:
                        return int(process.name)
    return None


def cpu_seconds(pid: int) -> float | None:
    """The processor time that a process has taken, user and system; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    values = text.rpartition(")")[2].split()  # a process's name may hold anything
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def busy_machine() -> str | None:
    """What to say when others use the machine already."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    cores = os.cpu_count() or 1
    if load < cores * 0.5:
        return None
    return f"the machine is busy with other things (load {load:.1f} on {cores} cores); figures will be worse"


def _is_here(host: str) -> bool:
    """Whether this address is one of this machine's: only then can one listen on it."""
    with suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with suppress(OSError), socket.socket(family, kind) as probe:
                probe.bind(address)
                return True
    return False


def _listeners(table: str, port: int) -> list[str]:
    """The inodes of the sockets that listen on a port."""
    try:
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        row[9]
        for row in rows
        if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port
    ]
