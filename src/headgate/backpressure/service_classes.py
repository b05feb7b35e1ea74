"""Service classes: a target latency and a share for each class decide who is admitted (C7).

The share is what a class is entitled to when all want more than there is; what one leaves goes to the others.
The target is the latency, waiting and service together, within which its work is of use.

Who is next. Each class has a virtual start, as in worst-case fair queuing (J. C. R. Bennett, H. Zhang 1996)::

    V       += charge                            for all work that is seated
    start[c] = max(start[c], V)                  when the class begins to wait
    start[c] += charge / share[c]                for its own work that is seated
    eligible: start[c] <= V;   V = the least start of those who wait, if that is later

Among the eligible classes the earliest deadline (arrival + target) goes next: the share says how much a class
gets, the target how soon. Within a class flows share fairly.

Who may wait. One whose latency is foreseen above the target of its class is refused at once::

    foreseen = work that waits in the class / (seats * share among those who wait) + mean service time

and one that waits is given up when its service could no longer end in time. A free seat is given in any
case, so that a class whose service became slower than its target is still measured.

When there is no room, the class that uses most of its share of the places gives way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, SupportsFloat, final

from headgate.backpressure.fair_queue import FairLane
from headgate.backpressure.waiting_order import WaitingOrder
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.backpressure.waiting_order import Candidate
    from headgate.inputs import Text

__all__ = ["MAX_CLASSES", "ClassOrder", "ServiceClass"]

MAX_CLASSES: Final = 64
_MAX_TARGET: Final = 86_400.0
_ROUNDING: Final = 1e-9


@final
class ServiceClass:
    """What a class of work is promised.

    >>> ServiceClass("gold", target_latency=0.1, share=0.6)
    ServiceClass('gold', target_latency=0.1, share=0.6)

    Args:
        name: by which callers ask for it.
        target_latency: seconds from asking to the end of the work, > 0.
        share: of the seats, when all classes want more than there is; above 0, at most 1.

    Raises:
        InvalidInput: one of them is none.
    """

    def __init__(self, name: Text, target_latency: SupportsFloat, share: SupportsFloat) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise InvalidInput(
                f"a class needs a name of 1 to 100 characters, got {name!r:.120}; name it as callers will"
            )
        self.name = str.__str__(name)
        self.target_latency = _number("target_latency", target_latency, _MAX_TARGET, "seconds")
        self.share = _number("share", share, 1.0, "of the seats")

    def __repr__(self) -> str:
        return (
            f"ServiceClass({self.name!r}, target_latency={self.target_latency:g}, "
            f"share={self.share:g})"
        )


@final
class _Class:
    """One class at work."""

    def __init__(self, target_ns: int, share: float, lane: FairLane) -> None:
        self.target_ns = target_ns
        self.share = share
        self.lane = lane
        self.start = 0.0


@final
class ClassOrder(WaitingOrder):
    """Classes by share and deadline.

    Args:
        classes: at least one, with names of their own; shares that sum to less than 1 are scaled up.
        seats: how many there are.
        weights: of the flows that have another than 1.
        secret: for dealing shards.

    Raises:
        InvalidInput: there are no classes, or too many, or two of one name, or shares above 1 in sum.
    """

    def __init__(
        self,
        classes: Sequence[ServiceClass],
        seats: int,
        weights: Mapping[str, float],
        secret: bytes = b"",
    ) -> None:
        _require_consistent(classes)
        whole = sum(each.share for each in classes)
        self._seats = seats
        self._virtual = 0.0
        self._classes = [
            _Class(
                round(each.target_latency * 1e9),
                each.share / whole,
                FairLane(weights, secret=secret),
            )
            for each in classes
        ]

    def resize(self, seats: int) -> None:
        self._seats = seats

    def prepare(self, candidate: Candidate, now: int) -> None:
        its = self._classes[candidate.group]
        its.lane.prepare(candidate)

    def is_hopeless(self, candidate: Candidate, now: int) -> bool:
        its = self._classes[candidate.group]
        competing = its.share
        for each in self._classes:
            if each is not its and len(each.lane):
                competing += each.share
        wait = its.lane.work / (self._seats * its.share / competing)
        return wait + its.lane.service.mean_ns > its.target_ns

    def patience(self, candidate: Candidate, now: int) -> int:
        its = self._classes[candidate.group]
        return max(0, its.target_ns - round(its.lane.service.mean_ns))

    def add(self, candidate: Candidate, now: int) -> None:
        its = self._classes[candidate.group]
        if not len(its.lane):
            its.start = max(its.start, self._virtual)
        its.lane.add(candidate)

    def first(self, now: int) -> Candidate | None:
        waiting = [each for each in self._classes if len(each.lane)]
        if not waiting:
            return None
        self._virtual = max(self._virtual, min(each.start for each in waiting))
        chosen: Candidate | None = None
        deadline = 0
        for each in waiting:
            head = each.lane.first()
            if each.start <= self._virtual and head is not None:
                due = head.arrived + each.target_ns
                if chosen is None or due < deadline:
                    chosen, deadline = head, due
        return chosen

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        its = self._classes[newcomer.group]
        crowded = max(self._classes, key=lambda each: len(each.lane) / each.share)
        if crowded is its:
            return its.lane.victim(newcomer)
        if (len(its.lane) + 1) / its.share < len(crowded.lane) / crowded.share:
            return crowded.lane.last()
        return None

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        its = self._classes[candidate.group]
        its.lane.remove(candidate, seated=seated)
        if seated:
            self._virtual += candidate.charge
            its.start += candidate.charge / its.share

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        its = self._classes[candidate.group]
        its.start += its.lane.finished(candidate, served_ns) / its.share


def _require_consistent(classes: Sequence[ServiceClass]) -> None:
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise InvalidInput(
            f"there must be 1 to {MAX_CLASSES} classes, got {len(classes)}; leave classes out to have none"
        )
    names = [each.name for each in classes]
    if len(set(names)) < len(names):
        raise InvalidInput(f"classes must have different names, got {', '.join(names):.200}")
    whole = sum(each.share for each in classes)
    if whole > 1.0 + _ROUNDING:
        raise InvalidInput(f"shares must sum to at most 1, got {whole:g}; scale them down")


def _number(name: str, value: object, most: float, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value <= most:  # which NaN is not either
        is_huge = isinstance(value, int) and value.bit_length() > 64
        shown = "a huge number" if is_huge else f"{float(value):g}"
        raise InvalidInput(f"{name} must be above 0 and at most {most:g} {unit}, got {shown}")
    return float(value)
