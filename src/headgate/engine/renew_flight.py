"""One message about one lease, on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.engine.store_health import Flight

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.counters import Answer, Question
    from headgate.engine.leases import Lease
    from headgate.engine.renewals import Renewals
    from headgate.engine.shared_limit import SharedLimit

__all__ = ["RenewFlight"]


@final
class RenewFlight(Flight):
    """One message about one lease.

    Attributes:
        seq: its number.
        need: tokens for requests that waited when it was sent.
        ttl_ns: how long the lease lasts.
        is_repeated: the same number was sent before.
        since_us: a moment on the store's clock at which it had surely not been carried out.
    """

    def __init__(
        self,
        renewals: Renewals,
        shared: SharedLimit,
        lease: Lease,
        question: Question,
        seq: i64,
        need: i64,
    ) -> None:
        super().__init__(renewals.health, question)
        self.renewals = renewals
        self.shared = shared
        self.lease = lease
        self.seq: i64 = seq
        self.need: i64 = need
        self.is_repeated = False
        self.since_us: i64 = 0
        # As the message said, whatever the settings have become since.
        asked = question.lease
        self.ttl_ns: i64 = 0 if asked is None else asked.ttl_us * 1000

    def answered(self, answer: Answer, now: i64) -> None:
        flight = self.lease.flight
        if flight is not None and flight.seq == self.seq:
            self.renewals.renewed(flight, answer, now)

    def given_up(self, now: i64) -> None:
        # Nothing is known of it, so it is repeated when the store is back.
        self.renewals.repeat_later(self.shared, self.lease)
        self.renewals.release_waiters(self.lease, now)

    def lost(self, now: i64) -> None:
        self.renewals.repeat_later(self.shared, self.lease)
