"""The connections of a daemon, and which of them wait for a client that does not come.

A connection *waits for its client* while no request of it is under way: to send one, or to take an answer.
One that does so for too long is stale. What the client trickles meanwhile does not count, since that
is how slow clients hold on to their places.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from headgate.gates.daemon_guard import DaemonGuard
    from headgate.gates.daemon_requests import DaemonRequest

__all__ = ["ConnectionBook", "DaemonConnection", "cut"]

_log = logging.getLogger("headgate.daemon")
_UNNAMED: Final = "?"
_TIME_TO_ASK: Final = 5
"""A flood of silent connections is through five times as fast as clients that are idle lose theirs."""


def _nothing() -> None:
    """Nothing to be done."""


@final
class DaemonConnection:
    """One connection: a handler makes its requests on it. Made by `DaemonGuard.connection`.

    As a context manager it frees its place at the end.

    Attributes:
        peer: who is at the other end, for the log.
        working: requests that are under way on it.
        served: requests that were begun on it, or what else was worthwhile.
        waiting_since_ns: when it began to wait for its client, on the guard's clock.
        is_cut: whether it was closed by the guard.
    """

    __slots__ = (
        "_guard",
        "close",
        "hang_up",
        "is_cut",
        "peer",
        "served",
        "waiting_since_ns",
        "working",
    )

    def __init__(
        self,
        guard: DaemonGuard,
        close: Callable[[], object],
        hang_up: Callable[[], object] | None,
        peer: str,
    ) -> None:
        self._guard = guard
        self.close = close
        self.hang_up = _nothing if hang_up is None else hang_up
        self.peer = peer or _UNNAMED
        self.working = 0
        self.served = 0
        self.waiting_since_ns = guard.clock.now_ns()
        self.is_cut = False

    def request(self) -> DaemonRequest:
        """``with connection.request(): ...`` does one request; see `DaemonGuard.request`."""
        return self._guard.request(self)

    def progressed(self) -> None:
        """Say that the client did something worthwhile, as a request is: its time begins anew."""
        self.served += 1
        self.waiting_since_ns = self._guard.clock.now_ns()

    def leave(self) -> None:
        """Free the place; once is enough, and more does no harm."""
        self._guard.disconnected(self)

    def waited(self, now: int) -> int:
        """Nanoseconds that it has waited for its client; 0 while a request is under way."""
        if self.working > 0:
            return 0
        # After the clock went back, the wait begins anew.
        self.waiting_since_ns = min(self.waiting_since_ns, now)
        return now - self.waiting_since_ns

    def __enter__(self) -> DaemonConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


@final
class ConnectionBook:
    """The connections that are open. Not locked: its owner does that.

    Attributes:
        total: that were ever opened.
        stale: that were closed because their clients did not come.
    """

    def __init__(self) -> None:
        self._open: dict[DaemonConnection, None] = {}
        self._crowded_ns = -NS_PER_SECOND
        self.total = 0
        self.stale = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[DaemonConnection]:
        return iter(list(self._open))

    def add(self, connection: DaemonConnection) -> None:
        self._open[connection] = None
        self.total += 1

    def remove(self, connection: DaemonConnection) -> None:
        self._open.pop(connection, None)

    def take_stale(self, now: int, after_ns: int) -> list[DaemonConnection]:
        """Those that wait for longer; they are marked, for `cut` to close."""
        return self._mark(c for c in self._open if c.waited(now) >= after_ns)

    def take_crowding(self, most: int, now: int, after_ns: int) -> list[DaemonConnection]:
        """With ``most`` open, whom to close: all that never asked for anything, or else one.

        The former have a fifth of the time to ask. The latter is the connection that has been idle for
        longest, and for so long. And no more for a second, in which those that were closed leave.
        """
        if len(self._open) < most or 0 <= now - self._crowded_ns < NS_PER_SECOND:
            return []
        there = [c for c in self._open if not c.is_cut]
        useless = [c for c in there if c.served == 0 and c.waited(now) >= after_ns // _TIME_TO_ASK]
        waiting = [c for c in there if c.waited(now) >= after_ns]
        if not useless and waiting:
            useless = [max(waiting, key=lambda c: c.waited(now))]
        if useless:
            self._crowded_ns = now
        return self._mark(useless)

    def _mark(self, found: Iterable[DaemonConnection]) -> list[DaemonConnection]:
        marked = [c for c in found if not c.is_cut]
        for connection in marked:
            connection.is_cut = True
        self.stale += len(marked)
        return marked


def cut(connections: Iterable[DaemonConnection]) -> None:
    """Close them, whatever that raises."""
    for connection in connections:
        _log.debug("closing the connection of %s: its client does not come", connection.peer)
        try:
            connection.close()
        except OSError:
            pass  # the client was faster
        except Exception:  # noqa: BLE001 - one that cannot be closed keeps no other from being closed
            _log.exception("a connection could not be closed")
