"""Reservations, refunds, and questions that spend nothing, for limits that are shared.

All of these go to the store, leases or not: a hold that is opened on one node may be settled on any other.
Its id says that it is a shared one. Local limits that were reserved together with shared ones are settled
when the node that opened the hold hears of it, and by their expiry else.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, final

from headgate.decision import Decision
from headgate.engine.counters import PEEK, REFUND, RESERVE, SETTLE, Question
from headgate.engine.hold_flights import (
    PeekFlight,
    Remembered,
    ReserveFlight,
    SettleFlight,
    shared_of,
)
from headgate.engine.requests import Part, spend_local
from headgate.engine.reservations import Reservation, ReservationBook
from headgate.engine.together import combine
from headgate.errors import HeadgateError, UnknownReservation

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.counters import Answer, Counter
    from headgate.engine.keyspace import Keyspace
    from headgate.engine.pending import Pending
    from headgate.engine.sharing import Sharing

__all__ = ["SharedHolds"]

_PREFIX: Final = "s-"
_ID_BYTES: Final = 12
_ID_LENGTH: Final = 2 + 2 * _ID_BYTES
_MOST_REMEMBERED: Final = 100_000


@final
class SharedHolds:
    """What a node does with shared limits besides checks.

    Args:
        sharing: of which it is a part.

    Attributes:
        book: the engine's holds on local limits; its own until it is told.
    """

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing
        self.book = ReservationBook(_MOST_REMEMBERED)
        self._remembered: dict[str, Remembered] = {}

    # Peek and refund -----------------------------------------------------------------------------

    def peek(
        self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64
    ) -> Decision | Pending[Decision]:
        """What would a check answer?"""
        parts = self._parts(keys)
        question = Question(PEEK, self._levels(parts), cost)
        return self._ask(PeekFlight(self, question, parts, cost), parts, cost, now)

    def refund(
        self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64
    ) -> Decision | Pending[Decision]:
        """Give cost back to all limits."""
        parts = self._parts(keys)
        sharing = self.sharing
        for part in parts:
            if part.shared is None:
                part.keyspace.refund(part.key, cost, now, now)
            elif part.lease is not None:
                part.lease.end_drought()
        at_us = sharing.health.store_now_us(now)
        if sharing.health.is_up:
            question = Question(REFUND, self._levels(parts), cost, at_us)
            return self._ask(PeekFlight(self, question, parts, 0), parts, 0, now)
        for part in shared_of(parts):
            self._refund_alone(part, cost, at_us, now)
        return self.sum_up(parts, 0, now, True)

    def _refund_alone(self, part: Part, cost: i64, at_us: i64, now: i64) -> None:
        shared = part.shared
        if shared is not None:
            self.sharing.fallbacks.refund(shared, part.key, cost, now)
            self.sharing.debts.refund(shared.counter, part.key, cost, at_us, now)

    def _ask(
        self, flight: PeekFlight, parts: list[Part], cost: i64, now: i64
    ) -> Decision | Pending[Decision]:
        if not self.sharing.health.is_up:
            return self.sum_up(parts, cost, now, True)
        self.sharing.health.send(flight, now)
        return flight.pending.value if flight.pending.is_settled else flight.pending

    # Reserve and settle --------------------------------------------------------------------------

    def reserve(
        self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64, ttl_ns: i64
    ) -> Reservation | Pending[Reservation]:
        """Set cost aside on all limits."""
        parts = self._parts(keys)
        if not self.sharing.health.is_up:
            return self.reserve_alone(parts, cost, now, ttl_ns)
        local = [part for part in parts if part.shared is None]
        if not spend_local(self.sharing.table, local, cost, now):
            return Reservation("", self.sum_up(parts, cost, now, False), now)
        hold = _PREFIX + secrets.token_hex(_ID_BYTES)
        question = Question(RESERVE, self._levels(parts), cost, 0, None, hold, ttl_ns // 1000)
        flight = ReserveFlight(self, question, parts, cost, ttl_ns)
        self.sharing.health.send(flight, now)
        return flight.pending.value if flight.pending.is_settled else flight.pending

    def reserved(
        self, parts: list[Part], hold: str, cost: i64, admitted: bool, now: i64, ttl_ns: i64
    ) -> Reservation:
        """The store has answered a reservation."""
        if not admitted:
            self.let_go(parts, cost, now, now)
        decision = self.sum_up(parts, cost, now, False)
        self._count(parts, decision)
        if not admitted:
            return Reservation("", decision, now)
        local = [(part.keyspace, part.key) for part in parts if part.shared is None]
        local_id = self._open(local, cost, now, ttl_ns)
        self._remember(hold, Remembered(shared_of(parts), cost, local_id, False))
        return Reservation(hold, decision, now + ttl_ns)

    def reserve_alone(self, parts: list[Part], cost: i64, now: i64, ttl_ns: i64) -> Reservation:
        """Set cost aside without the store."""
        shared = shared_of(parts)
        local = [part for part in parts if part.shared is None]
        admitted = self.sharing.fallbacks.decide(shared, local, cost, now)
        decision = combine([self._answer_of(part, cost, now, True) for part in parts])
        self._count(parts, decision)
        if not admitted:
            return Reservation("", decision, now)
        keys = [(part.keyspace, part.key) for part in local]
        for part in shared:
            if part.shared is not None:
                self.sharing.debts.owe(part.shared, part.key, cost)
                fallback = part.shared.fallback
                if fallback is not None and fallback.keyspace is not None:
                    keys.append((fallback.keyspace, part.key))
        self.sharing.settle_soon()
        hold = _PREFIX + secrets.token_hex(_ID_BYTES)
        self._remember(hold, Remembered(shared, cost, self._open(keys, cost, now, ttl_ns), True))
        return Reservation(hold, decision, now + ttl_ns)

    def owns(self, reservation_id: str) -> bool:
        """Whether it may be the id of a shared hold; what no node made up is neither sent nor kept."""
        return len(reservation_id) == _ID_LENGTH and reservation_id.startswith(_PREFIX)

    def commit(
        self, hold: str, cost: int | None, now: i64
    ) -> Decision | Pending[Decision | HeadgateError]:
        """Settle a shared hold at its real cost.

        Raises:
            UnknownReservation: it was made without the store, and is settled or expired.
        """
        known = self._remembered.pop(hold, None)
        if known is not None and known.is_degraded:
            return self._commit_alone(known, cost, now)
        if known is not None:
            self._settle_local(known, cost, now)
        question = Question(SETTLE, [], -1 if cost is None else cost, 0, None, hold)
        if not self.sharing.health.is_up:
            self.sharing.debts.give_back(question, now)
            return self.unsettled(known, now)
        flight = SettleFlight(self, question, known)
        self.sharing.health.send(flight, now)
        if not flight.pending.is_settled:
            return flight.pending
        value = flight.pending.value
        if isinstance(value, HeadgateError):
            raise value
        return value

    def _commit_alone(self, known: Remembered, cost: int | None, now: i64) -> Decision:
        if known.local_id:
            self.book.close(known.local_id, now).settle(cost, now)
        actual: i64 = known.cost if cost is None else cost
        at_us = self.sharing.health.store_now_us(now)
        for part in known.parts:
            if part.shared is None:
                continue
            if part.keyspace.holds_permits:
                actual = 0
            if actual < known.cost:
                back = known.cost - actual
                self.sharing.debts.refund(part.shared.counter, part.key, back, at_us, now)
            elif actual > known.cost:
                self.sharing.debts.owe(part.shared, part.key, actual - known.cost)
        self.sharing.debts.settle(now)
        return self.unsettled(known, now)

    def settled(
        self, known: Remembered | None, answer: Answer, hold: str, now: i64
    ) -> Decision | HeadgateError:
        """The store has answered a settlement."""
        if answer.failed:
            message = (
                "no open reservation has this id: it was committed, released or has expired; "
                "reserve again, with a longer ttl if the work takes longer"
            )
            return UnknownReservation(message, id=hold[:64])
        decisions: list[Decision] = []
        for place, standing in enumerate(answer.standings):
            name = "" if known is None else known.parts[place].keyspace.name
            decisions.append(
                Decision(
                    True,
                    standing.limit,
                    standing.remaining,
                    0,
                    standing.reset_ns,
                    0,
                    name,
                    standing.window_ns,
                )
            )
        return combine(decisions)

    def unsettled(self, known: Remembered | None, now: i64) -> Decision:
        """The store could not be asked; it will be told."""
        if known is None:
            return Decision(True, 0, 0, 0, 0, 0, "", 0, (), True)
        for part in known.parts:
            part.decision = None
        return self.sum_up(known.parts, 0, now, True)

    # Answers -------------------------------------------------------------------------------------

    def heard(self, parts: list[Part], answer: Answer, cost: i64, now: i64) -> None:
        """Take over how the shared limits stand."""
        for place, part in enumerate(shared_of(parts)):
            shared = part.shared
            if shared is None:
                continue
            standing = answer.standings[place]
            part.decision = shared.of_standing(standing)
            lease = part.lease
            if lease is not None:
                lease.hear(standing, now)
                if lease.left > 0 and now < lease.usable_until:
                    part.decision = shared.with_lease(standing, lease, cost)

    def sum_up(self, parts: list[Part], cost: i64, now: i64, is_degraded: bool) -> Decision:
        """One answer for all limits."""
        return combine([self._answer_of(part, cost, now, is_degraded) for part in parts])

    def let_go(self, parts: list[Part], cost: i64, granted_at: i64, now: i64) -> None:
        """Give back what local limits were charged."""
        for part in parts:
            if part.shared is None and part.is_held:
                part.is_held = False
                part.decision = None
                part.keyspace.refund(part.key, cost, now, granted_at)
                part.keyspace.admitted -= 1

    def _answer_of(self, part: Part, cost: i64, now: i64, is_degraded: bool) -> Decision:
        if part.decision is not None:
            return part.decision
        if part.shared is None:
            return part.keyspace.peek(part.key, cost, now)
        return part.shared.known(part.lease, cost, now, is_degraded)

    def _count(self, parts: list[Part], decision: Decision) -> None:
        answers = decision.levels if len(parts) > 1 else (decision,)
        for place, part in enumerate(parts):
            if decision.allowed:
                if part.shared is not None:
                    part.keyspace.admitted += 1
            elif not answers[place].allowed:
                part.keyspace.denied += 1
                self.sharing.observe_denial(part.keyspace.name, part.key)

    # Inside --------------------------------------------------------------------------------------

    def _parts(self, keys: list[tuple[Keyspace, str]]) -> list[Part]:
        parts = [Part(keyspace, key) for keyspace, key in keys]
        for part in parts:
            if part.shared is not None:
                part.lease = part.shared.leases.get(part.key)
        return parts

    def _levels(self, parts: list[Part]) -> list[tuple[Counter, str]]:
        return [(part.shared.counter, part.key) for part in parts if part.shared is not None]

    def _open(self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64, ttl_ns: i64) -> str:
        if len(keys) == 0:
            return ""
        return self.book.open(keys, cost, now, ttl_ns)

    def _remember(self, hold: str, known: Remembered) -> None:
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[hold] = known

    def _settle_local(self, known: Remembered, cost: int | None, now: i64) -> None:
        if not known.local_id:
            return
        try:
            hold = self.book.close(known.local_id, now)
        except UnknownReservation:
            return
        hold.settle(cost, now)
