"""A service of several processes, seen from outside: who they are, and what they hold."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.support import servers
from tests.support.service import HOST, PATIENCE, Peer, message, process_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_WORKER = "headgate.server.worker"
_VALKEY = "valkey.sock"


@dataclass(frozen=True)
class Node:
    """A supervisor and what it started."""

    server: servers.Server

    @property
    def port(self) -> int:
        return self.server.port

    def workers(self) -> list[int]:
        """The worker processes."""
        return [one.pid for one in self._children() if _WORKER in _command(one)]

    def valkey(self) -> int:
        """The private Valkey; 0 while there is none."""
        return next((one.pid for one in self._children() if _VALKEY in _command(one)), 0)

    def directory(self) -> Path:
        """Of the private Valkey."""
        words = _command(psutil.Process(self.valkey())).replace("unixsocket:", "").split()
        return Path(next(word for word in words if word.endswith(_VALKEY))).parent

    def connections(self, worker: int) -> int:
        """How many REST connections a worker has."""
        open_now = psutil.Process(worker).net_connections(kind="tcp")
        ours = [one for one in open_now if one.laddr and one.laddr.port == self.port]
        return sum(one.status == psutil.CONN_ESTABLISHED for one in ours)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.server.process.send_signal(number)
        return self.server.process.wait(PATIENCE)

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.server.process.pid).children()
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has collected yet counts."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def node_of_workers(directory: Path, workers: int = 2, **environment: str) -> Iterator[Node]:
    """A service with so many workers, all of them ready, until the block ends."""
    servers.require_program("valkey-server", "redis-server")
    with process_service(directory, workers=str(workers), **environment) as server:
        node = Node(server)
        yield node


@dataclass
class Caller:
    """Asks one thing again and again in a thread of its own, and remembers what went wrong.

    Args:
        ports: of the nodes, which take turns.
        request: what is asked.
        keep: whether connections are kept; else each request has its own.
        may_be_refused: a port where nobody listens is passed over, and is no failure.
        may_be_cut_off: so is a connection that ends without an answer; these are in ``cut_off``.
    """

    ports: list[int]
    request: bytes = message("POST", "/api/v1/check", b'{"key": "a"}')
    keep: bool = False
    may_be_refused: bool = False
    may_be_cut_off: bool = False
    answers: list[Any] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._kept: dict[int, Peer] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)
        for peer in self._kept.values():
            peer.socket.close()

    def await_answers(self, count: int) -> None:
        """Return when so many more have come."""
        wanted = len(self.answers) + count
        eventually(lambda: len(self.answers) >= wanted or self.failures)
        assert not self.failures, self.failures

    def _work(self) -> None:
        turn = 0
        while not self._ended.wait(0.001):
            port = self.ports[turn % len(self.ports)]
            turn += 1
            try:
                self._ask(port)
            except ConnectionRefusedError as error:
                if not self.may_be_refused:
                    self.failures.append(repr(error))
            except OSError as error:
                known = self.cut_off if self.may_be_cut_off else self.failures
                known.append(repr(error))

    def _ask(self, port: int) -> None:
        peer = self._kept.pop(port, None) or Peer(port)
        answer = None
        try:
            peer.send(self.request)
            answer = peer.receive()
            self.answers.append(answer)
        finally:
            if self.keep and answer is not None and answer.get("connection") != "close":
                self._kept[port] = peer
            else:
                peer.socket.close()


def port_is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return False
    return True
