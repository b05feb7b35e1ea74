"""JSON-RPC 2.0 over asyncio streams: TCP, TLS or Unix sockets, many messages on one connection.

Messages are lines, or framed by ``Content-Length`` headers as language servers do. They are answered as
they are done, which need not be the order in which they came.

A connection is read no faster than its peer deserves:

* While `JsonRpcGuard.max_per_peer` of its messages are being answered, no further one is read; the
  peer's own TCP then has to wait.
* After a refusal it is not read for as long as the refusal says, or a little longer; up to a second. So a
  peer that floods gets few refusals, and what it sends otherwise costs nothing.
* A peer that starts a message and does not finish it, or does not take its answers, is cut off, and that
  counts as its failure.

Memory is bounded by ``max_connections`` times the longest message, times two (asyncio reads ahead), plus the
answers that ``max_per_peer`` handlers make.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

from headgate.errors import InvalidInput
from headgate.gates.numbers import valid_call
from headgate.inputs import valid_count, valid_key
from headgate.integrations.jsonrpc import JsonRpcGuard
from headgate.integrations.jsonrpc_calls import instance, valid_patience
from headgate.integrations.jsonrpc_messages import PARSE_ERROR, PeerFault
from headgate.key import ClientAddresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.decision import Decision
    from headgate.integrations.jsonrpc import JsonRpcAnswer

    Framing = Literal["lines", "content-length"]
    Identify = Callable[[asyncio.StreamWriter], str]

__all__ = ["JsonRpcStreams", "peer_address"]

_log = logging.getLogger("headgate.jsonrpc")
_LONGEST_PAUSE: Final = 1.0
_GATHERING_PAUSE: Final = 0.05
_FAREWELL_SECONDS: Final = 1.0
"""How long a peer that is cut off may take to read why."""
_MAX_HEADER: Final = 4_096
_LENGTH: Final = re.compile(rb"(?:^|\r\n)content-length:[ \t]*(\d{1,10})[ \t]*\r\n", re.IGNORECASE)
_ADDRESSES: Final = ClientAddresses()


def peer_address(writer: asyncio.StreamWriter) -> str:
    """Who is at the other end: the address, IPv6 by its /64; ``"local"`` for a Unix socket."""
    name = writer.get_extra_info("peername")
    return (_ADDRESSES.key(name[0]) if isinstance(name, tuple) else None) or "local"


@final
class JsonRpcStreams:
    """Serves connections; one of it is a callback for `asyncio.start_server`.

    ::

        streams = JsonRpcStreams(JsonRpcGuard({"echo": echo}))
        server = await streams.start("127.0.0.1", 8545)

    Args:
        guard: answers the messages.
        framing: ``"lines"`` or ``"content-length"``.
        identify: names the peer of a connection; its address when left out.
        message_timeout: seconds in which a message must have arrived, once it began.
        idle_timeout: seconds between messages; None for any.
        write_timeout: seconds in which a peer must take an answer.
        max_connections: at the same time, of all peers.
        max_connections_per_peer: of these, for one peer.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        guard: JsonRpcGuard,
        *,
        framing: Framing = "lines",
        identify: Identify = peer_address,
        message_timeout: float | None = 10.0,
        idle_timeout: float | None = 300.0,
        write_timeout: float | None = 10.0,
        max_connections: int = 512,
        max_connections_per_peer: int = 16,
    ) -> None:
        if framing not in ("lines", "content-length"):
            raise InvalidInput(f"framing must be 'lines' or 'content-length', got {framing!r:.60}")
        self.guard = instance("guard", guard, JsonRpcGuard)
        self.framed = framing == "content-length"
        self.message_timeout = valid_patience("message_timeout", message_timeout)
        self.idle_timeout = valid_patience("idle_timeout", idle_timeout)
        self.write_timeout = valid_patience("write_timeout", write_timeout)
        self._identify = valid_call("identify", identify)
        self._most = valid_count("max_connections", max_connections, 10**6)
        self._most_per_peer = valid_count(
            "max_connections_per_peer", max_connections_per_peer, 10**6
        )
        self._by_peer: Counter[str] = Counter()
        self._connections: dict[_Connection, asyncio.Task[Any]] = {}
        self.closing = False

    @property
    def limit(self) -> int:
        """What asyncio's ``limit=`` of a stream must be for the longest message to fit."""
        return self.guard.max_message_bytes + 1

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self, host: str, port: int, **options: Any) -> asyncio.Server:
        """Listen; ``options`` go to `asyncio.start_server`."""
        return await asyncio.start_server(self, host, port, **{"limit": self.limit, **options})

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        try:
            peer = valid_key(self._identify(writer))
            connection = _Connection(self, peer, reader, writer)
            refusal = self._refusal(peer)
            if refusal is None:
                await self._serve(peer, connection)
            else:
                await connection.dismiss(refusal)
        except OSError:
            return  # the other side is gone, or was too slow
        except Exception:  # noqa: BLE001 - asyncio would log it as an error of its own, and so do we
            _log.exception("a connection failed")
        finally:
            # What is not sent by now is not wanted: closing would wait for it, beyond all bounds.
            writer.transport.abort()

    async def close(self, seconds: float = 10.0) -> None:
        """Read no more, let what runs be answered for so long, then cut off what is left."""
        self.closing = True
        tasks = set(self._connections.values())
        for connection in list(self._connections):
            connection.stop_reading()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        # Their tasks are not cancelled: asyncio 3.11 reports that of a server's as an error.
        for connection in list(self._connections):
            connection.cut()

    async def _serve(self, peer: str, connection: _Connection) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._connections[connection] = task
        self._by_peer[peer] += 1
        try:
            await connection.run()
            await connection.end()
        finally:
            del self._connections[connection]
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]

    def _refusal(self, peer: str) -> JsonRpcAnswer | None:
        if self._by_peer[peer] >= self._most_per_peer:
            return self.guard.overloaded(peer, "max_connections_per_peer", self._most_per_peer)
        if self.closing or len(self._connections) >= self._most:
            return self.guard.overloaded(peer, "max_connections", self._most)
        return None


