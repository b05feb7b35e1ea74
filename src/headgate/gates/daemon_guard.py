"""The guard of a daemon: what comes in is throttled, so that what is under way finishes (B9).

Before a connection is accepted, the gate is asked for a pause:

=============================================  ===========================================
memory or processor time at its limit          1 s; with nothing under way, one connection a
                                               second comes in
connections, requests under way, or requests   0.1 s
in this minute at their limit
otherwise                                      none
=============================================  ===========================================

A connection that is not accepted waits in the system's backlog, where it costs this process nothing.

Each request asks again, since a connection that is open may bring any number: at most so many begin in any
minute, at most so many are under way, and while memory or processor time is at its limit, at most one.
That one keeps a daemon of use whose limit is too low for it, and lets it find out that it is not.

Waiting for their turns, for resources and for the clock is all that is done here. The accept loops are in
`headgate.gates.daemon_threads` and `headgate.gates.daemon_tasks`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.request_statistics import RequestStatistics
from headgate.backpressure.thresholds import Status
from headgate.clock import NS_PER_MS, NS_PER_SECOND, SystemClock, seconds_to_ns
from headgate.decision import Decision
from headgate.errors import InvalidInput, Overloaded
from headgate.gates.daemon_connections import ConnectionBook, DaemonConnection, cut
from headgate.gates.daemon_limits import DaemonLimits
from headgate.gates.daemon_report import DaemonReporter
from headgate.gates.daemon_requests import DaemonRequest
from headgate.gates.limiter import Limiter
from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.numbers import valid_call
from headgate.rate import Rate

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator

    from headgate.backpressure.request_statistics import Outcome
    from headgate.clock import Clock
    from headgate.gates.daemon_tasks import AsyncHandler
    from headgate.gates.daemon_threads import Handler
    from headgate.gates.load_report import LoadReport

__all__ = ["DaemonGuard"]

LIMIT_PAUSE_NS: Final = 100 * NS_PER_MS
VIOLATION_PAUSE_NS: Final = NS_PER_SECOND
TURN: Final = 1.0
"""Seconds between two turns of housekeeping."""

_SAMPLE_INTERVAL: Final = 0.5
_MINUTE_NS: Final = 60 * NS_PER_SECOND
_ALL: Final = "all"


@final
class DaemonGuard:
    """Protects a threaded or asyncio daemon.

    ::

        guard = DaemonGuard()  # limits from HEADGATE_MAX_MEMORY_MB and so on
        guard.serve(socket.create_server(("127.0.0.1", 9000)), handle)


        def handle(sock, connection):
            while line := ...:
                with connection.request():  # raises Overloaded
                    answer = work(line)
                sock.sendall(answer)  # outside: whoever reads slowly holds no place

    With an accept loop of your own, ask `gate` before each accept and call `housekeep` every second.

    Thread-safe.

    Args:
        limits: how much is allowed; read from the environment when left out.
        name: stands in the log and the metrics.
        monitor: reads memory and processor time, by limits of its own; one that goes by ``limits`` is
            made when left out.
        clock: gives the time; the system's when left out.

    Raises:
        ConfigurationError: a variable of the environment cannot be used, or psutil is not installed.
        InvalidInput: ``limits`` are something else.
    """

    def __init__(
        self,
        limits: DaemonLimits | None = None,
        *,
        name: str = "daemon",
        monitor: LoadMonitor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.limits = _valid_limits(limits)
        self.name = name
        self.clock: Clock = SystemClock() if clock is None else clock
        self._watched = _watched(self.limits, monitor)
        self._monitor = self._make_monitor() if monitor is None else monitor
        now = self.clock.now_ns()
        self._minute = Limiter(
            Rate(self.limits.max_requests_per_minute, _MINUTE_NS),
            algorithm="sliding_window_log",
            clock=self.clock,
            name="max_requests_per_minute",
        )
        self._connections = ConnectionBook()
        self._statistics = RequestStatistics(now)
        self._reporter = DaemonReporter(self, now)
        self._stale_ns = seconds_to_ns(self.limits.stale_connection_seconds)
        self._grace_ns = seconds_to_ns(self.limits.connection_grace_seconds)
        self._accepted_ns = now - VIOLATION_PAUSE_NS
        self._on_stop: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self.in_flight = 0
        self.rejections = 0
        self.invalid = 0
        self.stopping = False

    # --- for accept loops and handlers

    def gate(self) -> float:
        """Seconds to pause before the next accept; 0.0 to accept now.

        While all connections are taken, those are closed that never asked for anything in a fifth of
        ``connection_grace_seconds``; without such, those one by one that were idle for all of them.
        """
        violated = self.violated()
        now = self.clock.now_ns()
        with self._lock:
            crowding = self._crowding(now)
            reached = self._limit_reached()
            idle = self.in_flight == 0 and not 0 <= now - self._accepted_ns < VIOLATION_PAUSE_NS
        cut(crowding)
        if violated and (reached or not idle):
            return VIOLATION_PAUSE_NS / NS_PER_SECOND
        return LIMIT_PAUSE_NS / NS_PER_SECOND if reached else 0.0

    def connection(
        self,
        close: Callable[[], object],
        peer: str = "",
        hang_up: Callable[[], object] | None = None,
    ) -> DaemonConnection:
        """Note that a connection was accepted.

        Args:
            close: ends it at once, from any thread; called when it is stale.
            peer: who is at the other end, for the log.
            hang_up: tells its handler that the client sends no more; called when the daemon stops.

        Raises:
            Overloaded: as many are open as may be.
        """
        valid_call("close", close)
        with self._lock:
            if len(self._connections) >= self.limits.max_connections:
                raise self._refusal("max_connections", self.limits.max_connections, LIMIT_PAUSE_NS)
            connection = DaemonConnection(self, close, hang_up, peer)
            self._accepted_ns = connection.waiting_since_ns
            self._connections.add(connection)
            self._reporter.count("connections", len(self._connections))
            return connection

    def request(self, connection: DaemonConnection | None = None) -> DaemonRequest:
        """``with guard.request(): ...`` (or ``async with``) does one request.

        An exception counts as a failure of the request, `InvalidInput` as one of validation besides. A
        cancellation, or a refusal by some limiter of ours, says nothing.

        Raises:
            Overloaded: on entering, when the request may not begin.
        """
        return DaemonRequest(self, connection)

    def record_invalid(self) -> None:
        """Count a request that was not valid, where no exception says so."""
        with self._lock:
            self.invalid += 1

    def housekeep(self) -> None:
        """One turn: close what is stale, give memory back, write the log lines that are due."""
        report = self._monitor.report()
        now = self.clock.now_ns()
        with self._lock:
            stale = self._connections.take_stale(now, self._stale_ns)
            stale += self._crowding(now)
            self._reporter.count("requests_per_minute", self.minute_count())
        cut(stale)
        self._reporter.turn(report, now)

    def metrics(self) -> dict[str, Any]:
        """The metrics document: daemon, resources, performance, security, connections; for JSON."""
        report = self._monitor.report()
        with self._lock:
            self._reporter.count("requests_per_minute", self.minute_count())
            return self._reporter.document(report, self.clock.now_ns())

    def stop(self) -> None:
        """Accept no more, and let what is under way finish. From any thread, or a signal handler."""
        self.stopping = True
        for wake in tuple(self._on_stop):
            wake()

    def serve(
        self, listener: socket.socket, handle: Handler, *, drain_seconds: float = 10.0
    ) -> None:
        """Accept until `stop`, with a thread for each connection; see `headgate.gates.daemon_threads`."""
        from headgate.gates.daemon_threads import serve  # noqa: PLC0415 - loads when it is used

        serve(self, listener, handle, drain_seconds)

    def serve_async(
        self, listener: socket.socket, handle: AsyncHandler, **options: Any
    ) -> Coroutine[Any, Any, None]:
        """Accept until `stop`, with a task for each connection; see `headgate.gates.daemon_tasks`."""
        from headgate.gates.daemon_tasks import serve  # noqa: PLC0415 - loads when it is used

        return serve(self, listener, handle, **options)

    # --- for the parts of this room

    @property
    def connections(self) -> ConnectionBook:
        """Those that are open."""
        return self._connections

    @property
    def statistics(self) -> RequestStatistics:
        """How the requests went."""
        return self._statistics

    def violated(self) -> list[str]:
        """The resources that are at their limits."""
        return self.violations_in(self._monitor.report())

    def violations_in(self, report: LoadReport) -> list[str]:
        """Likewise, in this report."""
        return [n for n in self._watched if report.resources[n].status is Status.VIOLATE]

    def watched(self) -> tuple[str, ...]:
        """The resources that have limits."""
        return self._watched

    def minute_count(self) -> int:
        """Requests that began in the last minute."""
        return self._minute.usage(_ALL)[0].used

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Until the block ends, `stop` calls this; out of a signal handler, so it must take no lock."""
        self._on_stop.append(wake)
        try:
            yield
        finally:
            self._on_stop.remove(wake)

    def hang_up(self) -> None:
        """Tell all handlers that their clients send no more."""
        for connection in self._connections:
            try:
                connection.hang_up()
            except OSError:
                continue  # the client was faster

    def begin(self, connection: DaemonConnection | None) -> int:
        """Let a request begin, and say when; for `DaemonRequest`."""
        violated = self.violated()
        with self._lock:
            if violated and self.in_flight > 0:
                raise self._refusal(violated[0], 1, VIOLATION_PAUSE_NS)
            if self.in_flight >= self.limits.max_concurrent_requests:
                most = self.limits.max_concurrent_requests
                raise self._refusal("max_concurrent_requests", most, LIMIT_PAUSE_NS)
            decision = self._minute.check(_ALL)
            if not decision.allowed:
                self.rejections += 1
                raise Overloaded(decision, self.name)
            self.in_flight += 1
            self._reporter.count("concurrent_requests", self.in_flight)
            if connection is not None:
                connection.working += 1
                connection.served += 1
            return self.clock.now_ns()

    def ended(
        self, connection: DaemonConnection | None, began_ns: int, outcome: Outcome, *, invalid: bool
    ) -> None:
        """A request is over; for `DaemonRequest`."""
        with self._lock:
            now = self.clock.now_ns()
            self.in_flight -= 1
            self._reporter.count("concurrent_requests", self.in_flight)
            self.invalid += invalid
            self._statistics.ended(outcome, now - began_ns, now)
            if connection is not None:
                connection.working -= 1
                connection.waiting_since_ns = now

    def disconnected(self, connection: DaemonConnection) -> None:
        """A connection is over; for `DaemonConnection`."""
        with self._lock:
            self._connections.remove(connection)
            self._reporter.count("connections", len(self._connections))

    def _limit_reached(self) -> bool:
        limits = self.limits
        return (
            len(self._connections) >= limits.max_connections
            or self.in_flight >= limits.max_concurrent_requests
            or not self._minute.peek(_ALL).allowed
        )

    def _crowding(self, now: int) -> list[DaemonConnection]:
        return self._connections.take_crowding(self.limits.max_connections, now, self._grace_ns)

    def _refusal(self, policy: str, limit: int, wait_ns: int) -> Overloaded:
        self.rejections += 1
        return Overloaded(Decision(False, limit, 0, wait_ns, wait_ns, 0, policy, 0), self.name)

    def _make_monitor(self) -> LoadMonitor:
        return LoadMonitor(
            interval=_SAMPLE_INTERVAL,
            max_memory_mb=self.limits.max_memory_mb,
            max_cpu_percent=self.limits.max_cpu_percent,
            clock=self.clock,
        )


def _valid_limits(limits: object) -> DaemonLimits:
    if limits is None:
        return DaemonLimits.load()
    if not isinstance(limits, DaemonLimits):
        raise InvalidInput(
            f"limits must be DaemonLimits, got {type(limits).__name__}; leave them out to read the "
            "environment"
        )
    return limits


def _watched(limits: DaemonLimits, monitor: LoadMonitor | None) -> tuple[str, ...]:
    """The resources that hold work back: those with a limit, or those of a monitor that was given."""
    if monitor is not None:
        return ("memory", "cpu", "network")
    own = {"memory": limits.max_memory_mb, "cpu": limits.max_cpu_percent}
    return tuple(name for name, limit in own.items() if limit is not None)
