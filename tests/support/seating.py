"""Short words for tests of queues: candidates that arrive and leave at plain moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.backpressure.seating import Seating
from headgate.backpressure.waiting_order import Candidate, Standing

if TYPE_CHECKING:
    from headgate.backpressure.waiting_order import WaitingOrder

MS = 10**6
SECOND = 10**9
SERVICE = 10 * MS  # the estimate before anything was served, so that charges are whole


class Play:
    """A seating whose time the test moves, and the names of who was seated, in order."""

    def __init__(self, order: WaitingOrder, seats: int = 1, max_waiting: int = 100) -> None:
        self.seating = Seating(order, seats, max_waiting)
        self.now = 0
        self.order: list[str] = []
        self.candidates: dict[str, Candidate] = {}

    def arrive(self, name: str, **properties: object) -> Standing:
        candidate = Candidate(owner=name, **properties)
        self.candidates[name] = candidate
        self._note(self.seating.arrive(candidate, self.now))
        return candidate.standing

    def leave(self, name: str) -> None:
        self._note(self.seating.leave(self.candidates[name], self.now))

    def wait(self, nanoseconds: int) -> None:
        self.now += nanoseconds
        self._note(self.seating.look(self.now))

    def serve(self, count: int = 1, nanoseconds: int = SERVICE) -> list[str]:
        """The longest seated is done, and again; who was seated thereby."""
        before = len(self.order)
        for _ in range(count):
            self.now += nanoseconds
            seated = [c for c in self.candidates.values() if c.standing is Standing.SEATED]
            first = min(seated, key=lambda candidate: candidate.ended)
            self._note(self.seating.leave(first, self.now))
        return self.order[before:]

    def standing(self, name: str) -> Standing:
        return self.candidates[name].standing

    def _note(self, changed: list[Candidate]) -> None:
        self.order += [str(c.owner) for c in changed if c.standing is Standing.SEATED]
