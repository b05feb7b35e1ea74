"""Holds: cost that is set aside now and settled later (A11).

A reservation that is neither committed nor released is released when it expires. Nothing runs in the
background: whoever uses the book first lets it expire what is due.
"""

from __future__ import annotations

import secrets
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from headgate.errors import TooManyReservations, UnknownReservation

if TYPE_CHECKING:
    from headgate.decision import Decision
    from headgate.engine.table import Keyspace

__all__ = ["Hold", "Reservation", "ReservationBook"]


class Hold:
    """Cost that was spent ahead on some keys, and may be given back until it expires."""

    __slots__ = ("cost", "expires_at_ns", "granted_at_ns", "keys")

    def __init__(
        self,
        keys: list[tuple[Keyspace, str]],
        cost: int,
        granted_at_ns: int,
        expires_at_ns: int,
    ) -> None:
        self.keys = keys
        self.cost = cost
        self.granted_at_ns = granted_at_ns
        self.expires_at_ns = expires_at_ns

    def settle(self, cost: int | None, now: int) -> None:
        """Bring the keys to the real cost of the work (the reserved one when None).

        What the work took beyond the hold cannot be refused any more: each key pays what it can.
        """
        if cost is None:
            return
        for keyspace, key in self.keys:
            if cost < self.cost:
                keyspace.refund(key, self.cost - cost, now, self.granted_at_ns)
            elif cost > self.cost:
                payable = min(cost - self.cost, keyspace.remaining_of(key, now))
                if payable > 0:
                    keyspace.consume(key, payable, now)


class Reservation:
    """The answer to a reserve call.

    Attributes:
        id: names the hold in `commit` and `release`; "" when the decision is no.
        decision: the answer.
        expires_at_ns: when an unsettled hold is released, on the engine's clock.
    """

    __slots__ = ("decision", "expires_at_ns", "id")

    def __init__(self, reservation_id: str, decision: Decision, expires_at_ns: int) -> None:
        self.id = reservation_id
        self.decision = decision
        self.expires_at_ns = expires_at_ns

    def __bool__(self) -> bool:
        return self.decision.allowed


class ReservationBook:
    """The open holds, at most ``max_open`` of them."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._holds: dict[str, Hold] = {}
        self._expiries: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._holds)

    def require_room(self) -> None:
        """Refuse when the book is full.

        Raises:
            TooManyReservations: when ``max_open`` holds are open.
        """
        if len(self._holds) >= self._max_open:
            message = (
                f"at most {self._max_open} reservations may be open; "
                "commit or release some, reserve with a shorter ttl, or raise max_reservations"
            )
            raise TooManyReservations(message)

    def open(self, hold: Hold) -> str:
        """Enter a hold; its id."""
        reservation_id = secrets.token_hex(12)
        self._holds[reservation_id] = hold
        heappush(self._expiries, (hold.expires_at_ns, reservation_id))
        return reservation_id

    def close(self, reservation_id: str) -> Hold:
        """Take a hold out.

        Raises:
            UnknownReservation: it was closed, has expired, or never was.
        """
        hold = self._holds.pop(reservation_id, None)
        if hold is None:
            message = (
                "no open reservation has this id: it was committed, released or has expired; "
                "reserve again, with a longer ttl if the work takes longer"
            )
            raise UnknownReservation(message, id=reservation_id[:64])
        return hold

    def expire(self, now: int) -> None:
        """Release the holds that are due, and drop the records of those that are closed."""
        while self._expiries and (
            self._expiries[0][0] <= now or self._expiries[0][1] not in self._holds
        ):
            _, reservation_id = heappop(self._expiries)
            hold = self._holds.pop(reservation_id, None)
            if hold is not None:
                hold.settle(0, now)

    def drain(self, now: int) -> None:
        """Release all holds."""
        for hold in self._holds.values():
            hold.settle(0, now)
        self._holds.clear()
        self._expiries.clear()
