"""Clients between the users and a server: what users ask for becomes attempts, answers and retries.

Each client has a manner of its own (`headgate.lab.manners`). Goodput is counted where the users are: a
call is good when one of its attempts was answered in time. What the server sees is counted apart from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from headgate.backpressure.pressure import PressureMeter, Signals, raw_pressure
from headgate.clock import NS_PER_MS
from headgate.lab.protections import Tiered, Unprotected
from headgate.lab.servers import Server
from headgate.lab.workload import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.manners import Manner, Outcome, Ticket
    from headgate.lab.protections import Protection, Setting
    from headgate.lab.simulation import Event, Simulation
    from headgate.lab.workload import Tally

__all__ = ["Clients", "Pressed", "VirtualBackend", "pressed"]

_ONE_WAY_NS = NS_PER_MS // 2


class Backend(Protocol):
    """A server as clients see it; `headgate.lab.live.Remote` is one too."""

    def submit(self, request: Request) -> object:
        """Send it an attempt."""


@final
class Clients:
    """So many clients, over which the users' requests are dealt out.

    Args:
        time: of the run.
        manners: one for each client.
        tally: counts what became of the users' requests.
        timeout_ns: after which an attempt is given up.

    Attributes:
        backend: to be set before the first request.
        withheld: requests that were not sent at all.
    """

    def __init__(
        self, time: Simulation, manners: list[Manner], tally: Tally, timeout_ns: int
    ) -> None:
        self._time = time
        self._manners = manners
        self._tally = tally
        self._timeout_ns = timeout_ns
        self._sent = 0
        self._open: dict[int, _Call] = {}
        self.backend: Backend
        self.withheld = 0

    def ask(self, request: Request) -> None:
        """A user wants something."""
        self._tally.offer(request)
        ticket = self._manners[request.number % len(self._manners)].begin(request.tier)
        if ticket is None:
            self.withheld += 1
            self._tally.reject(request, self._time.now)
        else:
            self._send(_Call(request, ticket))

    def answered(self, attempt: Request, refused: object, pressure: float, now: int) -> None:
        """The server answered: ``refused`` is false when it did the work."""
        call = self._open.pop(attempt.number, None)
        if call is not None:  # else it was given up before
            call.timer.cancel()
            self._ended(call, "refused" if refused else "done", pressure, now)

    def _send(self, call: _Call) -> None:
        now = self._time.now
        self._sent += 1
        call.attempts += 1
        origin = call.request
        deadline = min(now + self._timeout_ns, origin.deadline)
        attempt = Request(
            self._sent, now, deadline, origin.service_ns, origin.tier, origin.flow, 1, call.attempts
        )
        call.timer = self._time.at(deadline, self._give_up, attempt)
        self._open[attempt.number] = call
        self.backend.submit(attempt)

    def _give_up(self, attempt: Request) -> None:
        call = self._open.pop(attempt.number, None)
        if call is not None:
            self._ended(call, "lost", 0.0, self._time.now)

    def _ended(self, call: _Call, outcome: Outcome, pressure: float, now: int) -> None:
        wait = call.ticket.ended(outcome, pressure)
        if outcome == "done":
            self._tally.done(call.request, now)
        elif wait is None or now + wait * 1e9 >= call.request.deadline:
            self._tally.reject(call.request, now)
        else:
            self._time.after(int(wait * 1e9), self._resume, call)

    def _resume(self, call: _Call) -> None:
        if call.ticket.resume():
            self._send(call)
        else:
            self._tally.reject(call.request, self._time.now)


class _Call:
    """One user's request, over all its attempts."""

    __slots__ = ("attempts", "request", "ticket", "timer")

    def __init__(self, request: Request, ticket: Ticket) -> None:
        self.request = request
        self.ticket = ticket
        self.attempts = 0
        self.timer: Event


@final
class Pressed(Unprotected):
    """Headgate's shedder, and the pressure that its answers carry: by how long work waited."""

    def __init__(self, setting: Setting) -> None:
        self._shedder: Protection = Tiered(setting)
        self.label = self._shedder.label
        self._meter = PressureMeter()
        self._waited_ns = self._begun = 0

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        return self._shedder.admit(request, waiting, now)

    def started(self, request: Request, now: int) -> None:
        self._waited_ns += now - request.arrived
        self._begun += 1

    def tick(self, waiting: int, now: int) -> None:
        delay = self._waited_ns / self._begun if self._begun else None
        self._meter.update(raw_pressure(Signals(queue_delay_ns=delay))[0], now)
        self._waited_ns = self._begun = 0

    def pressure(self, now: int) -> float:
        return self._meter.value


def pressed(setting: Setting) -> Protection:
    """For servers of the live rig."""
    return Pressed(setting)


@final
class VirtualBackend:
    """A server of the simulation behind a protection, half a millisecond away.

    Args:
        time: of the run.
        protection: decides about arrivals.
        answered: told of each answer when it arrives: (request, refused, pressure, now).
        tally: counts what the server sees.
        seats: of the server.
        rejection_ns: processor time of a rejection.
    """

    def __init__(
        self,
        time: Simulation,
        protection: Protection,
        answered: Callable[[Request, bool, float, int], object],
        tally: Tally,
        *,
        seats: int,
        rejection_ns: int,
    ) -> None:
        self._time = time
        self._protection = protection
        self._answered = answered
        self._tally = tally
        self.server = Server(
            time, self._done, seats=seats, rejection_ns=rejection_ns, started=self._started
        )
        time.every(100 * NS_PER_MS, lambda: protection.tick(len(self.server.line), time.now))

    def submit(self, request: Request) -> None:
        """Send it an attempt."""
        self._time.after(_ONE_WAY_NS, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        self._tally.offer(request)
        if self._protection.admit(request, len(self.server.line), self._time.now):
            self.server.submit(request)
        else:
            self.server.reject()
            self._answer(request, refused=True)

    def _started(self, request: Request) -> bool:
        self._protection.started(request, self._time.now)
        return True

    def _done(self, request: Request) -> None:
        self._protection.done(request, self._time.now)
        self._answer(request, refused=False)

    def _answer(self, request: Request, *, refused: bool) -> None:
        pressure = self._protection.pressure(self._time.now)
        self._time.after(_ONE_WAY_NS, self._hear, request, refused, pressure)

    def _hear(self, request: Request, refused: bool, pressure: float) -> None:  # noqa: FBT001 - an event
        self._answered(request, refused, pressure, self._time.now)
