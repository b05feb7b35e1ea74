"""Questions on their way that are no checks: how limits stand, refunds, reservations and their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.engine.counters import REFUND, SETTLE, UNKNOWN_HOLD, Question
from headgate.engine.pending import Pending
from headgate.engine.store_health import Flight

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.decision import Decision
    from headgate.engine.counters import Answer
    from headgate.engine.requests import Part
    from headgate.engine.reservations import Reservation
    from headgate.engine.shared_holds import SharedHolds
    from headgate.errors import HeadgateError

__all__ = ["PeekFlight", "Remembered", "ReserveFlight", "SettleFlight", "shared_of"]


def shared_of(parts: list[Part]) -> list[Part]:
    return [part for part in parts if part.shared is not None]


@final
class Remembered:
    """A hold that this node opened."""

    def __init__(self, parts: list[Part], cost: i64, local_id: str, is_degraded: bool) -> None:
        self.parts = parts
        self.cost: i64 = cost
        self.local_id = local_id
        self.is_degraded = is_degraded


@final
class PeekFlight(Flight):
    """How do the limits stand, for a cost? Or, after a refund: how do they stand now?"""

    def __init__(
        self, holds: SharedHolds, question: Question, parts: list[Part], cost: i64
    ) -> None:
        super().__init__(holds.sharing.health, question)
        self.pending: Pending[Decision] = Pending()
        self._holds = holds
        self._parts = parts
        self._cost: i64 = cost

    def answered(self, answer: Answer, now: i64) -> None:
        if answer.failed:  # one of the keys cannot be read there
            self.given_up(now)
        elif not self.pending.is_settled:
            self._holds.heard(self._parts, answer, self._cost, now)
            self.pending.settle(self._holds.sum_up(self._parts, self._cost, now, False))

    def given_up(self, now: i64) -> None:
        if not self.pending.is_settled:
            self.pending.settle(self._holds.sum_up(self._parts, self._cost, now, True))

    def lost(self, now: i64) -> None:
        if self.question.kind == REFUND:
            self._holds.sharing.debts.unknown += self.question.cost


@final
class ReserveFlight(Flight):
    """All shared limits are to set a cost aside."""

    def __init__(
        self, holds: SharedHolds, question: Question, parts: list[Part], cost: i64, ttl_ns: i64
    ) -> None:
        super().__init__(holds.sharing.health, question)
        self.pending: Pending[Reservation] = Pending()
        self._holds = holds
        self._parts = parts
        self._cost: i64 = cost
        self._ttl_ns: i64 = ttl_ns

    def answered(self, answer: Answer, now: i64) -> None:
        if answer.failed:  # one of the keys cannot be read there
            self.given_up(now)
            return
        admitted = all([standing.wait_ns == 0 for standing in answer.standings])
        hold = self.question.hold
        if not self.pending.is_settled:
            self._holds.heard(self._parts, answer, self._cost, now)
            self.pending.settle(
                self._holds.reserved(self._parts, hold, self._cost, admitted, now, self._ttl_ns)
            )
        elif admitted:
            # It was answered without the store, which is to forget about it.
            self._holds.sharing.debts.give_back(Question(SETTLE, [], 0, 0, None, hold), now)

    def given_up(self, now: i64) -> None:
        if not self.pending.is_settled:
            self._holds.let_go(self._parts, self._cost, self.sent_at, now)
            self.pending.settle(
                self._holds.reserve_alone(self._parts, self._cost, now, self._ttl_ns)
            )

    def lost(self, now: i64) -> None:
        return  # if the store has it, it expires there


@final
class SettleFlight(Flight):
    """A shared hold is to end at its real cost."""

    def __init__(self, holds: SharedHolds, question: Question, known: Remembered | None) -> None:
        super().__init__(holds.sharing.health, question)
        self.pending: Pending[Decision | HeadgateError] = Pending()
        self._holds = holds
        self._known = known

    def answered(self, answer: Answer, now: i64) -> None:
        if answer.failed and answer.failed != UNKNOWN_HOLD:
            self.given_up(now)
        elif not self.pending.is_settled:
            self.pending.settle(self._holds.settled(self._known, answer, self.question.hold, now))

    def given_up(self, now: i64) -> None:
        if not self.pending.is_settled:
            self.pending.settle(self._holds.unsettled(self._known, now))
            # To settle it twice does no harm.
            self._holds.sharing.debts.give_back(self.question, now)

    def lost(self, now: i64) -> None:
        return
