"""A real service for tests, in a thread of its own: real sockets, real connections, the tests' clock.

Processes are for what only a process can show (signals, exit codes, being killed); see `process_service`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

from headgate.server.lifecycle import Running, serve
from headgate.settings import Settings
from headgate.testing import ManualClock
from tests.support import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from headgate.clock import Clock

HOST = "127.0.0.1"
PATIENCE = 20.0


@dataclass(frozen=True)
class Response:
    """One answer, as it came over the wire."""

    raw: bytes
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return dict(self.fields)[name]

    def get(self, name: str) -> str | None:
        return dict(self.fields).get(name)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def undated(self) -> bytes:
        """The bytes without the one field that depends on the second."""
        lines = self.raw.split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(b"date:"))


class Peer:
    """A client that sends what it is told, byte for byte, and reads one answer after the other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Response:
        """The next answer; fails when the connection ends before it is complete."""
        head, _, rest = self._read_to(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
        length = int(dict(fields).get("content-length", 0))
        while len(rest) < length:
            rest += self._more()
        body, self._unread = rest[:length], rest[length:]
        return Response(head + b"\r\n\r\n" + body, int(lines[0].split()[1]), fields, body)

    def at_end(self) -> bool:
        """Waits for the other side to close; whether it did so without another byte."""
        try:
            return not self._unread and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read_to(self, mark: bytes) -> tuple[bytes, bytes, bytes]:
        while mark not in self._unread:
            self._unread += self._more()
        return self._unread.partition(mark)

    def _more(self) -> bytes:
        piece = self.socket.recv(65536)
        if not piece:
            message = f"the connection ended after {self._unread!r}"
            raise ConnectionError(message)
        return piece


@dataclass(frozen=True)
class Service:
    """A service that serves, and the clock that it goes by."""

    running: Running
    clock: Any
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.running.port

    def connect(self) -> Peer:
        return Peer(self.port)

    def request(self, method: str, path: str, document: Any = None, **fields: str) -> Response:
        return ask(self.port, method, path, document, **fields)

    def post(self, path: str, document: Any, **fields: str) -> Response:
        return self.request("POST", path, document, **fields)

    def get(self, path: str, **fields: str) -> Response:
        return self.request("GET", path, **fields)

    def call(self, function: Any) -> Any:
        """Run an async function on the service's loop."""
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result(PATIENCE)


def message(
    method: str, path: str, body: bytes | None = None, fields: dict[str, str] | None = None
) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "host: test"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (fields or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def ask(port: int, method: str, path: str, document: Any = None, **fields: str) -> Response:
    """One request on a connection of its own."""
    body = None if document is None else json.dumps(document).encode()
    with Peer(port) as peer:
        peer.send(message(method, path, body, fields))
        return peer.receive()


@contextlib.contextmanager
def running_service(
    directory: Path, clock: Clock | None = None, **options: Any
) -> Iterator[Service]:
    """A service in a thread until the block ends; ``options`` are settings.

    Its clock stands still unless another is given: nodes that share limits need the system's, because their
    deadlines and leases are real.
    """
    defaults = {"port": 0, "resp_port": None, "database_url": "memory://", "drain_seconds": 5.0}
    settings = Settings(**{**defaults, "data_dir": directory, **options})
    clock = clock or ManualClock(start_ns=10**15)
    events: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await serve(settings, lambda running: events.put((running, loop)), clock)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - it is raised where the test can see it
            events.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started = events.get(timeout=PATIENCE)
    if isinstance(started, BaseException):
        raise started
    running, loop = started
    try:
        yield Service(running, clock, loop)
    finally:
        loop.call_soon_threadsafe(running.stop)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the service did not stop"
        while not events.empty():
            raise events.get()


@contextlib.contextmanager
def process_service(directory: Path, **environment: str) -> Iterator[servers.Server]:
    """The service as a process until the block ends; its output goes to ``log`` in the directory.

    Args:
        directory: its data, its log.
        environment: variables without their prefix.
    """
    port = int(environment.get("port", 0)) or servers.free_port()
    variables = {
        "HEADGATE_PORT": str(port),
        "HEADGATE_RESP_PORT": "off",
        "HEADGATE_BACKPRESSURE": "off",  # a crowded machine must not decide what a test sees
        "HEADGATE_DATA_DIR": str(directory / "data"),
        **{f"HEADGATE_{name.upper()}": value for name, value in environment.items()},
    }
    command = [sys.executable, "-m", "headgate.server"]
    with servers.running(
        command, port=port, directory=directory, environment={**os.environ, **variables}
    ) as server:
        yield server
