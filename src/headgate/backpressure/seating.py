"""Seating: who has a seat, who waits for one, who is sent away.

The whole of an admission queue but for the waiting itself: candidates arrive and leave, and each call
answers with those whose standing it changed, for the caller to wake. Large candidates reserve: while the
first of the order wants more seats than are free, nobody overtakes it, and the seats that come free add up
for it. One that wants more seats than there are takes all of them.

Moments may come from a clock that jumps: only its steps forward are counted, so a clock that goes back takes
nothing from anybody's patience and gives nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.backpressure.waiting_order import Candidate, Ranking, Standing
from headgate.priority import TIERS

if TYPE_CHECKING:
    from headgate.backpressure.waiting_order import WaitingOrder

__all__ = ["Seating"]


@final
class Seating:
    """The seats and those who want them. Not locked: its owner does that.

    Args:
        order: who is next, and who gives way.
        seats: how many there are, >= 1.
        max_waiting: how many may wait, >= 1.

    Attributes:
        seats: how many there are.
        taken: seats that are held; above ``seats`` for a while after these became fewer.
        work: what those who wait are expected to take, in seat-nanoseconds.
        outcomes: how many came to which standing, by tier.
    """

    def __init__(self, order: WaitingOrder, seats: int, max_waiting: int) -> None:
        self._order = order
        self.seats = seats
        self._max_waiting = max_waiting
        self._by_expiry = Ranking()
        self._numbered = 0
        self._moment: int | None = None
        self._now = 0
        self.taken = 0
        self.work = 0.0
        self.outcomes = {standing: [0] * TIERS for standing in Standing}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._by_expiry)

    def arrive(self, candidate: Candidate, moment: int) -> list[Candidate]:
        """A new candidate: its standing says what became of it. Returns all whose standing changed."""
        changed: list[Candidate] = []
        if candidate.standing is not Standing.NEW:
            return changed
        now = self._pass_time(moment)
        self._expire(now, changed)
        candidate.arrived = now
        candidate.cost = min(candidate.cost, self.seats)
        self._order.prepare(candidate, now)
        if self._may_wait(candidate, now, changed):
            self._join(candidate, now)
            self._seat(now, changed)
            self._expire(now + 1, changed)
        return changed

    def leave(self, candidate: Candidate, moment: int) -> list[Candidate]:
        """One is done, or gives up. Harmless for one that has left, or was never let in."""
        changed: list[Candidate] = []
        now = self._pass_time(moment)
        if candidate.standing is Standing.WAITING:
            self._remove(candidate, now, Standing.LEFT, changed)
        elif candidate.standing is Standing.SEATED:
            self.taken -= candidate.seats
            self._order.finished(candidate, now - candidate.ended, now)
            self._set(candidate, Standing.LEFT, changed)
        elif candidate.standing is Standing.NEW:
            self._set(candidate, Standing.LEFT, changed)
        self._seat(now, changed)
        self._expire(now + 1, changed)
        return changed

    def resize(self, seats: int, moment: int) -> list[Candidate]:
        """There are so many seats from now on. Nobody loses one; fewer are given out."""
        self.seats = seats
        self._order.resize(seats)
        return self.look(moment)

    def look(self, moment: int) -> list[Candidate]:
        """Time has passed."""
        changed: list[Candidate] = []
        now = self._pass_time(moment)
        self._seat(now, changed)
        self._expire(now + 1, changed)
        return changed

    def patience_left(self, candidate: Candidate, moment: int) -> int:
        """The nanoseconds until one that waits has waited as long as it may."""
        return max(0, candidate.expires - self._pass_time(moment))

    def waited(self, candidate: Candidate) -> int:
        """The nanoseconds that one has waited: until now, or until it was seated or gone."""
        if candidate.standing is Standing.WAITING:
            return self._now - candidate.arrived
        return max(0, candidate.ended - candidate.arrived)

    def _may_wait(self, candidate: Candidate, now: int, changed: list[Candidate]) -> bool:
        """Whether it may join, for which another may have to give way."""
        patience_ns = self._order.patience(candidate, now)
        candidate.expires = now + min(candidate.patience_ns, patience_ns)
        if not self.waiting and self._has_seats_for(candidate):
            return True
        if self._order.is_hopeless(candidate, now):
            self._set(candidate, Standing.LATE, changed)
            return False
        never_waits = candidate.expires <= now
        if never_waits and not self._has_seats_for(candidate):
            self._set(candidate, Standing.EXPIRED, changed)
            return False
        if self.waiting >= self._max_waiting:
            # Nobody gives way to one that may be gone the next moment.
            victim = None if never_waits else self._order.victim(candidate, now)
            if victim is None:
                self._set(candidate, Standing.REFUSED, changed)
                return False
            self._remove(victim, now, Standing.EVICTED, changed)
            self._order.prepare(candidate, now)
        return True

    def _join(self, candidate: Candidate, now: int) -> None:
        self._numbered += 1
        candidate.number = self._numbered
        self._order.add(candidate, now)
        self._by_expiry.add(candidate.expires, candidate)
        self.work += candidate.charge
        candidate.standing = Standing.WAITING

    def _remove(
        self, candidate: Candidate, now: int, standing: Standing, changed: list[Candidate]
    ) -> None:
        self._order.remove(candidate, now, seated=standing is Standing.SEATED)
        self._by_expiry.remove(candidate.expires, candidate)
        self.work = self.work - candidate.charge if self.waiting else 0.0
        candidate.ended = now
        self._set(candidate, standing, changed)

    def _seat(self, now: int, changed: list[Candidate]) -> None:
        """Give out free seats, in order."""
        self._expire(now, changed)
        while self.taken < self.seats:
            candidate = self._order.first(now)
            if candidate is None or not self._has_seats_for(candidate):
                return
            candidate.seats = min(candidate.cost, self.seats)
            self.taken += candidate.seats
            self._remove(candidate, now, Standing.SEATED, changed)

    def _has_seats_for(self, candidate: Candidate) -> bool:
        return self.taken + min(candidate.cost, self.seats) <= self.seats

    def _expire(self, before: int, changed: list[Candidate]) -> None:
        """Send those away who may wait until an earlier moment only."""
        oldest = self._by_expiry.first()
        while oldest is not None and oldest.expires < before:
            self._remove(oldest, self._now, Standing.EXPIRED, changed)
            oldest = self._by_expiry.first()

    def _set(self, candidate: Candidate, standing: Standing, changed: list[Candidate]) -> None:
        candidate.standing = standing
        self.outcomes[standing][candidate.tier] += 1
        changed.append(candidate)

    def _pass_time(self, moment: int) -> int:
        """The sum of the clock's steps forward."""
        if self._moment is not None and moment > self._moment:
            self._now += moment - self._moment
        self._moment = moment
        return self._now
