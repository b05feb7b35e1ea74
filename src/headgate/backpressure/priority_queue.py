"""The priority queue: the important first, nobody never.

Each tier is a weighted fair queue of its own, and the most important tier that has somebody waiting goes
next. Three rules keep the others alive:

* Ageing. Who has waited for half the longest wait stands one tier better, once: effective tier = tier -
  floor(wait / (max_wait / 2)), one at most. It keeps the virtual times of its own tier, and stands among
  those of the other by how far its finish is ahead of them; so nothing that it has waited for is lost.
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
from headgate.backpressure.waiting_order import Ranking, WaitingOrder
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

    def prepare(self, candidate: Candidate, now: int) -> None:
        self._age(now)
        candidate.level = candidate.tier
        self._lanes[candidate.tier].prepare(candidate)

    def patience(self, candidate: Candidate, now: int) -> int:
        return self._max_wait_ns

    def add(self, candidate: Candidate, now: int) -> None:
        self._lanes[candidate.tier].add(candidate)
        if candidate.tier > 0:
            self._unaged[candidate.tier].add(candidate.arrived, candidate)

    def first(self, now: int) -> Candidate | None:
        self._age(now)
        # The least important has waited longest for what it may claim.
        for level in range(TIERS - 1, 0, -1):
            if self._claims[level] > 0.0:
                head = self._head(level)
                if head is not None and self._claims[level] >= head.charge:
                    return head
        for level in range(TIERS):
            head = self._head(level)
            if head is not None:
                return head
        return None

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        level = newcomer.level
        may_take = self._count(level) < self._kept_places
        for other in range(TIERS - 1, -1, -1):
            if other == level:
                victim = self._peer_victim(newcomer)
                if victim is not None or not may_take:
                    return victim
            elif self._count(other) > self._kept_places and (other > level or may_take):
                victim = self._tail(other)
                if victim is not None:
                    return victim
        return None

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        level = candidate.level
        self._lanes[candidate.tier].remove(candidate, seated=seated)
        if level > 0 and level == candidate.tier:
            self._unaged[level].remove(candidate.arrived, candidate)
        if seated:
            candidate.paid = max(0.0, min(self._claims[level], candidate.charge))
            self._claims[level] -= candidate.paid
            self._gain(level, candidate.charge)
        self._forget_claim(level)

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        more = self._lanes[candidate.tier].finished(candidate, served_ns)
        level = candidate.level
        if candidate.paid > 0.0 and self._count(level):
            self._claims[level] -= more * candidate.paid / candidate.charge
        self._gain(level, more)

    def _count(self, level: int) -> int:
        """How many stand in a tier: its own, and those that have aged into it."""
        count = len(self._lanes[level])
        return count + self._lanes[level + 1].aged if level + 1 < TIERS else count

    def _head(self, level: int) -> Candidate | None:
        """Who goes first of a tier."""
        own = self._lanes[level].first()
        aged = self._lanes[level + 1].first(aged=True) if level + 1 < TIERS else None
        if own is None or aged is None:
            return own or aged
        return own if self._lead(own) < self._lead(aged) else aged

    def _tail(self, level: int) -> Candidate | None:
        """Who goes last of a tier."""
        own = self._lanes[level].last()
        aged = self._lanes[level + 1].last(aged=True) if level + 1 < TIERS else None
        if own is None or aged is None:
            return own or aged
        return aged if self._lead(own) < self._lead(aged) else own

    def _peer_victim(self, newcomer: Candidate) -> Candidate | None:
        """Who of its tier gives way to a newcomer; nobody of its own flow does."""
        last = self._tail(newcomer.level)
        if last is None or last.record is newcomer.record:
            return None
        return last if self._lead(newcomer) < self._lead(last) else None

    def _lead(self, candidate: Candidate) -> float:
        return self._lanes[candidate.tier].lead(candidate)

    def _gain(self, level: int, work: float) -> None:
        """So much went to one tier: the others that wait gain a claim."""
        for other in range(TIERS):
            if other != level and self._count(other):
                self._claims[other] += TIER_SHARE * work

    def _forget_claim(self, level: int) -> None:
        if not self._count(level):
            self._claims[level] = 0.0

    def _age(self, now: int) -> None:
        """Move those who have waited for long to the tier above."""
        for tier in range(1, TIERS):
            unaged = self._unaged[tier]
            oldest = unaged.first()
            while oldest is not None and now - oldest.arrived >= self._ages_after_ns:
                unaged.remove(oldest.arrived, oldest)
                self._lanes[tier].age(oldest)
                self._forget_claim(tier)
                oldest = unaged.first()
