"""The load of the live rig: the simulation's events, at the machine's pace."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import Unreachable
from headgate.lab.live.frames import ANSWER, ASK, Ask, Status, frames, pack_request
from headgate.lab.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.lab.workload import Request, Tally

__all__ = ["LiveTime", "Remote", "Usage", "cores", "pinned"]

_HOST: Final = "127.0.0.1"
_CHUNK: Final = 1 << 18
_LONGEST_WAIT: Final = 0.01
_PATIENCE_NS: Final = 20 * NS_PER_SECOND
_ASKING: Final = 1 << 31


def cores() -> list[int]:
    """The cores that we may use: the first is for the load, the last for the server."""
    found = sorted(os.sched_getaffinity(0))
    return [found[0], found[-1]]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core for the block's duration."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class LiveTime(Simulation):
    """A simulation whose time is the machine's: events happen when they are due, not before.

    Where the machine is late, what was due is made up for in order, each event with ``now`` at the moment
    when it was due.
    """

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._system = SystemClock()
        self._began_ns = -1
        self._remotes: list[Remote] = []

    def real_now(self) -> int:
        """Nanoseconds since the run began, on the machine's clock."""
        if self._began_ns < 0:
            self._began_ns = self._system.now_ns()
        return self._system.now_ns() - self._began_ns

    def run(self, until_ns: int) -> None:
        """Let everything up to this moment happen, as time passes."""
        while True:
            now = min(self.real_now(), until_ns)
            super().run(now)
            self._exchange()
            if now >= until_ns:
                return

    def add(self, remote: Remote) -> None:
        """Look after a connection's traffic while running."""
        self._remotes.append(remote)

    def _exchange(self) -> None:
        """Send what is to be sent, and hear answers until something is due."""
        for remote in self._remotes:
            remote.write()
        due = self.next_ns
        wait = _LONGEST_WAIT
        if due is not None:
            wait = min(max(0, due - self.real_now()) / NS_PER_SECOND, wait)
        sockets = {sock: remote for remote in self._remotes for sock in remote.sockets}
        blocked = [sock for remote in self._remotes for sock in remote.blocked]
        readable, _, _ = select.select(list(sockets), blocked, [], wait)
        if not readable:
            return
        # What became due while we waited comes before the answers.
        super().run(self.real_now())
        for sock in readable:
            sockets[sock].read(sock)


@dataclass(frozen=True)
class Usage:
    """What a server had used by some moment: seconds of processor time, and counts."""

    processor: float
    burnt: float
    rejections: int

    @property
    def overhead(self) -> float:
        """Seconds of processor time that were not work."""
        return self.processor - self.burnt


class Remote:
    """A server process as the load sees it; in virtual time `headgate.lab.servers.Server` is in its place.

    Args:
        time: whose run it belongs to.
        port: of the server on this machine.
        tally: counts offers, rejections and answers.
        answered: told of each answer to work: (request, status, pressure, now).
        connections: over which requests take turns, each many at a time, as from a proxy.
    """

    def __init__(
        self,
        time: LiveTime,
        port: int,
        tally: Tally,
        answered: Callable[[Request, Status, float, int], object] | None = None,
        connections: int = 1,
    ) -> None:
        self._time = time
        self._tally = tally
        self._answered = answered
        self._open: dict[int, Request] = {}
        self._values: dict[int, int] = {}
        self._asked = 0
        self._turn = 0
        self.failures = 0
        self.sockets = [self._connect(port) for _ in range(connections)]
        self._incoming = {sock: bytearray() for sock in self.sockets}
        self._outgoing: dict[socket.socket, deque[bytes]] = {s: deque() for s in self.sockets}
        time.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.sockets:
            sock.close()

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return len(self._open)

    @property
    def blocked(self) -> list[socket.socket]:
        """Those on which something is still to be sent."""
        return [sock for sock, waiting in self._outgoing.items() if waiting]

    def submit(self, request: Request) -> None:
        """Send a request, and count it as offered."""
        self._tally.offer(request)
        self._open[request.number] = request
        self._turn = (self._turn + 1) % len(self.sockets)
        self._outgoing[self.sockets[self._turn]].append(pack_request(request))

    def set_speed(self, speed: float) -> None:
        """Let services that begin from now on take 1/speed of their time."""
        self._send_ask(Ask.SPEED, round(speed * 1000))

    def usage(self) -> Usage:
        """What the server has used so far; waits for the answers, as work in the server goes first.

        Raises:
            Unreachable: it does not answer within 20 s.
        """
        asks = (Ask.PROCESSOR, Ask.BURNT, Ask.REJECTIONS)
        numbers = [self._send_ask(ask, 0) for ask in asks]
        give_up_ns = self._time.real_now() + _PATIENCE_NS
        while not all(number in self._values for number in numbers):
            if self._time.real_now() > give_up_ns:
                raise Unreachable("the server of the live rig does not answer any more")
            self._time.run(self._time.real_now() + NS_PER_SECOND // 100)
        processor, burnt, rejections = (self._values.pop(number) for number in numbers)
        return Usage(processor / NS_PER_SECOND, burnt / NS_PER_SECOND, rejections)

    def write(self) -> None:
        """Send as much as the sockets take."""
        for sock, waiting in self._outgoing.items():
            if waiting:
                data = b"".join(waiting)
                waiting.clear()
                with contextlib.suppress(BlockingIOError):
                    data = data[sock.send(data) :]
                if data:
                    waiting.append(data)

    def read(self, sock: socket.socket) -> None:
        """Hear answers.

        Raises:
            Unreachable: the server has gone.
        """
        data = sock.recv(_CHUNK)
        if not data:
            raise Unreachable("the server of the live rig closed a connection amid the run")
        buffer = self._incoming[sock]
        buffer += data
        now = self._time.real_now()
        for number, status, permille, value in frames(buffer, ANSWER):
            if status == Status.VALUE:
                self._values[number] = value
            else:
                self._count(self._open.pop(number), Status(status), permille / 1000, now)

    def _count(self, request: Request, status: Status, pressure: float, now: int) -> None:
        if status is Status.DONE:
            self._tally.done(request, now)
        else:
            self._tally.reject(request, now)
            self.failures += status is Status.FAILED
        if self._answered is not None:
            self._answered(request, status, pressure, now)

    def _send_ask(self, ask: Ask, value: int) -> int:
        self._asked += 1
        number = _ASKING + self._asked
        frame = ASK.pack(number, value, 0, 0, 0, ask, b"")
        self._outgoing[self.sockets[0]].append(frame)
        return number

    @staticmethod
    def _connect(port: int) -> socket.socket:
        sock = socket.create_connection((_HOST, port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(0)
        return sock
