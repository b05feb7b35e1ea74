"""A server under load: seats that work, a line before them, and a price for saying no.

The processor that works is also the one that says no. A rejection costs ``rejection_ns`` of it, and comes
first: the seats' work is held up by as much. With rejections at a share r of a service, and a load of x
times the capacity, at most (1 - r x)/(1 - r) of the capacity is left for good answers; that is the bound
that experiments are held to.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.simulation import Simulation
    from headgate.lab.workload import Request

__all__ = ["Fifo", "Line", "Server", "goodput_bound"]


def goodput_bound(load: float, rejection_share: float) -> float:
    """The most that any protection can do, as a share of the capacity.

    >>> goodput_bound(0.5, 0.01), round(goodput_bound(10.0, 0.01), 4)
    (0.5, 0.9091)

    Args:
        load: arrivals, as a multiple of the capacity.
        rejection_share: what a rejection costs, as a share of a service.
    """
    if load <= 1.0:
        return load
    return max(0.0, (1.0 - rejection_share * load) / (1.0 - rejection_share))


class Line(Protocol):
    """Where requests wait for a seat."""

    def push(self, request: Request, now: int) -> object:
        """One more waits."""

    def pop(self, now: int) -> Request | None:
        """Who is next; None when nobody is."""

    def __len__(self) -> int: ...


@final
class Fifo:
    """First come, first served, without bound: what a server has that was given no other."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def push(self, request: Request, now: int) -> None:
        self._waiting.append(request)

    def pop(self, now: int) -> Request | None:
        return self._waiting.popleft() if self._waiting else None

    def __len__(self) -> int:
        return len(self._waiting)


@final
class Server:
    """So many seats, each of which works on one request at a time.

    Args:
        simulation: whose time it is.
        done: told of each request when it is done.
        seats: how many work at a time.
        line: where requests wait; a `Fifo` when left out.
        rejection_ns: processor time of one rejection.
        started: told of each request when a seat takes it, before it works; when it returns False, the
            request is dropped instead and the seat takes the next.

    Attributes:
        speed: of the seats; at 0.3 a service that starts takes 1/0.3 of its time.
        working: seats at work.
        completed: requests done.
        dropped: requests that ``started`` did not let through.
        rejections: how many were refused.
    """

    def __init__(
        self,
        simulation: Simulation,
        done: Callable[[Request], object],
        *,
        seats: int = 1,
        line: Line | None = None,
        rejection_ns: int = 0,
        started: Callable[[Request], bool] | None = None,
    ) -> None:
        self._simulation = simulation
        self._done = done
        self._started = started
        self._rejection_ns = rejection_ns
        self._held_up_ns = 0
        self.seats = seats
        self.line: Line = Fifo() if line is None else line
        self.speed = 1.0
        self.working = 0
        self.completed = 0
        self.dropped = 0
        self.rejections = 0

    @property
    def in_flight(self) -> int:
        """Requests that wait or are worked on."""
        return self.working + len(self.line)

    def submit(self, request: Request) -> None:
        """Take a request in: a free seat begins at once, otherwise it waits."""
        self.line.push(request, self._simulation.now)
        self.pump()

    def reject(self) -> None:
        """Refuse one, which takes the processor's time; free seats have it to spare."""
        self.rejections += 1
        if self.working == self.seats:
            self._held_up_ns += self._rejection_ns

    def pump(self) -> None:
        """Give free seats work, if somebody waits; for lines that change by themselves."""
        now = self._simulation.now
        while self.working < self.seats:
            request = self.line.pop(now)
            if request is None:
                return
            if self._started is not None and not self._started(request):
                self.dropped += 1
                continue
            request.started = now
            self.working += 1
            self._simulation.after(int(request.service_ns / self.speed), self._finish, request)

    def _finish(self, request: Request) -> None:
        if self._held_up_ns:
            # Rejections came in between, so this seat's work is not done yet.
            late, self._held_up_ns = self._held_up_ns, 0
            self._simulation.after(late, self._finish, request)
            return
        self.working -= 1
        self.completed += 1
        self._done(request)
        self.pump()
