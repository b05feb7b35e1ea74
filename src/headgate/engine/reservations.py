"""Holds: cost that is set aside now and settled later (A11).

A reservation that is neither committed nor released is released when it expires. Nothing runs in the
background: whoever uses the book first lets it expire what is due, a bounded number at a time.
"""

from __future__ import annotations

import secrets
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from headgate.errors import InvalidInput, TooManyReservations, UnknownReservation

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.decision import Decision
    from headgate.engine.keyspace import Keyspace

__all__ = ["MAX_TTL_NS", "Hold", "Reservation", "ReservationBook", "valid_ttl"]

MAX_TTL_NS: Final = 366 * 86_400 * 10**9
_MOST_EXPIRED_AT_ONCE: Final = 256
_SLACK: Final = 64


class Hold:
    """Cost that was spent ahead on some keys, and may be given back until it expires."""

    def __init__(
        self,
        keys: list[tuple[Keyspace, str]],
        cost: i64,
        granted_at_ns: i64,
        expires_at_ns: i64,
    ) -> None:
        self.keys = keys
        self.cost = cost
        self.granted_at_ns = granted_at_ns
        self.expires_at_ns = expires_at_ns

    def settle(self, cost: int | None, now: i64) -> None:
        """Bring the keys to the real cost of the work (the reserved one when None).

        What the work took beyond the hold cannot be refused any more: each key pays what it can. The
        permits of a concurrency limit are given back in any case, because the work is over.
        """
        actual: i64 = self.cost if cost is None else cost
        for keyspace, key in self.keys:
            if keyspace.holds_permits:
                keyspace.refund(key, self.cost, now, self.granted_at_ns)
            elif actual < self.cost:
                keyspace.refund(key, self.cost - actual, now, self.granted_at_ns)
            elif actual > self.cost:
                keyspace.pay(key, actual - self.cost, now)


class Reservation:
    """The answer to a reserve call.

    Attributes:
        id: names the hold in `commit` and `release`; "" when the decision is no.
        decision: the answer.
        expires_at_ns: when an unsettled hold is released, on the engine's clock.
    """

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

    def open(self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64, ttl_ns: i64) -> str:
        """Enter a hold; its id."""
        reservation_id = secrets.token_hex(12)
        hold = Hold(keys, cost, now, now + ttl_ns)
        self._holds[reservation_id] = hold
        if len(self._expiries) > 2 * len(self._holds) + _SLACK:
            # Most records are of holds that were settled since. Without this, one hold that lasts would
            # keep the records of all that come and go meanwhile.
            self._expiries = [(held.expires_at_ns, each) for each, held in self._holds.items()]
            heapify(self._expiries)
        else:
            heappush(self._expiries, (hold.expires_at_ns, reservation_id))
        return reservation_id

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

    def close(self, reservation_id: str, now: i64) -> Hold:
        """Take a hold out.

        Raises:
            UnknownReservation: it was closed, has expired, or never was.
        """
        hold = self._holds.pop(reservation_id, None)
        if hold is not None and hold.expires_at_ns > now:
            return hold
        if hold is not None:
            hold.settle(0, now)
        message = (
            "no open reservation has this id: it was committed, released or has expired; "
            "reserve again, with a longer ttl if the work takes longer"
        )
        raise UnknownReservation(message, id=reservation_id[:64])

    def expire(self, now: i64) -> None:
        """Release the holds that are due, and drop the records of those that are closed.

        A bounded number of them: were a hundred thousand due at one moment, none should wait for all.
        Those that are left over are released by the next calls.
        """
        left: i64 = _MOST_EXPIRED_AT_ONCE
        while left > 0 and len(self._expiries) > 0:
            expires_at, reservation_id = self._expiries[0]
            if expires_at > now and reservation_id in self._holds:
                return
            heappop(self._expiries)
            hold = self._holds.pop(reservation_id, None)
            if hold is not None:
                hold.settle(0, now)
            left -= 1


def valid_ttl(ttl_ns: object) -> int:
    """How long a hold lasts, in nanoseconds.

    Raises:
        InvalidInput: it is no whole number, not above zero, or longer than 366 days.
    """
    if isinstance(ttl_ns, bool) or not isinstance(ttl_ns, int):
        message = f"ttl must be a whole number of nanoseconds, got {type(ttl_ns).__name__}"
        raise InvalidInput(message)
    if not 0 < ttl_ns <= MAX_TTL_NS:
        raise InvalidInput(
            "ttl must be above 0 and at most 366 days; reserve again for longer work"
        )
    return ttl_ns
