"""A guarded daemon with a thread for each connection; and the guard for servers of `socketserver`.

There are never more threads than ``max_connections``. A turn of housekeeping comes every second, from a
thread of its own here, and from ``serve_forever`` there.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import threading
from contextlib import contextmanager, suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import InvalidInput, Overloaded
from headgate.gates.daemon_connections import cut
from headgate.gates.daemon_guard import TURN, VIOLATION_PAUSE_NS
from headgate.gates.numbers import YEAR, valid_call, valid_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.gates.daemon_connections import DaemonConnection
    from headgate.gates.daemon_guard import DaemonGuard

    Handler = Callable[[socket.socket, DaemonConnection], object]

__all__ = ["EXHAUSTED", "GuardedServer", "serve"]

_log = logging.getLogger("headgate.daemon")
EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept fails with when the system is out of something: the connection stays in the backlog."""
_LAST_SECONDS: Final = 2.0
"""How long threads get to end whose connections were cut."""


def serve(
    guard: DaemonGuard, listener: socket.socket, handle: Handler, drain_seconds: float = 10.0
) -> None:
    """Accept until `DaemonGuard.stop`, then let what is under way finish.

    Args:
        guard: decides about each accept.
        listener: a socket that listens. It stays open; what is in its backlog at the end is not served.
        handle: is called in a thread of its own with each socket, which is closed when it returns. What
            it raises is logged.
        drain_seconds: how long what is under way may take, once the daemon stops.

    Raises:
        InvalidInput: the handler cannot be called in a thread, or ``drain_seconds`` make no sense.
    """
    if iscoroutinefunction(valid_call("handle", handle)):
        raise InvalidInput(
            "handle must be a plain function; a coroutine function is for serve_async"
        )
    valid_number("drain_seconds", drain_seconds, 0.0, YEAR)
    crew = _Crew(guard, handle)
    listener.settimeout(0)
    with _housekeeping(guard), _waker(guard) as wake, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while not guard.stopping:
            selector.select()
            if not guard.stopping:
                _accept(guard, listener, crew)
        crew.finish(drain_seconds)


def _accept(guard: DaemonGuard, listener: socket.socket, crew: _Crew) -> None:
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
            accepted.settimeout(None)
            if not crew.take(accepted, address):
                pause = VIOLATION_PAUSE_NS / NS_PER_SECOND
    if pause > 0.0:
        guard.clock.wait_for(threading.Event(), pause)


@final
class _Crew:
    """The threads of one daemon."""

    def __init__(self, guard: DaemonGuard, handle: Handler) -> None:
        self._guard = guard
        self._handle = handle
        self._working = 0
        self._lock = threading.Lock()
        self._finishing = False
        self._finished = threading.Event()

    def take(self, accepted: socket.socket, address: object) -> bool:
        """Serve a connection; False when there is no thread for it, and it was closed."""
        try:
            connection = enter(self._guard, accepted, address)
        except Overloaded:  # another loop of the same guard was faster
            accepted.close()
            return True
        thread = threading.Thread(target=self._run, args=(accepted, connection), daemon=True)
        with self._lock:
            self._working += 1
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("%s: no thread for a connection: %s", self._guard.name, error)
            self._leave(accepted, connection)
            return False
        return True

    def finish(self, seconds: float) -> None:
        """Wait until all have ended; cut off those that take longer."""
        with self._lock:
            self._finishing = True
            if self._working == 0:
                return
        self._guard.hang_up()
        self._guard.clock.wait_for(self._finished, seconds)
        if not self._finished.is_set():
            cut(self._guard.connections)
            self._finished.wait(_LAST_SECONDS)

    def _run(self, accepted: socket.socket, connection: DaemonConnection) -> None:
        try:
            self._handle(accepted, connection)
        except (OSError, Overloaded) as error:
            _log.debug("the connection of %s ended: %s", connection.peer, error)
        except Exception:  # noqa: BLE001 - whatever a handler does, the others go on
            _log.exception("the handler of a connection failed")
        finally:
            self._leave(accepted, connection)

    def _leave(self, accepted: socket.socket, connection: DaemonConnection) -> None:
        connection.leave()
        accepted.close()
        with self._lock:
            self._working -= 1
            if self._finishing and self._working == 0:
                self._finished.set()


class GuardedServer:
    """A mixin that puts a guard before a server of `socketserver` or `http.server`.

    ::

        class Server(GuardedServer, ThreadingHTTPServer):
            guard = DaemonGuard()


        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with self.server.connection_of(self.request).request():
                    ...

    Its threads should be daemon threads, as those of ``ThreadingHTTPServer`` are.
    """

    guard: DaemonGuard

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._accepted: dict[Any, DaemonConnection] = {}
        self._kept_ns: int | None = None
        super().__init__(*args, **kwargs)

    def connection_of(self, request: Any) -> DaemonConnection:
        """The connection that belongs to this socket."""
        return self._accepted[request]

    def get_request(self) -> tuple[Any, Any]:
        """Ask the guard first; an OSError makes ``serve_forever`` look again."""
        pause = self.guard.gate()
        if pause > 0.0:
            self.guard.clock.wait_for(threading.Event(), pause)
            raise BlockingIOError(errno.EAGAIN, "the guard of this daemon lets nobody in now")
        request, address = super().get_request()  # type: ignore[misc] # of the server that this is mixed into
        try:
            connection = enter(self.guard, request, address)
        except Overloaded as error:
            request.close()
            raise BlockingIOError(errno.EAGAIN, "all places were just taken") from error
        self._accepted[request] = connection
        return request, address

    def shutdown_request(self, request: Any) -> None:
        """The connection is over."""
        connection = self._accepted.pop(request, None)
        if connection is not None:
            connection.leave()
        super().shutdown_request(request)  # type: ignore[misc] # likewise

    def service_actions(self) -> None:
        """Called by ``serve_forever`` twice a second and after each connection."""
        super().service_actions()  # type: ignore[misc] # likewise
        now = self.guard.clock.now_ns()
        if self._kept_ns is None or not 0 <= now - self._kept_ns < TURN * NS_PER_SECOND:
            self._kept_ns = now
            self.guard.housekeep()


def enter(guard: DaemonGuard, accepted: socket.socket, address: object) -> DaemonConnection:
    """Note a connection in the guard's book.

    Raises:
        Overloaded: there is no place for it.
    """
    # A thread that waits in recv or send is woken by shutdown, and not by close.
    return guard.connection(
        lambda: accepted.shutdown(socket.SHUT_RDWR),
        str(address[0]) if isinstance(address, tuple) else "",
        lambda: accepted.shutdown(socket.SHUT_RD),
    )


@contextmanager
def _housekeeping(guard: DaemonGuard) -> Iterator[None]:
    """A thread that does it, until the block ends."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                guard.housekeep()
            except Exception:  # noqa: BLE001 - whatever fails, the next turn comes
                _log.exception("housekeeping failed; it goes on")
            guard.clock.wait_for(over, min(TURN, guard.limits.monitor_interval))

    thread = threading.Thread(target=work, name="headgate-housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _waker(guard: DaemonGuard) -> Iterator[socket.socket]:
    """A socket that becomes readable when the daemon is to stop; even from a signal handler."""
    reading, writing = socket.socketpair()
    writing.settimeout(0)

    def wake() -> None:
        with suppress(OSError):
            writing.send(b"\0")

    with reading, writing, guard.waking(wake):
        yield reading