@final
class _Connection:
    """One connection: a loop that reads, and a task for each message that is being answered."""

    def __init__(
        self,
        streams: JsonRpcStreams,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._streams = streams
        self._guard = streams.guard
        self._peer = peer
        self._reader = reader
        self._writer = writer
        self._slots = asyncio.Semaphore(self._guard.max_per_peer)
        self._answering: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._pause = 0.0

    async def run(self) -> None:
        """Until the peer is gone or cut off, and all that it asked is answered."""
        self._reading = asyncio.ensure_future(self._read_all())
        try:
            # Not awaited as such: stop_reading cancels it, and that is no cancellation of ours.
            await asyncio.wait([self._reading])
            if self._answering:
                await asyncio.wait(self._answering)
        finally:
            self._reading.cancel()
            for task in self._answering:
                task.cancel()

    def stop_reading(self) -> None:
        """What was read is still answered."""
        if self._reading is not None:
            self._reading.cancel()

    def cut(self) -> None:
        """End now, whatever is under way."""
        self.stop_reading()
        for task in self._answering:
            task.cancel()
        self._writer.transport.abort()

    async def write(self, answer: JsonRpcAnswer) -> None:
        """Send it, unless nobody waits for it.

        Raises:
            OSError: the peer is gone, or does not take it in time.
        """
        if answer.body is None:
            return
        if self._streams.framed:
            self._writer.write(b"Content-Length: %d\r\n\r\n" % len(answer.body) + answer.body)
        else:
            self._writer.write(answer.body + b"\n")
        async with asyncio.timeout(self._streams.write_timeout):
            await self._writer.drain()

    async def dismiss(self, refusal: JsonRpcAnswer) -> None:
        """Send it and close, without reading a byte: in a flood that would be without bounds."""
        with contextlib.suppress(NotImplementedError, RuntimeError):
            # Duplex in fact, though a writer's transport is typed as one that only writes.
            cast("asyncio.Transport", self._writer.transport).pause_reading()
        await self.write(refusal)
        await self.end()

    async def farewell(self) -> None:
        """Let the peer read the last answer: closing with unread input would discard it."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while await self._reader.read(65_536):
                    pass

    async def end(self) -> None:
        """Close, as soon as the peer took what it is sent."""
        self._writer.close()
        async with asyncio.timeout(self._streams.write_timeout):
            await self._writer.wait_closed()

    async def _read_all(self) -> None:
        try:
            while True:
                await self._slots.acquire()
                if self._pause > 0.0:
                    seconds, self._pause = self._pause, 0.0
                    await self._guard.clock.sleep_async(seconds)
                # What somebody left behind who is gone may be a great deal, and is wanted by nobody.
                message = None if self._writer.is_closing() else await self._next()
                if message is None:
                    return
                task = asyncio.ensure_future(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
        except TimeoutError:  # only a message that does not end; see _next
            self._guard.peers.record_failure(self._peer)
        except PeerFault as fault:  # where the next message would begin is not known
            await self._give_up(fault)
        except OSError:
            return  # the peer is gone

    async def _give_up(self, fault: PeerFault) -> None:
        try:
            await self.write(await self._guard.fault(self._peer, fault))
            await self.farewell()
        except OSError:
            self._writer.transport.abort()

    async def _answer(self, message: bytes) -> None:
        try:
            answer = await self._guard.answer(self._peer, message)
            if answer.refusal is not None:
                self._pause = _pause_after(answer.refusal.decision)
            await self.write(answer)
        except TimeoutError:
            self._guard.peers.record_failure(self._peer)
            self._writer.transport.abort()
        except OSError:
            self._writer.transport.abort()
        finally:
            self._slots.release()

    async def _next(self) -> bytes | None:
        """The next message; None at the end of all.

        Raises:
            TimeoutError: it began and did not end in time.
            PeerFault: it is too long, or framed wrongly.
        """
        reader = self._reader
        try:
            async with asyncio.timeout(self._streams.idle_timeout):
                first = await reader.read(1)
        except TimeoutError:
            return None
        if not first:
            return None
        try:
            async with asyncio.timeout(self._streams.message_timeout):
                return await (self._framed(first) if self._streams.framed else self._line(first))
        except asyncio.LimitOverrunError:
            raise self._guard.too_large() from None

    async def _line(self, first: bytes) -> bytes:
        if first == b"\n":
            return b""
        try:
            return first + await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as rest:
            return first + rest.partial  # the last line need not end

    async def _framed(self, first: bytes) -> bytes | None:
        try:
            header = first + await self._reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(header) if len(header) <= _MAX_HEADER else None
            if found is None:
                raise PeerFault(PARSE_ERROR, "a message begins with its Content-Length header")
            length = int(found[1])
            if length > self._guard.max_message_bytes:
                raise self._guard.too_large()
            return await self._reader.readexactly(length)
        except asyncio.IncompleteReadError:
            return None


def _pause_after(decision: Decision) -> float:
    """Seconds not to read a peer that was refused.

    The next token may be there in a millisecond; a peer that floods would then be refused a thousand times
    a second. So tokens for a while are let come together first, which loses the peer nothing as long
    as its bucket does not fill up.
    """
    gathering = min(decision.reset_after / 4, _GATHERING_PAUSE)
    return min(max(decision.retry_after, gathering), _LONGEST_PAUSE)
