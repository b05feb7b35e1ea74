"""Messages about leases: asked ahead of need, repeated until answered, given back when idle.

At most one message about a key is on its way. It has a number; while it is not known what became of it, only
the same number is sent again, which the store answers as it did the first time. So a message may be lost,
late or doubled without a token more or less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import RENEW, LeaseRequest, Question
from headgate.engine.lease_book import Agenda, LeaseBook
from headgate.engine.renew_flight import RenewFlight
from headgate.engine.shared_limit import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.engine.counters import Answer, Standing
    from headgate.engine.debts import Debts
    from headgate.engine.leases import Lease
    from headgate.engine.requests import Request
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.store_health import StoreHealth

__all__ = ["Renewals"]

_LOOKS_AT_CAP: Final = 16
_DRAIN_STEP_NS: Final = 2_000_000


@final
class Renewals:
    """All leases of a node.

    Args:
        health: by which the store is asked.
        debts: where what was granted for nothing is given back.
        node: who asks.
        horizon_ns: how far ahead of need tokens are drawn.
        most: keys with a lease.

    Attributes:
        renewed_count: messages that were answered.
        book: the records.
        refused: keys for which there was no room, and which were counted strictly.
        is_draining: no tokens are drawn any more.
    """

    def __init__(
        self, health: StoreHealth, debts: Debts, node: str, horizon_ns: i64, most: i64
    ) -> None:
        self.health = health
        self.book = LeaseBook(most)
        self.refused: i64 = 0
        self.renewed_count: i64 = 0
        self.is_draining = False
        self._debts = debts
        self._node = node
        self._horizon_ns: i64 = horizon_ns
        self._seq: i64 = 0
        self._agenda = Agenda(health, self._look)
        self._to_repeat: dict[Lease, SharedLimit] = {}
        self._drained: Callable[[], object] | None = None

    def record(self, shared: SharedLimit, key: str, now: i64) -> Lease | None:
        """The record of a key; None when there is no room for another one."""
        lease = shared.leases.get(key)
        if lease is not None:
            return lease
        if shared.is_gone or (self.book.is_full and not self._make_room(now)):
            self.refused += 1
            return None
        lease = self.book.enter(shared, key, now)
        self._look_later(shared, lease, now + shared.ttl_ns // 2)
        return lease

    def _make_room(self, now: i64) -> bool:
        """Forget a record that says nothing, among a few; give back what idle ones hold."""
        looked: i64 = 0
        while looked < _LOOKS_AT_CAP:
            looked += 1
            slot = self.book.next_slot()
            if slot is None:
                break
            shared, lease = slot
            if lease.may_be_forgotten(now):
                self.book.forget(shared, lease)
                return True
            if lease.left > 0 and lease.asked == 0:
                self.give_back(shared, lease, now)
        return False

    # Asking --------------------------------------------------------------------------------------

    def wait(self, shared: SharedLimit, lease: Lease, request: Request, now: i64) -> None:
        """Let a request wait for tokens of a lease."""
        lease.waiters.append(request)
        if lease.flight is None:
            self._send(shared, lease, 0, now)

    def low(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Ask for more ahead of need."""
        if lease.flight is None and self.health.is_up and self._may_draw(shared, now):
            self._send(shared, lease, 0, now)
        elif lease.flight is None:
            lease.low = -1  # do not ask again and again while it cannot be

    def _may_draw(self, shared: SharedLimit, now: i64) -> bool:
        """Whether tokens are to be drawn ahead."""
        if self.is_draining or shared.is_gone or not shared.is_leased:
            return False
        # While other nodes may not have charged their local shares, the store has less than it seems.
        return shared.mode != LOCAL or now >= self.health.settled_at

    def give_back(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Give back all that is left."""
        if lease.flight is None and self.health.is_up and lease.left > 0:
            self._send(shared, lease, lease.left, now)

    def _send(self, shared: SharedLimit, lease: Lease, back: i64, now: i64) -> None:
        lease.measure(now)
        need: i64 = 0
        for request in lease.waiters:
            need += request.cost
        ahead: i64 = 0
        if back == 0 and self._may_draw(shared, now):
            good = lease.wanted(self._horizon_ns, shared.bound)
            surplus = lease.left - good
            if surplus > good and lease.left > 1 and need == 0:
                back = surplus // 2
            else:
                ahead = max(0, -surplus)
        self._seq += 1
        wish = LeaseRequest(
            self._node,
            self._seq,
            left=lease.left + lease.pinned,
            back=back,
            need=need,
            ahead=ahead,
            demand=lease.demand if shared.has_rivals else 0.0,
            ttl_us=shared.ttl_ns // 1000,
            bound=shared.bound,
        )
        lease.left -= back
        lease.low = -1
        levels = [(shared.counter, lease.key)]
        question = Question(RENEW, levels, 0, 0, wish)
        flight = RenewFlight(self, shared, lease, question, self._seq, need)
        flight.since_us = self.health.store_now_us(now)
        lease.flight = flight
        self.health.send(flight, now)

    # Answers -------------------------------------------------------------------------------------

    def renewed(self, flight: RenewFlight, answer: Answer, now: i64) -> None:
        """A message was answered."""
        shared, lease = flight.shared, flight.lease
        lease.flight = None
        self.renewed_count += 1
        if answer.failed:  # this key cannot be read there; others are not concerned
            self.release_waiters(lease, now)
            self._look_later(shared, lease, now + shared.ttl_ns // 2)
            return
        held: i64 = answer.held
        granted: i64 = answer.granted
        at_us: i64 = answer.at_us
        since_us = flight.since_us if flight.is_repeated else at_us
        lease.renewed(held, at_us, since_us, flight.sent_at, flight.ttl_ns)
        standing = answer.standings[0]
        lease.hear(standing, now)
        lease.outstanding = answer.outstanding
        spare = granted - held
        is_short = spare < flight.need
        waiters = lease.waiters
        lease.waiters = []
        unserved: list[Request] = []
        for request in waiters:
            if request.is_over:
                continue
            if spare >= request.cost:
                spare -= request.cost
                request.granted(lease, at_us, now)
            elif lease.has(request.cost, now):
                lease.left -= request.cost
                lease.pinned += request.cost
                request.granted(lease, -1, now)
            elif spare > 0 and lease.has(request.cost - spare, now):
                # All that the store had, and the rest from the lease: both are debited there.
                lease.left -= request.cost - spare
                spare = 0
                request.granted(lease, at_us, now)
            else:
                unserved.append(request)
        if spare > 0:
            self._debts.refund(shared.counter, lease.key, spare, at_us, now)
        again: i64 = answer.again_ns
        self._after(shared, lease, unserved, spare if is_short else -1, standing, again, now)

    def _after(
        self,
        shared: SharedLimit,
        lease: Lease,
        unserved: list[Request],
        over: i64,
        standing: Standing,
        again_ns: i64,
        now: i64,
    ) -> None:
        """What comes after an answer: a drought, another message, or rest.

        ``over`` is what was too little for any request that waited, and went back; -1: there was enough.
        """
        is_empty = lease.left == 0 and standing.wait_ns != 0
        if over >= 0 or is_empty:
            self._dry_up(shared, lease, unserved, max(0, over), standing, again_ns, now)
        else:
            lease.end_drought()
            lease.is_scarce = again_ns > 0
            if len(unserved) > 0:
                lease.waiters = unserved + lease.waiters
                if lease.flight is None and self.health.is_up:
                    self._send(shared, lease, 0, now)
                elif not self.health.is_up:
                    self.release_waiters(lease, now)
            elif lease.left == 0 and again_ns > 0 and lease.wanted(self._horizon_ns, 2) > 1:
                # Enough for those that waited and nothing ahead: that is asked for when there may be some.
                lease.renew_at = now + max(shared.pause_ns, again_ns)
                self._look_later(shared, lease, lease.renew_at)
                return
            self._look_later(shared, lease, now + shared.ttl_ns // 2)

    def _dry_up(
        self,
        shared: SharedLimit,
        lease: Lease,
        unserved: list[Request],
        over: i64,
        standing: Standing,
        again_ns: i64,
        now: i64,
    ) -> None:
        cost: i64 = 1
        if lease.left + over > 0 and len(unserved) > 0:
            cost = min([request.cost for request in unserved])  # what costs less may pass
        wait = again_ns if again_ns > 0 else max(1, standing.wait_ns)
        pause = max(shared.pause_ns, min(wait, shared.ttl_ns // 2))
        lease.dry_up(cost, pause, wait, now)
        for request in unserved:
            retry = shared.wait_for(request.cost - over, standing)
            request.refused(lease, retry if over > 0 else max(wait, retry), now)
        self._look_later(shared, lease, lease.dry_until)

    def release_waiters(self, lease: Lease, now: i64) -> None:
        """Nobody waits for this lease any more; the failure mode answers."""
        waiters = lease.waiters
        lease.waiters = []
        for request in waiters:
            if not request.is_over:
                request.degrade(now)

    # After a time without the store ---------------------------------------------------------------

    def repeat_later(self, shared: SharedLimit, lease: Lease) -> None:
        """Send the message about this lease again when the store is back."""
        if lease.flight is not None:
            self._to_repeat[lease] = shared

    def recover(self, now: i64) -> None:
        """Send again what was not answered."""
        repeat = self._to_repeat
        self._to_repeat = {}
        for lease, shared in repeat.items():
            if lease.flight is not None and (lease.flight.is_over or lease.flight.is_late):
                self._repeat(shared, lease, lease.flight, now)

    def _repeat(self, shared: SharedLimit, lease: Lease, flight: RenewFlight, now: i64) -> None:
        if not self.health.is_up:
            self._to_repeat[lease] = shared
            return
        asked = flight.question.lease
        if asked is None:
            return
        # What was given back by the first is not in `left` any more, whether it arrived or not.
        request = LeaseRequest(
            self._node,
            flight.seq,
            left=lease.left + lease.pinned + asked.back,
            back=asked.back,
            need=0,
            ahead=0,
            demand=lease.demand if shared.has_rivals else 0.0,
            ttl_us=asked.ttl_us,
            bound=asked.bound,
        )
        question = Question(RENEW, flight.question.levels, 0, 0, request)
        again = RenewFlight(self, shared, lease, question, flight.seq, 0)
        again.is_repeated = True
        again.sent_at = flight.sent_at
        again.since_us = flight.since_us
        lease.flight = again
        self.health.send(again, now)

    # Looking after leases -------------------------------------------------------------------------

    def _look_later(self, shared: SharedLimit, lease: Lease, at: i64) -> None:
        self._agenda.enter(shared, lease, at)

    def _look(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """See what a lease needs by itself."""
        if lease.dry_until > now:
            self._look_later(shared, lease, lease.dry_until)
        elif lease.flight is not None or not self.health.is_up:
            if not self.health.is_up:
                lease.end_drought()
            self._look_later(shared, lease, now + shared.ttl_ns // 2)
        elif lease.dry_until != 0:
            self._end_drought(shared, lease, now)
        else:
            self._look_after(shared, lease, now)

    def _look_after(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Neither dry nor being renewed: keep it alive, fill it, give it back or forget it."""
        is_due = lease.renew_at != 0 and lease.renew_at <= now
        if is_due:
            lease.renew_at = 0
        is_used = lease.asked > 0
        if lease.left > 0:
            if is_used and shared.is_leased and not shared.is_gone:
                self._send(shared, lease, 0, now)
            else:
                self.give_back(shared, lease, now)
        elif is_due and self._may_draw(shared, now):
            self._send(shared, lease, 0, now)
        else:
            lease.measure(now)
            is_old = now - lease.quiet_since >= shared.ttl_ns
            if is_old and lease.may_be_forgotten(now):
                self.book.forget(shared, lease)
            else:
                self._look_later(shared, lease, now + shared.ttl_ns // 2)

    def _end_drought(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Ask again if somebody wants it; while the answer is on its way, it still is dry."""
        is_wanted = lease.asked > 0 or lease.wanted(self._horizon_ns, shared.bound) > 1
        if is_wanted and self._may_draw(shared, now):
            self._send(shared, lease, 0, now)
        else:
            lease.end_drought()
            self._look_later(shared, lease, now + shared.ttl_ns // 2)

    # The end -------------------------------------------------------------------------------------

    def refresh(self, shared: SharedLimit, now: i64) -> None:
        """The settings of a limit have changed: what is known of its keys no longer holds."""
        for lease in list(shared.leases.values()):
            lease.end_drought()
            lease.low = lease.left
            if not shared.is_leased or lease.left > shared.bound:
                self.give_back(shared, lease, now)

    def release(self, shared: SharedLimit, now: i64) -> None:
        """The limit is gone: give everything back."""
        for lease in list(shared.leases.values()):
            self.give_back(shared, lease, now)

    def drain(self, done: Callable[[], object], now: i64) -> None:
        """Give everything back, then call back."""
        self.is_draining = True
        self._drained = done
        self._drain_on()

    def _drain_on(self) -> None:
        done = self._drained
        if done is None:
            return
        now = self.health.now()
        is_busy = False
        for shared, lease in self.book.slots():
            if lease.left > 0:
                self.give_back(shared, lease, now)
            if lease.flight is not None or lease.left + lease.pinned > 0:
                is_busy = True
        if is_busy and self.health.is_up:
            self.health.later(_DRAIN_STEP_NS, self._drain_on)
            return
        self._drained = None
        self.health.later(0, done)
