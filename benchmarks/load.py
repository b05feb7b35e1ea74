"""Load for a server on the other core: as fast as it goes, or at a fixed rate.

At a fixed rate the clock, not the server, says when each request is due (an open loop), and latency
counts from that moment. A server that stalls is thus charged for all who would have come meanwhile;
a closed loop would politely wait and see one slow request (the "coordinated omission").
"""

from __future__ import annotations

import gc
import re
import select
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import HOST, find_program, load_core, pin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.processes import Running

_WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local requests = {}
init = function()
  for place, body in ipairs(bodies) do requests[place] = wrk.format(nil, "%s", nil, body) end
end
local place = 0
request = function()
  place = place %% #requests + 1
  return requests[place]
end
"""


@dataclass
class Throughput:
    """What a closed loop got out of a server."""

    requests: int
    seconds: float
    cpu_ns: int
    failed: int = 0

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_ns / self.requests / 1000


def as_fast_as_it_goes(
    server: Running, path: str, bodies: list[str], seconds: float, connections: int, directory: Path
) -> Throughput:
    """Each connection sends its next request when it has the answer: wrk, or our own client."""
    wrk = find_program("wrk")
    if wrk is not None:
        return _with_wrk(wrk, server, path, bodies, seconds, connections, directory)
    return Closed(server.port, [http_request(path, body) for body in bodies], connections).run(
        server, seconds
    )


def _with_wrk(
    wrk: Path,
    server: Running,
    path: str,
    bodies: list[str],
    seconds: float,
    connections: int,
    directory: Path,
) -> Throughput:
    lines = directory / "bodies"
    lines.write_text("\n".join(bodies) + "\n")
    script = directory / "load.lua"
    script.write_text(_WRK_SCRIPT % (lines, path))
    command = [
        str(wrk),
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "-s",
        str(script),
    ]
    before = server.cpu_ns()
    done = subprocess.run(
        [*command, f"http://{HOST}:{server.port}"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: pin(load_core()),
    )
    cpu = server.cpu_ns() - before
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk said: {done.stdout[-500:]}")
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return Throughput(int(found[1]), float(found[2]) * scale, cpu, int(failed[1]) if failed else 0)


def http_request(path: str, body: str) -> bytes:
    """A request as wrk sends it."""
    raw = body.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


def http_answer_length(received: bytes | bytearray) -> int:
    """How long the answer at the beginning is; 0 while it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    at = received.lower().find(b"content-length:", 0, end)
    length = int(received[at + 15 : received.find(b"\r\n", at)])
    whole = end + 4 + length
    return whole if len(received) >= whole else 0


class Link:
    """One connection."""

    __slots__ = ("due", "expected", "number", "received", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.socket.fileno()
        self.received = bytearray()
        self.due = 0
        self.expected = 0


class Closed:
    """Our own closed loop: ``payloads`` in turn, one under way on each connection.

    Args:
        port: where to.
        payloads: what is sent; each may hold several requests.
        connections: how many.
        answered: whether the received bytes are the whole answer to one payload.
    """

    def __init__(
        self,
        port: int,
        payloads: list[bytes],
        connections: int,
        answered: Callable[[bytearray], bool] | None = None,
    ) -> None:
        self.payloads = payloads
        self.links = {link.number: link for link in (Link(port) for _ in range(connections))}
        self.answered = answered or (lambda received: http_answer_length(received) > 0)
        self.next = 0
        self.done = 0

    def run(self, server: Running, seconds: float) -> Throughput:
        pin(load_core())
        poll = select.epoll()
        for link in self.links.values():
            poll.register(link.number, select.EPOLLIN)
            self._send(link)
        self.done = 0
        cpu, began = server.cpu_ns(), time.perf_counter()
        deadline = began + seconds
        while time.perf_counter() < deadline:
            for number, _ in poll.poll(0.1):
                self._receive(self.links[number])
        elapsed = time.perf_counter() - began
        spent = server.cpu_ns() - cpu
        for link in self.links.values():
            link.socket.close()
        poll.close()
        return Throughput(self.done, elapsed, spent)

    def _send(self, link: Link) -> None:
        link.received.clear()
        link.socket.sendall(self.payloads[self.next % len(self.payloads)])
        self.next += 1

    def _receive(self, link: Link) -> None:
        data = link.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed a connection under load")
        link.received += data
        if self.answered(link.received):
            self.done += 1
            self._send(link)


@dataclass
class Latencies:
    """What an open loop saw, in nanoseconds, sorted."""

    sorted_ns: list[int]
    seconds: float
    missed: int
    late_sends: int

    @property
    def per_second(self) -> float:
        return len(self.sorted_ns) / self.seconds


class Open:
    """Requests at a fixed rate, whether or not the server keeps up."""

    def __init__(
        self, port: int, payloads: list[bytes], connections: int, per_second: float
    ) -> None:
        self.payloads = payloads
        self.links = {link.number: link for link in (Link(port) for _ in range(connections))}
        self.idle = deque(self.links.values())
        self.gap_ns = 1e9 / per_second
        self.took = array("q")
        self.late_sends = 0
        self.sent = 0

    def run(self, seconds: float) -> Latencies:
        """Send for so long, then collect what is still under way."""
        pin(load_core())
        gc.collect()
        gc.disable()
        try:
            return self._run(seconds)
        finally:
            gc.enable()

    def _run(self, seconds: float) -> Latencies:
        poll = select.epoll()
        for link in self.links.values():
            poll.register(link.number, select.EPOLLIN)
        total = int(seconds * 1e9 / self.gap_ns)
        began = time.perf_counter_ns()
        give_up = began + int(seconds * 1e9) + 2_000_000_000
        while len(self.took) < total:
            now = time.perf_counter_ns()
            if now > give_up:
                break
            self._send_due(began, now, total)
            for number, _ in poll.poll(0):
                self._receive(self.links[number])
        elapsed = (time.perf_counter_ns() - began) / 1e9
        for link in self.links.values():
            link.socket.close()
        poll.close()
        ordered = sorted(self.took)
        return Latencies(ordered, elapsed, total - len(ordered), self.late_sends)

    def _send_due(self, began: int, now: int, total: int) -> None:
        while self.idle and self.sent < total:
            due = began + int(self.sent * self.gap_ns)
            if due > now:
                return
            link = self.idle.popleft()
            link.due = due
            link.socket.send(self.payloads[self.sent % len(self.payloads)])
            self.sent += 1
            if now - due > 1_000_000:
                self.late_sends += 1

    def _receive(self, link: Link) -> None:
        data = link.socket.recv(65_536)
        if not data:
            raise ConnectionError("the server closed a connection under load")
        # Answers are alike in length, so only the first of a connection is taken apart.
        if link.received or len(data) < link.expected or not link.expected:
            link.received += data
            length = http_answer_length(link.received)
            if not length:
                return
            link.expected = link.expected or length // 2
            link.received.clear()
        self.took.append(time.perf_counter_ns() - link.due)
        self.idle.append(link)


if __name__ == "__main__":
    sys.exit("this is a part of the benches; run `make bench`")
