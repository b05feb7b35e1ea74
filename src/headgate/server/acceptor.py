"""Accept connections on a socket that several processes listen on, in fair shares.

The kernel wakes all of them, and whoever runs first would take everything that is there: of ten kept-alive
connections one worker might get nine, and would have the work of nine for as long as they live. So a worker
that has more connections than another one steps back for a moment, the longer the more it has. If nobody
came meanwhile it takes them after all, so that a worker that hangs holds up nobody for long.

The queue belongs to all: when a worker goes, what waits in the queue is accepted by the others.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from headgate.server.balance import Seat

__all__ = ["Acceptor", "take_queue"]

_log = logging.getLogger("headgate.server")

_STEP_BACK_SECONDS: Final = 0.002
"""For each connection that a worker has more than another one."""
_MOST_STEPS: Final = 10
_MOST_AT_ONCE: Final = 64
_REPORT_SECONDS: Final = 0.05
_OUT_OF_FILES_SECONDS: Final = 1.0
_OUT_OF_FILES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_QUEUE: Final = 4_096


@final
class Acceptor:
    """One worker's hand on a listener that others have too.

    Args:
        listener: listens already.
        connection: makes the protocol of a new connection.
        held: tells how many connections this worker has.
        seat: where it says so.
        tls: the context of TLS, if it is spoken.
    """

    def __init__(
        self,
        listener: socket.socket,
        connection: Callable[[], asyncio.BaseProtocol],
        held: Callable[[], int],
        seat: Seat,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._connection = connection
        self._held = held
        self._seat = seat
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._reporting: asyncio.TimerHandle | None = None
        self._is_open = False
        self._patience = 1

    def open(self) -> None:
        """Begin to accept."""
        self._listener.settimeout(0)
        self._is_open = True
        self._report()
        self._listen()

    def close(self, *, sweep: bool) -> None:
        """Accept no more.

        Args:
            sweep: take what waits in the queue first, because nobody else will.
        """
        if not self._is_open:
            return
        self._is_open = False
        self._seat.leave()
        for timer in (self._paused, self._reporting):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listener.fileno())
        if sweep:
            for accepted in take_queue(self._listener):
                self._connect(accepted)
        self._listener.close()

    def _listen(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener.fileno(), self._ready)

    def _report(self) -> None:
        """Connections end without anybody being told, so look now and then."""
        self._report_now()
        self._reporting = self._loop.call_later(_REPORT_SECONDS, self._report)

    def _report_now(self) -> int:
        held = self._held() + len(self._tasks)
        self._seat.write(held)
        return held

    def _ready(self) -> None:
        """Somebody connects, or another worker was quicker."""
        lead = self._seat.lead(self._report_now())
        if lead > 0:
            self._pause(min(lead, _MOST_STEPS) * _STEP_BACK_SECONDS, self._return)
        else:
            self._patience = 1
            self._accept()

    def _return(self) -> None:
        """Take what nobody else wanted; more each time, for then somebody hangs."""
        self._paused = None
        for _ in range(self._patience):
            if not self._accept():
                break
        self._patience = min(2 * self._patience, _MOST_AT_ONCE)
        if self._paused is None:
            self._listen()

    def _accept(self) -> bool:
        """Take one connection, if there is one."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            _log.error("no connection can be accepted: %s", error.strerror)
            self._pause(_OUT_OF_FILES_SECONDS, self._listen)
            return False
        self._connect(accepted)
        return True

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._paused = self._loop.call_later(seconds, then)

    def _connect(self, accepted: socket.socket) -> None:
        accepted.settimeout(0)
        connected = self._loop.connect_accepted_socket(self._connection, accepted, ssl=self._tls)
        task = self._loop.create_task(connected)
        self._tasks.add(task)
        task.add_done_callback(self._connected)
        self._report_now()

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.debug("a connection ended before it began: %r", task.exception())


def take_queue(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted: whoever closes a listener would cut them off."""
    listener.settimeout(0)
    taken: list[socket.socket] = []
    while len(taken) < _QUEUE:
        try:
            taken.append(listener.accept()[0])
        except OSError:
            break
    return taken
