"""A server before which a `Seating` decides: the queues of `AdmissionQueue`, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from headgate.backpressure.waiting_order import Candidate, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.backpressure.seating import Seating
    from headgate.lab.simulation import Simulation
    from headgate.lab.workload import Request

__all__ = ["SeatedServer"]


@final
class SeatedServer:
    """Seats that work, given out by a `Seating`; in the place of `headgate.lab.servers.Server`.

    Args:
        simulation: whose time it is.
        seating: who has a seat, who waits, who is sent away.
        done: told of each request when it is done.
        refused: told of each that was sent away.
        started: told of each when it is seated.
    """

    def __init__(
        self,
        simulation: Simulation,
        seating: Seating,
        done: Callable[[Request], object],
        refused: Callable[[Request], object],
        started: Callable[[Request], object] | None = None,
    ) -> None:
        self._simulation = simulation
        self._seating = seating
        self._done = done
        self._refused = refused
        self._started = started

    def submit(self, request: Request) -> None:
        """A request arrives; it waits until its deadline at most."""
        now = self._simulation.now
        candidate = Candidate(
            tier=request.tier,
            flow=request.flow,
            cost=request.cost,
            patience_ns=max(0, request.deadline - now),
            owner=request,
        )
        self._hear(self._seating.arrive(candidate, now))
        if candidate.standing is Standing.WAITING:
            self._simulation.at(candidate.expires, self._look, candidate)

    def _look(self, candidate: Candidate) -> None:
        if candidate.standing is Standing.WAITING:
            self._hear(self._seating.look(self._simulation.now))

    def _hear(self, changed: list[Candidate]) -> None:
        for candidate in changed:
            request = cast("Request", candidate.owner)
            if candidate.standing is Standing.SEATED:
                request.started = self._simulation.now
                if self._started is not None:
                    self._started(request)
                self._simulation.after(request.service_ns, self._finish, candidate)
            elif candidate.standing is not Standing.LEFT:
                self._refused(request)

    def _finish(self, candidate: Candidate) -> None:
        self._done(cast("Request", candidate.owner))
        self._hear(self._seating.leave(candidate, self._simulation.now))
