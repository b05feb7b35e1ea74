"""The priority queue: the important first, nobody never.

Each tier is a weighted fair queue of its own, and the most important tier that has somebody waiting goes
next. Three rules keep the others alive:

* Ageing. Who has waited for half the longest wait stands one tier better, once: effective tier = tier -
  floor(wait / (max_wait / 2)), one at most. There it is a newcomer of its flow.
* A share of the seats. Whenever work is seated, every tier that waits gains a claim to 5 % of it; as soon as
  that covers its first candidate, this one goes ahead of all tiers.
* A share of the room. When there is no room, the least important gives way to a more important newcomer, and
  within a tier the greater finish to the lesser. But a tier keeps 5 % of the places: none is taken from one
  that has no more than those, and one that has fewer takes a place even from a more important tier.

Only those who wait give way; nobody who has a seat loses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.fair_queue import FairLane
from headgate.backpressure.waiting_order import Ranking, ServiceTime, WaitingOrder
from headgate.priority import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.backpressure.waiting_order import Candidate

__all__ = ["TIER_SHARE", "PriorityOrder"]

TIER_SHARE: Final = 0.05
"""Of the seats and of the places, for each tier that waits."""


@final
class PriorityOrder(WaitingOrder):
    """Tiers, fair within, with ageing and a share for each.

    Args:
        max_wait_ns: how long anybody may wait.
        max_waiting: how many places there are.
        weights: of the flows that have another than 1.
        secret: for dealing shards.
    """

    def __init__(
        self,
        max_wait_ns: int,
        max_waiting: int,
        weights: Mapping[str, float],
        secret: bytes = b"",
    ) -> None:
        self._max_wait_ns = max_wait_ns
        self._ages_after_ns = max_wait_ns // 2
        self._kept_places = int(TIER_SHARE * max_waiting)
        self._lanes = [FairLane(weights, secret=secret) for _ in range(TIERS)]
        self._unaged = [Ranking() for _ in range(TIERS)]
        self._claims = [0.0] * TIERS
        self._service = ServiceTime()

    def prepare(self, candidate: Candidate, now: int) -> None:
        self._age(now)
        candidate.level = candidate.tier
        candidate.charge = candidate.cost * self._service.mean_ns
        self._lanes[candidate.level].prepare(candidate)

    def patience(self, candidate: Candidate, now: int) -> int:
        return self._max_wait_ns

    def add(self, candidate: Candidate, now: int) -> None:
        self._lanes[candidate.level].add(candidate)
        if candidate.level > 0:
            self._unaged[candidate.level].add(candidate.arrived, candidate)

    def first(self, now: int) -> Candidate | None:
        self._age(now)
        # The least important has waited longest for what it may claim.
        for level in range(TIERS - 1, 0, -1):
            head = self._lanes[level].first()
            if head is not None and self._claims[level] >= head.charge:
                return head
        for lane in self._lanes:
            head = lane.first()
            if head is not None:
                return head
        return None

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        level = newcomer.level
        may_take = len(self._lanes[level]) < self._kept_places
        for other in range(TIERS - 1, -1, -1):
            lane = self._lanes[other]
            if other == level:
                victim = lane.victim(newcomer)
                if victim is not None or not may_take:
                    return victim
            elif len(lane) > self._kept_places and (other > level or may_take):
                return lane.last()
        return None

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        level = candidate.level
        lane = self._lanes[level]
        lane.remove(candidate, seated=seated)
        if level > 0 and level == candidate.tier:
            self._unaged[level].remove(candidate.arrived, candidate)
        if seated:
            candidate.paid = max(0.0, min(self._claims[level], candidate.charge))
            self._claims[level] -= candidate.paid
            self._gain(level, candidate.charge)
        if not len(lane):
            self._claims[level] = 0.0

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        self._service.observe(served_ns)
        took = float(candidate.seats * served_ns)
        more = took - candidate.charge
        level = candidate.level
        if len(self._lanes[level]) and candidate.paid > 0.0:
            self._claims[level] -= more * candidate.paid / candidate.charge
        self._gain(level, more)
        self._lanes[level].finished(candidate, took)

    def _gain(self, level: int, work: float) -> None:
        """So much went to one tier: the others that wait gain a claim."""
        for other in range(TIERS):
            if other != level and len(self._lanes[other]):
                self._claims[other] += TIER_SHARE * work

    def _age(self, now: int) -> None:
        """Move those who have waited for long to the tier above."""
        for level in range(1, TIERS):
            unaged = self._unaged[level]
            oldest = unaged.first()
            while oldest is not None and now - oldest.arrived >= self._ages_after_ns:
                unaged.remove(oldest.arrived, oldest)
                self._lanes[level].remove(oldest, seated=False)
                if not len(self._lanes[level]):
                    self._claims[level] = 0.0
                oldest.level = level - 1
                self._lanes[oldest.level].prepare(oldest)
                self._lanes[oldest.level].add(oldest)
                oldest = unaged.first()
