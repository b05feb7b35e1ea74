"""A TCP proxy that makes the network bad on purpose: slow, cut off, reset; and one that speaks TLS.

It runs in a thread of its own, so that the program under test may block, and what it does to connections is
in force when the method returns. Bytes are never lost or reordered within a connection: like TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.support.servers import HOST

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

_OFF_SECONDS = 10.0
_RESET = struct.pack("ii", 1, 0)


class FaultProxy:
    """Between a client and a server on loopback.

    Attributes:
        port: where clients connect to.
        connections: accepted so far.
        bytes_to_server: received from clients.
    """

    def __init__(
        self, target: int | str, *, tls: ssl.SSLContext | None = None, host: str = HOST
    ) -> None:
        self.target = target
        self.host = host
        self.port = 0
        self.connections = 0
        self.bytes_to_server = 0
        self.delays = {"server": 0.0, "client": 0.0}
        self.held = {"server": False, "client": False}
        self.refusing = False
        self.ends: set[_End] = set()
        self._tls = tls
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_OFF_SECONDS) or self._failure is not None:
            raise RuntimeError("the fault proxy did not start") from self._failure

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_OFF_SECONDS)

    def delay(self, *, to_server: float = 0.0, to_client: float = 0.0) -> None:
        """Deliver bytes so many seconds late, from now on."""

        def change() -> None:
            self.delays.update(server=to_server, client=to_client)

        self._do(change)

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """A partition: bytes stay where they are until `restore`. New connections are taken, and hang."""

        def change() -> None:
            self.held.update(server=to_server, client=to_client)

        self._do(change)

    def drop(self, *, refuse: bool = True) -> None:
        """Reset all connections; new ones likewise until `restore`, unless told otherwise."""

        def change() -> None:
            self.refusing = refuse
            for end in list(self.ends):
                end.abort()

        self._do(change)

    def restore(self) -> None:
        """A good network again; what was held is delivered."""

        def change() -> None:
            self.delays.update(server=0.0, client=0.0)
            self.held.update(server=False, client=False)
            self.refusing = False
            for end in list(self.ends):
                end.pump()

        self._do(change)

    @property
    def open_connections(self) -> int:
        """Of clients, at present."""
        count = 0

        def look() -> None:
            nonlocal count
            count = sum(end.towards == "client" for end in self.ends)

        self._do(look)
        return count

    def _do(self, change: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self.loop.call_soon_threadsafe(run)
        if not done.wait(_OFF_SECONDS):
            raise RuntimeError("the fault proxy hangs")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that starts it
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self.loop.create_server(lambda: _Client(self), self.host, 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for end in list(self.ends):
            end.abort()
        await asyncio.sleep(0)  # noqa: TID251 - let the transports say that they are closed


class _End(asyncio.Protocol):
    """One of the two ends of a connection; what arrives is written to ``other``."""

    towards = ""  # whom `write` reaches

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.transport: Any = None
        self.other: _End | None = None
        self.line: deque[tuple[float, bytes | None]] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.proxy.ends.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.proxy.ends.discard(self)
        if self.other is not None:
            self.other.put(None)

    def put(self, data: bytes | None) -> None:
        """To be written here; None is the end of the connection."""
        due = self.proxy.loop.time() + self.proxy.delays[self.towards]
        if self.line:
            due = max(due, self.line[-1][0])
        self.line.append((due, data))
        self.pump()

    def pump(self) -> None:
        if self.transport is None or self.proxy.held[self.towards]:
            return
        now = self.proxy.loop.time()
        while self.line and self.line[0][0] <= now:
            data = self.line.popleft()[1]
            if data is None:
                self.transport.close()
            else:
                self.transport.write(data)
        if self.line and self.timer is None:
            self.timer = self.proxy.loop.call_at(self.line[0][0], self.ring)

    def ring(self) -> None:
        self.timer = None
        self.pump()

    def abort(self) -> None:
        """Reset it, and not only close it."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


class _Client(_End):
    towards = "client"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.proxy.connections += 1
        if self.proxy.refusing:
            self.abort()
            return
        self.other = server = _Server(self.proxy)
        server.other = self
        server.task = self.proxy.loop.create_task(server.connect())

    def data_received(self, data: bytes) -> None:
        self.proxy.bytes_to_server += len(data)
        if self.other is not None:
            self.other.put(data)


class _Server(_End):
    towards = "server"
    task: asyncio.Task[None]

    async def connect(self) -> None:
        loop, target = self.proxy.loop, self.proxy.target
        try:
            if isinstance(target, str):
                await loop.create_unix_connection(lambda: self, target)
            else:
                await loop.create_connection(lambda: self, HOST, target)
        except OSError:
            assert self.other is not None
            self.other.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pump()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.put(data)


@contextlib.contextmanager
def fault_proxy(
    target: int | str, *, tls: ssl.SSLContext | None = None, host: str = HOST
) -> Iterator[FaultProxy]:
    """A proxy to a port on loopback, or to a Unix socket; with ``tls`` its clients must speak TLS."""
    proxy = FaultProxy(target, tls=tls, host=host)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
