"""The weighted fair queue: every flow gets its share, however much the others ask for.

Weighted fair queuing on several seats, in virtual time (A. Demers, S. Keshav, S. Shenker 1989; the clock as
in WF2Q+ by J. C. R. Bennett and H. Zhang 1996). With charge = seats times the estimated service time::

    start  = last[flow];  max(V, last[flow]) when the flow begins to wait
    finish = start + charge / weight[flow];  last[flow] = finish when it is seated
    V     += charge / (weights of all flows that have work or are ahead of V), for each that is seated
    V      = its start, if that is later

Of the flows' first candidates the one with the least finish goes next. A flow that was idle starts at V: it
saves nothing up, and pays for nothing that others were given meanwhile. When work is done, last[flow] moves
by (what it took - charge) / weight, so a flow that is slow is charged what it took. What leaves unserved
was never charged. When nothing waits or is seated any more, all begin anew.

When there is no room, the last of the flow whose last would finish latest gives way to a newcomer that would
finish sooner. So a flood fills the room only as long as nobody else wants it.

Large candidates are not starved: one of 50 seats finishes at V + 50 and is first when the others have been
given as much; being first, it keeps that place, and seats that come free add up for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.flow_book import MAX_FLOWS, FlowBook
from headgate.backpressure.waiting_order import Ranking, ServiceTime, WaitingOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.backpressure.flow_book import Flow
    from headgate.backpressure.waiting_order import Candidate

__all__ = ["FairLane", "FairOrder"]

_LEAST_WEIGHT: Final = 1e-9  # what rounding may leave of a sum of weights is no number to divide by


@final
class FairLane:
    """Candidates that share fairly among each other: the lane of one tier, one class, or all.

    Only the first and the last of each flow are ranked, so that what changes a flow's place in virtual time
    moves all of it at once. Those that have aged are ranked apart: they stand one tier better than their own.
    ``finish`` is up to date for a newcomer, and for what `first` and `last` answer.

    Args:
        weights: of the flows that have another than 1.
        max_flows: how many flows are told apart at most; see `headgate.backpressure.flow_book`.
        secret: for dealing shards.

    Attributes:
        work: what all that wait were charged, in seat-nanoseconds.
        service: how long candidates of all flows take.
        aged: how many wait and have aged; ``len`` counts the others.
    """

    def __init__(
        self, weights: Mapping[str, float], max_flows: int = MAX_FLOWS, secret: bytes = b""
    ) -> None:
        self._book = FlowBook(weights, max_flows, secret)
        self._heads = Ranking()
        self._tails = Ranking()
        self._aged_heads = Ranking()
        self._aged_tails = Ranking()
        self._waiting = 0
        self._open = 0
        self._virtual = 0.0
        self.work = 0.0
        self.service = ServiceTime()
        self.aged = 0

    def __len__(self) -> int:
        return self._waiting - self.aged

    def prepare(self, candidate: Candidate) -> None:
        """Its charge and its virtual times."""
        flow = self._book.account(candidate.flow)
        service = self.service if flow.service is None else flow.service
        # Whole nanoseconds, of which sums are exact.
        candidate.charge = float(max(1, round(candidate.cost * service.mean_ns)))
        candidate.record = flow
        begins = flow.last if flow.queue else max(self._virtual, flow.last)
        candidate.start = begins + flow.work / flow.weight
        candidate.finish = begins + (flow.work + candidate.charge) / flow.weight

    def add(self, candidate: Candidate) -> None:
        """It waits; it was prepared, and nothing has changed since."""
        flow = candidate.record
        if flow is None:
            return
        self._unrank(flow)
        if not flow.queue:
            flow.last = max(self._virtual, flow.last)
        flow.queue[candidate.number] = candidate
        flow.work += candidate.charge
        self._rank(flow)
        self._book.opened(flow)
        self._waiting += 1
        self._open += 1
        self.work += candidate.charge

    def age(self, candidate: Candidate) -> None:
        """It stands among the aged from now on."""
        flow = candidate.record
        if flow is not None:
            self._unrank(flow)
            candidate.level -= 1
            self.aged += 1
            self._rank(flow)

    def lead(self, candidate: Candidate) -> float:
        """How far its finish is ahead of the virtual time; less goes first, here and across lanes."""
        return candidate.finish - self._virtual

    def first(self, *, aged: bool = False) -> Candidate | None:
        """Who goes next of those that have aged, or have not."""
        return self._aged_heads.first() if aged else self._heads.first()

    def last(self, *, aged: bool = False) -> Candidate | None:
        """Who gives way first of those that have aged, or have not."""
        return self._aged_tails.last() if aged else self._tails.last()

    def victim(self, newcomer: Candidate) -> Candidate | None:
        """Who gives way to one that was prepared for this lane; None when the newcomer does.

        One of the newcomer's own flow never does: it was there before.
        """
        last = self._tails.last()
        if last is None or last.record is newcomer.record or newcomer.finish >= last.finish:
            return None
        return last

    def remove(self, candidate: Candidate, *, seated: bool) -> None:
        """It takes its seat, as the first of its flow, or is gone."""
        flow = candidate.record
        if flow is None:
            return
        self._unrank(flow)
        del flow.queue[candidate.number]
        flow.work -= candidate.charge
        self.work -= candidate.charge
        self._waiting -= 1
        if candidate.level != candidate.tier:
            self.aged -= 1
        candidate.start = flow.last
        if seated:
            flow.last += candidate.charge / flow.weight
        self._rank(flow)
        if seated:
            progress = candidate.charge / max(self._book.weight, _LEAST_WEIGHT)
            self._virtual = max(self._virtual + progress, candidate.start)
            self._book.advance(self._virtual)
        else:
            self._close(candidate, flow)

    def finished(self, candidate: Candidate, served_ns: int) -> float:
        """It is done. Returns how much more it took than it was charged, in seat-nanoseconds."""
        self.service.observe(served_ns)
        more = float(candidate.seats * served_ns) - candidate.charge
        flow = candidate.record
        if flow is not None:
            if flow.service is None:
                flow.service = ServiceTime()
            flow.service.observe(served_ns)
            self._unrank(flow)
            flow.last += more / flow.weight
            self._rank(flow)
            self._close(candidate, flow)
        return more

    def _close(self, candidate: Candidate, flow: Flow) -> None:
        candidate.record = None
        self._book.closed(flow, self._virtual)
        self._open -= 1
        if self._open == 0:
            self._virtual = 0.0
            self._book.clear()

    def _rank(self, flow: Flow) -> None:
        """Put the first and the last of a flow where they belong."""
        if flow.queue:
            tail = next(reversed(flow.queue.values()))
            tail.finish = flow.last + flow.work / flow.weight
            (self._tails if tail.level == tail.tier else self._aged_tails).add(tail.finish, tail)
            head = next(iter(flow.queue.values()))
            head.finish = flow.last + head.charge / flow.weight
            (self._heads if head.level == head.tier else self._aged_heads).add(head.finish, head)

    def _unrank(self, flow: Flow) -> None:
        """Take them out, before anything changes that they are ranked by."""
        if flow.queue:
            tail = next(reversed(flow.queue.values()))
            finish = flow.last + flow.work / flow.weight
            (self._tails if tail.level == tail.tier else self._aged_tails).remove(finish, tail)
            head = next(iter(flow.queue.values()))
            finish = flow.last + head.charge / flow.weight
            (self._heads if head.level == head.tier else self._aged_heads).remove(finish, head)


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

    def prepare(self, candidate: Candidate, now: int) -> None:
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
        self._lane.finished(candidate, served_ns)
