"""The RESP port: any Redis client can ask.

One write for each batch of pipelined commands. Commands whose decision is on its way hold back the replies
after them, and nothing else: what a peer sends is begun in order, and asked about together.

A peer cannot make the service keep more than a little for it: commands, arguments and connections are
bounded, who does not read is not read from, and who leaves a command half-sent, an answer unread or a token
unsaid is closed after a while.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, final

from headgate.errors import HeadgateError, MalformedRequest
from headgate.server.resp_door import RespDoor
from headgate.server.resp_info import describe
from headgate.server.resp_late import MAX_LATE, LateReply, ReplyQueue
from headgate.server.resp_parser import CommandReader
from headgate.server.resp_replies import error_reply, failure
from headgate.server.resp_session import RespSession
from headgate.server.resp_throttle import ThrottleBook
from headgate.server.station import RESP

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine

    from headgate.engine.ports import DenialObserver, Token
    from headgate.server.context import Context
    from headgate.server.resp_door import AuthRequest
    from headgate.server.station import Station

__all__ = ["RespConnection", "RespServer", "build_resp"]

_log = logging.getLogger("headgate.server")

MAX_BATCH: Final = 512
"""Commands that one connection gets done before others have their turn."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of answers that a peer may leave unread before it is not read from any more."""


def build_resp(context: Context, observer: DenialObserver | None = None) -> RespServer:
    """The RESP door of a service, not listening yet."""
    service, gatekeeper, settings = context.service, context.gatekeeper, context.settings
    sharing = service.engine.sharing
    if sharing is not None and sharing.settings.local_scope is None:
        sharing = None
    throttles = ThrottleBook(service.engine.table, observer=observer, sharing=sharing)
    now_ns = service.engine.clock.now_ns
    door = RespDoor(service, throttles, gatekeeper, now_ns, context.version)
    gatekeeper.on_refresh(door.doubt)
    context.resp = door
    return RespServer(
        door,
        gatekeeper.identify,
        max_connections=settings.max_connections,
        patience=settings.request_timeout,
        station=context.station,
    )


@final
class RespServer:
    """Listens, and knows all connections.

    Args:
        door: what the connections share.
        identify: from a token's text to the token; raises `Unauthorized`.
        max_connections: how many may be open.
        patience: seconds for a command to be complete, an answer to be read, a token to be said.
        station: of a worker, which accepts in turn with others.
    """

    def __init__(
        self,
        door: RespDoor,
        identify: Callable[[str], Awaitable[Token]],
        *,
        max_connections: int = 10_000,
        patience: float = 10.0,
        station: Station | None = None,
    ) -> None:
        self.door = door
        self.identify = identify
        self.max_connections = max_connections
        self.patience = patience
        self.connections: set[RespConnection] = set()
        self.owing: dict[RespConnection, float] = {}
        self._station = station
        self.is_stopping = False
        self._listener: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        door.describe = lambda sections: describe(door, sections)

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port, which is the system's choice when 0 was asked for."""
        if self._station is not None:
            self._schedule_sweep()
            return self._station.attend(RESP, self._connection, self._held, tls)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._connection, host, port, ssl=tls, backlog=1024
        )
        self._schedule_sweep()
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> None:
        """Accept no more, let every answer go out, and close; cut off who does not read in time."""
        if self._listener is not None:
            self._listener.close()
        if self._station is not None:
            self._station.close(RESP)
        self.is_stopping = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.finish()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.connections and loop.time() < deadline:
            closed = [connection.closed for connection in self.connections]
            await asyncio.wait(closed, timeout=max(0.0, deadline - loop.time()))
        for connection in list(self.connections):
            connection.abort()

    def _connection(self) -> RespConnection:
        return RespConnection(self)

    def _held(self) -> int:
        return len(self.connections)

    def sweep(self, now: float) -> None:
        """Close the connections that have owed us something for too long."""
        for connection, since in list(self.owing.items()):
            if now - since >= self.patience:
                self.door.timed_out += 1
                connection.abort()

    def _schedule_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.sweep(loop.time())
        self._sweep = loop.call_later(min(1.0, self.patience / 4), self._schedule_sweep)


