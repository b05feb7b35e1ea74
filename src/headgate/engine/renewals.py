"""Messages about leases: asked ahead of need, repeated until answered, given back when idle.

At most one message about a key is on its way. It has a number; while it is not known what became of it, only
the same number is sent again, which the store answers as it did the first time. So a message may be lost,
late or doubled without a token more or less.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import RENEW, LeaseRequest, Question
from headgate.engine.leases import Lease
from headgate.engine.store_health import Flight

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.engine.counters import Answer, Standing
    from headgate.engine.debts import Debts
    from headgate.engine.requests import Request
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.store_health import StoreHealth

__all__ = ["RenewFlight", "Renewals"]

_LOOKS_AT_CAP: Final = 16
_MOST_LOOKS: Final = 4096
_EARLIEST_LOOK_NS: Final = 1_000_000
_DRAIN_STEP_NS: Final = 2_000_000


@final
class RenewFlight(Flight):
    """One message about one lease.

    Attributes:
        seq: its number.
        need: tokens for requests that waited when it was sent.
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
        count: keys with a lease.
        refused: keys for which there was no room, and which were counted strictly.
        is_draining: no tokens are drawn any more.
    """

    def __init__(
        self, health: StoreHealth, debts: Debts, node: str, horizon_ns: i64, most: i64
    ) -> None:
        self.health = health
        self.count: i64 = 0
        self.refused: i64 = 0
        self.renewed_count: i64 = 0
        self.is_draining = False
        self._debts = debts
        self._node = node
        self._horizon_ns: i64 = horizon_ns
        self._most: i64 = most
        self._seq: i64 = 0
        self._looks: list[tuple[int, int, SharedLimit, Lease]] = []
        self._look_number: i64 = 0
        self._alarm_at: i64 = 0
        self._slots: list[tuple[SharedLimit, Lease]] = []
        self._hand: i64 = 0
        self._to_repeat: dict[Lease, SharedLimit] = {}
        self._drained: Callable[[], object] | None = None

    # Records -------------------------------------------------------------------------------------

    def record(self, shared: SharedLimit, key: str, now: i64) -> Lease | None:
        """The record of a key; None when there is no room for another one."""
        lease = shared.leases.get(key)
        if lease is not None:
            return lease
        if shared.is_gone or (self.count >= self._most and not self._make_room(now)):
            self.refused += 1
            return None
        lease = Lease(key, now)
        shared.leases[key] = lease
        self.count += 1
        self._slots.append((shared, lease))
        self._look_later(shared, lease, now + shared.ttl_ns)
        return lease

    def holdings(self) -> tuple[int, int]:
        """Tokens held by this node, and the sum of the bounds of the keys that it holds some of."""
        held: i64 = 0
        bound: i64 = 0
        for shared, lease in self._slots:
            if not lease.is_forgotten and lease.left + lease.pinned > 0:
                held += lease.left + lease.pinned
                bound += shared.bound
        return held, bound

    def _make_room(self, now: i64) -> bool:
        """Forget a record that says nothing, among a few; give back what idle ones hold."""
        looked: i64 = 0
        while looked < _LOOKS_AT_CAP and len(self._slots) > 0:
            looked += 1
            self._hand = (self._hand + 1) % len(self._slots)
            shared, lease = self._slots[self._hand]
            if lease.is_forgotten:
                self._slots[self._hand] = self._slots[-1]
                self._slots.pop()
            elif self._may_be_forgotten(lease, now):
                self._forget(shared, lease)
                return True
            elif lease.left > 0 and lease.asked == 0:
                self.give_back(shared, lease, now)
        return self.count < self._most

    def _may_be_forgotten(self, lease: Lease, now: i64) -> bool:
        if lease.flight is not None or len(lease.waiters) > 0 or lease.pinned > 0:
            return False
        is_dry = lease.dry_until > now or lease.retry_at > now
        return lease.left == 0 and not is_dry

    def _forget(self, shared: SharedLimit, lease: Lease) -> None:
        lease.is_forgotten = True
        if shared.leases.get(lease.key) is lease:
            del shared.leases[lease.key]
        self.count -= 1
        # Records that are forgotten elsewhere leave their slots behind.
        if len(self._slots) > 2 * self.count + 64:
            self._slots = [slot for slot in self._slots if not slot[1].is_forgotten]
            self._hand = 0

    # Asking --------------------------------------------------------------------------------------

    def wait(self, shared: SharedLimit, lease: Lease, request: Request, now: i64) -> None:
        """Let a request wait for tokens of a lease."""
        lease.waiters.append(request)
        if lease.flight is None:
            self._send(shared, lease, 0, now)

    def low(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Ask for more ahead of need."""
        if lease.flight is None and self.health.is_up and not self.is_draining:
            self._send(shared, lease, 0, now)
        elif lease.flight is None:
            lease.low = -1  # do not ask again and again while it cannot be

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
        if back == 0 and not self.is_draining and not shared.is_gone:
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
        held: i64 = answer.held
        granted: i64 = answer.granted
        at_us: i64 = answer.at_us
        since_us = flight.since_us if flight.is_repeated else at_us
        lease.renewed(held, at_us, since_us, flight.sent_at, shared.ttl_ns)
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
            else:
                unserved.append(request)
        if spare > 0:
            self._debts.refund(shared.counter, lease.key, spare, at_us, now)
        again: i64 = answer.again_ns
        self._after(shared, lease, unserved, is_short, standing, again, now)

    def _after(
        self,
        shared: SharedLimit,
        lease: Lease,
        unserved: list[Request],
        is_short: bool,
        standing: Standing,
        again_ns: i64,
        now: i64,
    ) -> None:
        """What comes after an answer: a drought, another message, or rest."""
        is_empty = lease.left == 0 and standing.wait_ns != 0
        if is_short or is_empty:
            self._dry_up(shared, lease, unserved, standing, again_ns, now)
        else:
            lease.end_drought()
            if len(unserved) > 0:
                lease.waiters = unserved + lease.waiters
                if lease.flight is None and self.health.is_up:
                    self._send(shared, lease, 0, now)
                elif not self.health.is_up:
                    self.release_waiters(lease, now)
            elif lease.left == 0:
                lease.low = -1
            self._look_later(shared, lease, now + shared.ttl_ns // 2)

    def _dry_up(
        self,
        shared: SharedLimit,
        lease: Lease,
        unserved: list[Request],
        standing: Standing,
        again_ns: i64,
        now: i64,
    ) -> None:
        cost: i64 = 1
        if lease.left > 0 and len(unserved) > 0:
            cost = min([request.cost for request in unserved])
        wait = again_ns if again_ns > 0 else max(1, standing.wait_ns)
        pause = max(shared.pause_ns, min(wait, shared.ttl_ns // 2))
        lease.dry_up(cost, pause, wait, now)
        for request in unserved:
            request.refused(lease, max(wait, shared.wait_for(request.cost, standing)), now)
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
        if lease.is_forgotten or (lease.look_at != 0 and lease.look_at <= at):
            return
        lease.look_at = at
        self._look_number += 1
        heappush(self._looks, (at, self._look_number, shared, lease))
        self._set_alarm(at)

    def _set_alarm(self, at: i64) -> None:
        if self._alarm_at != 0 and self._alarm_at <= at:
            return
        self._alarm_at = at
        self.health.later(at - self.health.now(), self._alarm)

    def _alarm(self) -> None:
        now = self.health.now()
        if self._alarm_at == 0 or now + _EARLIEST_LOOK_NS < self._alarm_at:
            return  # another one is set, for later
        self._alarm_at = 0
        left: i64 = _MOST_LOOKS
        while left > 0 and len(self._looks) > 0:
            at, _, shared, lease = self._looks[0]
            if at > now:
                break
            heappop(self._looks)
            left -= 1
            if lease.look_at == at and not lease.is_forgotten:
                lease.look_at = 0
                self._look(shared, lease, now)
        if len(self._looks) > 0:
            self._set_alarm(max(self._looks[0][0], now))

    def _look(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """See what a lease needs by itself."""
        ttl = shared.ttl_ns
        if lease.dry_until > now:
            self._look_later(shared, lease, lease.dry_until)
            return
        if lease.flight is not None or not self.health.is_up:
            if not self.health.is_up:
                lease.end_drought()
            self._look_later(shared, lease, now + ttl // 2)
            return
        if lease.dry_until != 0:
            self._end_drought(shared, lease, now)
            return
        is_used = lease.asked > 0
        if is_used:
            lease.measure(now)
        if lease.left > 0:
            if is_used:
                self._send(shared, lease, 0, now)  # so that it lives on
            else:
                self.give_back(shared, lease, now)
            return
        if not is_used and now - lease.quiet_since >= ttl and self._may_be_forgotten(lease, now):
            self._forget(shared, lease)
            return
        self._look_later(shared, lease, now + ttl // 2)

    def _end_drought(self, shared: SharedLimit, lease: Lease, now: i64) -> None:
        """Ask again if somebody wants it; while the answer is on its way, it still is dry."""
        if lease.asked > 0 and shared.is_leased and not self.is_draining:
            self._send(shared, lease, 0, now)
        else:
            lease.end_drought()
            self._look_later(shared, lease, now + shared.ttl_ns // 2)

    # The end -------------------------------------------------------------------------------------

    def refresh(self, shared: SharedLimit, now: i64) -> None:
        """The settings of a limit have changed: what is known of its keys no longer holds."""
        for lease in list(shared.leases.values()):
            lease.end_drought()
            if shared.is_leased:
                lease.low = lease.left
            else:
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
        for shared, lease in self._slots:
            if lease.is_forgotten:
                continue
            if lease.left > 0:
                self.give_back(shared, lease, now)
            if lease.flight is not None or lease.left + lease.pinned > 0:
                is_busy = True
        if is_busy and self.health.is_up:
            self.health.later(_DRAIN_STEP_NS, self._drain_on)
            return
        self._drained = None
        self.health.later(0, done)
