"""One HTTP connection: uvicorn's protocol, the fast lane ahead of it, and the limits that it lacks.

uvicorn reads the request and runs the application. Added here: whole checks are answered at once (see
`headgate.server.lane`); heads and addresses have a longest length; a request has to arrive in time, and an
answer to be taken in time; whatever is refused before there is a request is refused as problem details;
and a connection that is closed early is closed so that the peer can read why. A check whose decision is on
its way keeps its own connection waiting, and no other.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from headgate.errors import (
    HeaderTooLarge,
    HeadgateError,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    UriTooLong,
)
from headgate.server.connections import Connections, GentleTransport, PatientFlow
from headgate.server.problems import problem_body, problem_fields

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from headgate.decision import Decision
    from headgate.server.lane import CheckLane

__all__ = ["HttpConnection"]

_NO_FAREWELL: Final = struct.pack("ii", 1, 0)
_PIECE: Final = 4_096
"""The bytes that uvicorn gets at a time: it holds on to at most as many requests as these have."""
_MAX_IGNORED: Final = 64 * 1024 * 1024


class HttpConnection(HttpToolsProtocol):
    """One connection.

    Attributes:
        age: ticks since something moved.
        closing: nothing more is read as a request; what was read before is still answered.
        leaving: the last word was said.
    """

    def __init__(
        self,
        shared: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = shared
        self._lane = shared.lane
        self._raw: asyncio.Transport
        self._held = b""
        self._backlog = b""
        self._is_waiting = False
        self._ends_after = False
        self._reading = False
        self._in_head = False
        self._head_bytes = 0
        self._unseen_bytes = 0
        self._ignored_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._refusal: HeadgateError | None = None
        self._last_words = b""
        self.leaving = False
        self.age = 0
        self.closing = False

    # What the loop calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        wrapped = GentleTransport(transport, self)
        super().connection_made(wrapped)  # type: ignore[arg-type]
        self.flow = PatientFlow(self, wrapped)
        shared = self._shared
        shared.open.add(self)
        if len(shared.open) > shared.max_connections:
            shared.refused += 1
            self._say_last(self._words(_too_many(shared.max_connections)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.open.discard(self)
        self._held = self._backlog = b""
        self._is_waiting = False
        if self._answering is not None:  # uvicorn tells only the newest request
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            self._ignore(data)
        elif self._backlog:
            self._backlog += data
        else:
            self._work(data)

    def _work(self, data: bytes) -> None:
        """Deal with bytes in order: checks in the lane, all else through uvicorn.

        uvicorn queues every request that it finds in the bytes, however many there are, with all that
        belongs to it. So it gets a few bytes at a time, and none while it has a request to answer.
        """
        at = 0
        while at < len(data) and not self.closing:
            if self._is_busy():
                self._backlog = data[at:]
                self.flow.pause_reading()
                return
            if self._lane is not None and self._is_between_requests():
                data = self._answer_checks(self._lane, data[at:] if at else data)
                at = 0
                if self._is_waiting:
                    continue
            piece = data[at : at + _PIECE]
            at += _PIECE
            self._parse(piece)

    def _is_busy(self) -> bool:
        """Whether a request that has arrived in whole is being answered."""
        if self._answering is None:
            return self._is_waiting
        return not self._answering.more_body

    def _parse(self, piece: bytes) -> None:
        self._unseen_bytes += len(piece)
        super().data_received(piece)
        if self._unseen_bytes > self._shared.max_head and self._reading and not self.closing:
            # A field that never ends: the parser collects it, and tells nobody.
            self._refuse(_head_too_large(self._shared.max_head))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to stay open: a peer that has said all may still want to hear the answer."""
        if self._is_waiting and self.scheme != "https":
            self._ends_after = True
            return True
        if self._answering is None or self._reading or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        # Who does not read the answers is not read from either.
        self.age = 0
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        self.age = 0
        super().resume_writing()
        self.flow.resume_reading()

    # The lane ------------------------------------------------------------------------------------

    def _is_between_requests(self) -> bool:
        return not self._reading and self._answering is None and not self._is_waiting

    def _answer_checks(self, lane: CheckLane, data: bytes) -> bytes:
        """Answer the whole checks that came; what is left is for uvicorn."""
        held = self._held
        if held:
            self._held = b""
            data = held + data
        if self._shared.draining:
            return data
        answers = lane.answer(data, self.server_state.default_headers)
        self.age = 0
        if answers:
            self._raw.write(answers)
        if lane.taken:
            data = data[lane.taken :]
        if lane.pending is not None:
            # No task: the decision calls, in the turn of the loop in which it comes, or now.
            self._is_waiting = True
            lane.pending.then(partial(self._decided, lane))
            return data
        if lane.wants_more and (answers or not held):
            # Many clients send the head and the body apart. A request in more pieces than two is not
            # waited for, so that nobody can make us look at the same bytes again and again.
            self._held = data
            return b""
        return data

    def _decided(self, lane: CheckLane, decision: Decision) -> None:
        """Answer the check that was waited for, and go on with what came after it."""
        answer = lane.word(decision)
        if not self._is_waiting:  # nobody is there any more
            return
        self._is_waiting = False
        self.age = 0
        self._raw.write(answer)
        if self._backlog:
            self._resume_backlog()
        elif self._ends_after:
            self.closing = True
            self._raw.close()
        elif self._shared.draining:
            self._shared.close_later(self)

    def _resume_backlog(self) -> None:
        data, self._backlog = self._backlog, b""
        self.flow.resume_reading()
        self._work(data)

    # What the parser calls -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reading = True
        self._in_head = True
        self._head_bytes = 0
        self.age = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._unseen_bytes = 0
        super().on_url(url)
        if len(self.url) > self._shared.max_url:
            message = f"an address has at most {self._shared.max_url} bytes; send a shorter one"
            self._stop(UriTooLong(message))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unseen_bytes = 0
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._shared.max_head:
            self._stop(_head_too_large(self._shared.max_head))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unseen_bytes = 0
        self._in_head = False
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle
        if self._shared.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unseen_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unseen_bytes = 0
        self._reading = False
        super().on_message_complete()

    def _stop(self, error: HeadgateError) -> None:
        """Stop the parser; it calls `send_400_response` for any exception."""
        self._refusal = error
        raise error

    # What uvicorn calls --------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        message = "the request is not HTTP/1.1; send a request line, header fields and a body"
        self._refuse(self._refusal or MalformedRequest(message))

    def on_response_complete(self) -> None:
        self.age = 0
        self._answering = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._unset_keepalive_if_required()  # `tick` closes idle connections
        if self._raw.is_closing():
            return
        if self._last_words:
            if self._answering is None:
                self._say_last(self._last_words)
        elif self._backlog and not self._is_busy():
            self._resume_backlog()

    def shutdown(self) -> None:
        if self._answering is not None:
            self.cycle.keep_alive = False

    def is_behind(self) -> bool:
        """Whether requests that were read wait for the ones before them."""
        return bool(self.pipeline or self._backlog)

    # Time ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Grow older by one tick; end what has taken too long."""
        self.age += 1
        shared = self._shared
        if self.leaving:
            if self.age > shared.farewell_ticks:
                self._reset()
        elif self.flow.write_paused:
            if self.age > shared.request_ticks:
                shared.timed_out += 1
                self._reset()
        elif self._held or (self._reading and not self.flow.read_paused):
            if self.age > shared.request_ticks:
                shared.timed_out += 1
                self._time_out()
        elif self._answering is None and not self._is_waiting and self.age > shared.idle_ticks:
            self._raw.close()

    def close_if_idle(self) -> None:
        """Close if no request is on the way, as far as we can know."""
        if self._is_between_requests() and not self._held:
            self._raw.close()

    def _time_out(self) -> None:
        if not self._in_head and not self._held and self._answering is None:
            self.close()  # it was answered already, and what still comes is of no interest
            return
        message = "the request did not arrive in time; send all of it at once"
        self._refuse(RequestTimeout(message))

    # Ends ----------------------------------------------------------------------------------------

    def _refuse(self, error: HeadgateError) -> None:
        """Answer what cannot be read, after the requests before it, and close."""
        words = self._words(error)
        self.closing = True
        if self._reading and not self._in_head:
            self._drop(self.cycle)
        if self._answering is None:
            self._say_last(words)
        else:
            self._last_words = words

    def _drop(self, broken: RequestResponseCycle) -> None:
        """Give up the request whose body cannot be read."""
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        elif self._answering is broken:
            # The application waits for the rest of the body. It is told that nobody is there any more.
            self._answering = None
            broken.disconnected = True
            broken.message_event.set()
            if broken.response_started:
                self._reset()

    def _words(self, error: HeadgateError) -> bytes:
        body = problem_body(error)
        fields = [
            *self.server_state.default_headers,
            *problem_fields(error),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[error.status], *(b"%b: %b\r\n" % field for field in fields)]
        return b"".join([*lines, b"\r\n", body])

    def _say_last(self, words: bytes) -> None:
        self.closing = True
        self._last_words = b""
        self._raw.write(words)
        self._leave()

    def close(self) -> None:
        """Close; when the peer is still sending, only after it could read the answer."""
        if self._reading and not self.leaving:
            self.closing = True
            self._leave()
        elif not self.leaving:
            self.closing = True
            self._raw.close()

    def _leave(self) -> None:
        """End our side, and wait a while for the peer to end its own.

        Closed at once, with bytes unread, the connection would be reset, and a reset takes the answer
        with it that the peer has not read yet.
        """
        if self._raw.is_closing() or not self._raw.can_write_eof():
            self._raw.close()
            return
        self.leaving = True
        self.age = 0
        self._raw.write_eof()
        self.flow.resume_reading()

    def _reset(self) -> None:
        """End it now. A peer that does not read would not notice anything gentler for minutes."""
        handle = self._raw.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_FAREWELL)
        self._raw.abort()

    def _ignore(self, data: bytes) -> None:
        self._ignored_bytes += len(data)
        if self._ignored_bytes > _MAX_IGNORED:
            self._reset()


def _head_too_large(limit: int) -> HeaderTooLarge:
    return HeaderTooLarge(
        f"a request's head has at most {limit} bytes; send fewer or shorter fields"
    )


def _too_many(limit: int) -> TooManyConnections:
    message = f"at most {limit} connections may be open; close some, or raise max_connections"
    return TooManyConnections(message)