@final
class RespConnection(asyncio.Protocol):
    """One connection: bytes in, commands to its session, answers out."""

    def __init__(self, server: RespServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._reader = CommandReader()
        self._session: RespSession
        self._transport: asyncio.Transport
        self._waits_for_token = False
        self._peer_reads = True
        self._again: asyncio.Handle | None = None
        self._task: asyncio.Task[bytes] | None = None
        self._late: ReplyQueue | None = None  # None while every reply goes out at once
        self._flush_soon: asyncio.Handle | None = None
        self._is_full = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # What the loop calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        door = server.door
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        door.accepted += 1
        self._session = RespSession(door, door.accepted)
        server.connections.add(self)
        door.connections = len(server.connections)
        if len(server.connections) > server.max_connections:
            door.refused += 1
            self._session.closing = True
            self._transport.write(failure("ERR", "max number of clients reached; try again later"))
            self._transport.close()
        elif server.is_stopping:
            self.finish()
        elif not self._session.is_known:
            self._owe()

    def data_received(self, data: bytes) -> None:
        if self._session.closing:
            return
        self._reader.feed(data)
        if self._session.is_current():
            self._work()
        elif not self._waits_for_token:
            self._hold(self._rechecked())

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._peer_reads = False
        self._transport.pause_reading()
        self._owe()

    def resume_writing(self) -> None:
        self._peer_reads = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self._server
        self._session.closing = True
        server.connections.discard(self)
        server.owing.pop(self, None)
        server.door.connections = len(server.connections)
        for handle in (self._again, self._flush_soon):
            if handle is not None:
                handle.cancel()
        self._late = None
        if not self.closed.done():
            self.closed.set_result(None)

    # What the server calls -----------------------------------------------------------------------

    def finish(self) -> None:
        """Close once everything that was begun is answered, and the answers have gone out."""
        self._session.closing = True
        if self._late is None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._session.closing = True
        self._transport.abort()

    # Commands ------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Do the commands that are here, as many as one turn allows, and answer them in one write."""
        if self._waits_for_token or not self._peer_reads:
            return
        if self._late is not None and self._is_late_full(self._late):
            self._is_full = True
            self._transport.pause_reading()
            return
        session = self._session
        replies: list[bytes] = []
        try:
            more = self._do_commands(replies)
        except MalformedRequest as error:
            more = False
            session.closing = True
            session.door.malformed += 1
            self._put(failure("ERR", error.message), replies)
        answer = b"".join(replies)
        if answer:
            self._transport.write(answer)
        if session.closing:
            self.finish()
        elif session.pending is not None:
            self._verify(session.pending)
        elif more:
            # Others have their turn first; nothing more is read meanwhile.
            self._transport.pause_reading()
            self._again = self._loop.call_soon(self._go_on)
        else:
            self._keep_accounts()

    def _do_commands(self, replies: list[bytes]) -> bool:
        """Collect the replies; whether commands may be left that have to wait for the next turn."""
        session = self._session
        reader = self._reader
        size = 0
        for _ in range(MAX_BATCH):
            args = reader.next()
            if args is None:
                return False
            reply = session.execute(args)
            if self._late is None and isinstance(reply, bytes):
                replies.append(reply)
                size += len(reply)
            else:
                self._put(reply, replies)
            if session.closing or session.pending is not None or size > HIGH_WATER:
                break
        return True

    def _go_on(self) -> None:
        self._again = None
        if self._session.closing or not self._peer_reads or self._waits_for_token:
            return
        self._transport.resume_reading()
        self._work()

    # Replies that are late ------------------------------------------------------------------------

    def _put(self, reply: bytes | LateReply, replies: list[bytes]) -> None:
        """This is the next reply: with those of this turn, or behind the ones that are late."""
        if self._late is None:
            if isinstance(reply, bytes):
                replies.append(reply)
                return
            self._late = ReplyQueue()
        self._late.put(reply)
        if isinstance(reply, LateReply):
            reply.tell(self._came)

    def _came(self) -> None:
        """A late reply is there. Others may come in this turn of the loop: one write for all."""
        if self._late is not None and self._flush_soon is None:
            self._flush_soon = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_soon = None
        late = self._late
        if late is None:
            return
        answer = late.take()
        if answer:
            self._transport.write(answer)
        if len(late) == 0:
            self._late = None
            if self._session.closing:
                self._transport.close()
                return
        if self._is_full and not self._is_late_full(late):
            self._is_full = False
            self._go_on()

    def _is_late_full(self, late: ReplyQueue) -> bool:
        return len(late) >= MAX_LATE or late.waiting_bytes > HIGH_WATER

    def _say(self, reply: bytes) -> None:
        """Answer, after what is late."""
        if self._late is None:
            self._transport.write(reply)
        else:
            self._late.put(reply)

    def _keep_accounts(self) -> None:
        """Note whether the peer owes us the rest of a command, a token, or to read its answers."""
        if not self._peer_reads or not self._reader.is_idle or not self._session.is_known:
            self._owe()
        elif self._server.owing:
            self._server.owing.pop(self, None)

    def _owe(self) -> None:
        self._server.owing.setdefault(self, self._loop.time())

    # Tokens --------------------------------------------------------------------------------------

    def _verify(self, request: AuthRequest) -> None:
        """Ask for the token's scopes; nothing else is done until the answer is there."""
        self._session.pending = None
        self._hold(self._verified(request))

    async def _verified(self, request: AuthRequest) -> bytes:
        session = self._session
        try:
            token = await self._server.identify(request.token)
        except HeadgateError as error:
            session.forget_token()
            return (
                failure("WRONGPASS", error.message) if error.status == 401 else error_reply(error)
            )
        return session.grant(token.scopes, request)

    async def _rechecked(self) -> bytes:
        """Forget a token that was revoked or has expired; nothing is said until it is asked for."""
        session = self._session
        try:
            session.scopes = (await self._server.identify(session.token)).scopes
        except HeadgateError as error:
            # A store that does not answer stops no traffic.
            if error.status == 401:
                session.forget_token()
        return b""

    def _hold(self, answer: Coroutine[None, None, bytes]) -> None:
        """Wait for an answer; nothing is read or done meanwhile."""
        self._waits_for_token = True
        self._transport.pause_reading()
        self._task = self._loop.create_task(answer)
        self._task.add_done_callback(self._release)

    def _release(self, task: asyncio.Task[bytes]) -> None:
        self._waits_for_token = False
        if task.cancelled() or self._session.closing:
            return
        if task.exception() is not None:
            _log.error("a token could not be verified", exc_info=task.exception())
            self._say(failure("ERR", "internal_error the log of the service says why"))
            self.finish()
            return
        self._say(task.result())
        self._go_on()
