"""The weighted fair queue: every flow gets its share, however much the others ask for.

Weighted fair queuing on several seats, in virtual time (A. Demers, S. Keshav, S. Shenker 1989; the clock as
in WF2Q+ by J. C. R. Bennett and H. Zhang 1996). With charge = seats times the estimated service time::

    start  = max(V, last[flow])
    finish = start + charge / weight[flow];     last[flow] = finish
    V     += charge / weights of all flows with work that waits or is seated, for each that is seated
    V      = its start, if that is later

The least finish goes next. A flow that was idle starts at V: it saves nothing up, and pays for nothing that
others were given meanwhile. When nothing waits or is seated any more, all begin anew. When one is done,
last[flow] moves by (what it took - charge) / weight, so a flow that is slow is charged what it took; when one
that waited goes away unserved, its charge comes back.

When there is no room, the greatest finish gives way to a lesser one. It belongs to the flow that is furthest
ahead of its share, so a flood fills the room only as long as nobody else wants it.

Large candidates are not starved: one of 50 seats finishes at V + 50 and is first when the others have been
given as much; being first, it keeps that place, and seats that come free add up for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.flow_book import MAX_FLOWS, FlowBook
from headgate.backpressure.waiting_order import Ranking, ServiceTime, WaitingOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.backpressure.waiting_order import Candidate

__all__ = ["FairLane", "FairOrder"]

_LEAST_WEIGHT: Final = 1e-9  # what rounding may leave of a sum of weights is no number to divide by


@final
class FairLane:
    """Candidates that share fairly among each other: the lane of one tier, one class, or all.

    Args:
        weights: of the flows that have another than 1.
        max_flows: how many flows are told apart at most; see `headgate.backpressure.flow_book`.
        secret: for dealing shards.

    Attributes:
        work: what all that wait were charged, in seat-nanoseconds.
        aged: those that wait and stand one tier better than their own; ``len`` counts the others.
    """

    def __init__(
        self, weights: Mapping[str, float], max_flows: int = MAX_FLOWS, secret: bytes = b""
    ) -> None:
        self._book = FlowBook(weights, max_flows, secret)
        self._ranking = Ranking()
        self.aged = Ranking()
        self._virtual = 0.0
        self._open = 0
        self.work = 0.0

    def __len__(self) -> int:
        return len(self._ranking)

    def prepare(self, candidate: Candidate) -> None:
        """Its virtual times, for the ``charge`` that it has."""
        flow = self._book.account(candidate.flow, self._virtual)
        candidate.record = flow
        candidate.start = max(self._virtual, flow.last)
        candidate.finish = candidate.start + candidate.charge / flow.weight

    def add(self, candidate: Candidate) -> None:
        """It waits; it was prepared, and nothing has changed since."""
        flow = candidate.record
        if flow is not None:
            flow.last = candidate.finish
            self._book.opened(flow)
        self._open += 1
        self.work += candidate.charge
        self._ranking.add(candidate.finish, candidate)

    def age(self, candidate: Candidate) -> None:
        """It stands among the aged from now on, with the virtual times that it has."""
        self._ranking.remove(candidate.finish, candidate)
        candidate.level -= 1
        self.aged.add(candidate.finish, candidate)

    def lead(self, candidate: Candidate) -> float:
        """How far its finish is ahead of the virtual time; less goes first, here and across lanes."""
        return candidate.finish - self._virtual

    def first(self) -> Candidate | None:
        return self._ranking.first()

    def last(self) -> Candidate | None:
        return self._ranking.last()

    def victim(self, newcomer: Candidate) -> Candidate | None:
        """Who gives way to one that was prepared for this lane; None when the newcomer does.

        One of the newcomer's own flow never does: it was there before.
        """
        last = self._ranking.last()
        if last is None or last.record is newcomer.record or newcomer.finish >= last.finish:
            return None
        return last

    def remove(self, candidate: Candidate, *, seated: bool) -> None:
        """It takes its seat, or is gone."""
        ranking = self._ranking if candidate.level == candidate.tier else self.aged
        ranking.remove(candidate.finish, candidate)
        # Nothing waits, nothing is owed: what rounding left of the sum goes.
        waits = len(self._ranking) or len(self.aged)
        self.work = self.work - candidate.charge if waits else 0.0
        if seated:
            progress = candidate.charge / max(self._book.open_weight, _LEAST_WEIGHT)
            self._virtual = max(self._virtual + progress, candidate.start)
        else:
            self._settle(candidate, -candidate.charge)

    def finished(self, candidate: Candidate, took: float) -> None:
        """It is done, and took so many seat-nanoseconds."""
        self._settle(candidate, took - candidate.charge)

    def _settle(self, candidate: Candidate, more: float) -> None:
        flow = candidate.record
        if flow is not None:
            candidate.record = None
            flow.last += more / flow.weight
            self._book.closed(flow, self._virtual)
        self._open -= 1
        if self._open == 0:
            self._virtual = 0.0
            self._book.clear()


@final
class FairOrder(WaitingOrder):
    """One fair lane for all.

    Args:
        max_wait_ns: how long anybody may wait.
        weights: of the flows that have another than 1.
        secret: for dealing shards.
    """

    def __init__(self, max_wait_ns: int, weights: Mapping[str, float], secret: bytes = b"") -> None:
        self._max_wait_ns = max_wait_ns
        self._lane = FairLane(weights, secret=secret)
        self._service = ServiceTime()

    def prepare(self, candidate: Candidate, now: int) -> None:
        candidate.charge = candidate.cost * self._service.mean_ns
        self._lane.prepare(candidate)

    def patience(self, candidate: Candidate, now: int) -> int:
        return self._max_wait_ns

    def add(self, candidate: Candidate, now: int) -> None:
        self._lane.add(candidate)

    def first(self, now: int) -> Candidate | None:
        return self._lane.first()

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        return self._lane.victim(newcomer)

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        self._lane.remove(candidate, seated=seated)

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        self._service.observe(served_ns)
        self._lane.finished(candidate, float(candidate.seats * served_ns))
