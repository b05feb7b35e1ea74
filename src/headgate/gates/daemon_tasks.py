"""A guarded daemon with a task for each connection.

`asyncio.start_server` accepts whatever comes, before anybody can be asked. So the loop is written out here:
wait until somebody knocks, ask the guard, accept one. TLS handshakes and all else that needs the client are
done in the task of its connection, so that a slow one holds up nobody else.

It needs an event loop that can watch sockets (``add_reader``): all but Windows' proactor.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import Overloaded
from headgate.gates.daemon_connections import cut
from headgate.gates.daemon_guard import TURN, VIOLATION_PAUSE_NS
from headgate.gates.daemon_threads import EXHAUSTED
from headgate.gates.numbers import YEAR, valid_call, valid_number
from headgate.inputs import valid_count

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from headgate.gates.daemon_connections import DaemonConnection
    from headgate.gates.daemon_guard import DaemonGuard

    AsyncHandler = Callable[
        [asyncio.StreamReader, asyncio.StreamWriter, DaemonConnection], Awaitable[object]
    ]

__all__ = ["serve"]

_log = logging.getLogger("headgate.daemon")
_DEFAULT_LIMIT: Final = 65_536
_HANDSHAKE_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 2.0
"""How long tasks get to end that were cancelled."""


async def serve(
    guard: DaemonGuard,
    listener: socket.socket,
    handle: AsyncHandler,
    *,
    tls: ssl.SSLContext | None = None,
    limit: int = _DEFAULT_LIMIT,
    drain_seconds: float = 10.0,
) -> None:
    """Accept until `DaemonGuard.stop`, then let what is under way finish.

    When it is cancelled it stops at once.

    Args:
        guard: decides about each accept.
        listener: a socket that listens. It stays open; what is in its backlog at the end is not served.
        handle: is awaited in a task of its own with the reader, the writer and the connection; the writer
            is closed when it returns. What it raises is logged.
        tls: to speak TLS.
        limit: of the reader; see `asyncio.start_server`.
        drain_seconds: how long what is under way may take, once the daemon stops.

    Raises:
        InvalidInput: the handler cannot be called, or ``limit`` or ``drain_seconds`` make no sense.
    """
    valid_call("handle", handle)
    valid_count("limit", limit, 2**30)
    valid_number("drain_seconds", drain_seconds, 0.0, YEAR)
    listener.settimeout(0)
    crew = _Crew(guard, handle, tls, limit)
    news = asyncio.Event()
    loop = asyncio.get_running_loop()
    housekeeping = loop.create_task(_housekeep(guard))
    try:
        with guard.waking(lambda: loop.call_soon_threadsafe(news.set)):
            while not guard.stopping:
                if await _somebody_knocks(guard, listener, news):
                    await _accept(guard, listener, crew, news)
        await crew.finish(drain_seconds)
    finally:
        housekeeping.cancel()
        crew.cancel()


async def _somebody_knocks(
    guard: DaemonGuard, listener: socket.socket, news: asyncio.Event
) -> bool:
    """Wait for it; False when the daemon is to stop."""
    loop = asyncio.get_running_loop()
    news.clear()
    loop.add_reader(listener.fileno(), news.set)
    try:
        if not guard.stopping:
            await news.wait()
    finally:
        loop.remove_reader(listener.fileno())
    return not guard.stopping


async def _accept(
    guard: DaemonGuard, listener: socket.socket, crew: _Crew, news: asyncio.Event
) -> None:
    """Let one in, or pause."""
    pause = guard.gate()
    if pause == 0.0:
        try:
            accepted, address = listener.accept()
        except OSError as error:
            # Others mean that the client left again before it was its turn.
            if error.errno in EXHAUSTED:
                _log.warning("%s: cannot accept: %s", guard.name, error)
                pause = VIOLATION_PAUSE_NS / NS_PER_SECOND
        else:
            accepted.settimeout(0)
            crew.take(accepted, address)
    if pause > 0.0:
        news.clear()
        await guard.clock.wait_for_async(news, 0.0 if guard.stopping else pause)


async def _housekeep(guard: DaemonGuard) -> None:
    while True:
        try:
            guard.housekeep()
        except Exception:  # noqa: BLE001 - whatever fails, the next turn comes
            _log.exception("housekeeping failed; it goes on")
        await guard.clock.sleep_async(min(TURN, guard.limits.monitor_interval))


class _Protocol(asyncio.StreamReaderProtocol):
    """One whose reader can be told that no more comes, whatever still does."""

    ended = False

    def hang_up(self, reader: asyncio.StreamReader) -> None:
        self.ended = True
        reader.feed_eof()

    def data_received(self, data: bytes) -> None:
        if not self.ended:
            super().data_received(data)


@final
class _Crew:
    """The tasks of one daemon."""

    def __init__(
        self, guard: DaemonGuard, handle: AsyncHandler, tls: ssl.SSLContext | None, limit: int
    ) -> None:
        self._guard = guard
        self._handle = handle
        self._tls = tls
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, accepted: socket.socket, address: object) -> None:
        """Serve a connection."""
        task: asyncio.Task[None] | None = None
        seat = _Seat()

        def close() -> None:
            if seat.transport is not None:
                seat.transport.abort()
            elif task is not None:  # still shaking hands
                task.cancel()

        peer = str(address[0]) if isinstance(address, tuple) else ""
        try:
            connection = self._guard.connection(close, peer, seat.hang_up)
        except Overloaded:  # another loop of the same guard was faster
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(self._run(accepted, connection, seat))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Wait until all have ended; cut off those that take longer."""
        self._guard.hang_up()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
            cut(self._guard.connections)
        self.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)

    def cancel(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()

    async def _run(
        self, accepted: socket.socket, connection: DaemonConnection, seat: _Seat
    ) -> None:
        try:
            reader, writer = await self._open(accepted, seat)
            try:
                await self._handle(reader, writer, connection)
                writer.close()
                await writer.wait_closed()
            finally:
                writer.transport.abort()
        except (OSError, Overloaded) as error:
            _log.debug("the connection of %s ended: %s", connection.peer, error)
        except Exception:  # noqa: BLE001 - whatever a handler does, the others go on
            _log.exception("the handler of a connection failed")
        finally:
            connection.leave()
            if seat.transport is None:
                accepted.close()

    async def _open(
        self, accepted: socket.socket, seat: _Seat
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(self._limit, loop)
        protocol = _Protocol(reader, loop=loop)
        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS}
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, **options)
        seat.sit(transport, protocol, reader)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


@final
class _Seat:
    """The transport of a connection, as soon as there is one."""

    transport: asyncio.Transport | None = None
    _protocol: _Protocol | None = None
    _reader: asyncio.StreamReader | None = None
    _is_over = False

    def sit(
        self, transport: asyncio.Transport, protocol: _Protocol, reader: asyncio.StreamReader
    ) -> None:
        self.transport = transport
        self._protocol = protocol
        self._reader = reader
        if self._is_over:
            self.hang_up()

    def hang_up(self) -> None:
        """The handler is told that its client sends no more."""
        self._is_over = True
        if self._protocol is not None and self._reader is not None:
            self._protocol.hang_up(self._reader)
