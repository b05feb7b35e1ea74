"""One request to several limits, of which some are shared: all admit, or nothing is spent anywhere (A9).

First everything is looked at that this node knows by itself: local limits and leases. If one of them denies,
that is the answer. If all have what it takes and no limit is strict, they are spent together, now. Else the
request *holds* what it has and asks for the rest: leases that lack tokens are renewed, and then all strict
limits are asked in one question. On a no, what is held goes back where it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import CHECK, Question
from headgate.engine.pending import Pending
from headgate.engine.shared_limit import LOCAL
from headgate.engine.store_health import Flight, Timed
from headgate.engine.together import combine, decide

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.decision import Decision
    from headgate.engine.counters import Answer, Counter
    from headgate.engine.keyspace import Keyspace
    from headgate.engine.leases import Lease
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.sharing import Sharing
    from headgate.engine.table import KeyedTable

__all__ = ["Part", "Request", "spend_local"]

# What a request has of one of its limits.
_LOCAL: Final = 0
"""Nothing to do with sharing."""
_HAS: Final = 1
"""Tokens of the lease, spent or held."""
_LACKS: Final = 2
"""It waits for tokens."""
_BOUGHT: Final = 3
"""Tokens that the store spent for it."""
_STRICT: Final = 4
"""The store is to be asked."""


@final
class Part:
    """One limit of a request.

    Attributes:
        shared: None for a local one.
        lease: what is known of the key; None when nothing is kept of it.
        has: one of the above.
        is_held: its tokens are taken, and may be given back.
        at_us: when the store spent for it.
        decision: its own answer, once there is one.
    """

    def __init__(self, keyspace: Keyspace, key: str) -> None:
        self.keyspace = keyspace
        self.key = key
        self.shared: SharedLimit | None = keyspace.shared
        self.lease: Lease | None = None
        self.has: i64 = _LOCAL
        self.is_held = False
        self.at_us: i64 = 0
        self.decision: Decision | None = None


@final
class _CheckFlight(Flight):
    """The question to all strict limits of a request."""

    def __init__(
        self, request: Request, sharing: Sharing, levels: list[tuple[Counter, str]]
    ) -> None:
        super().__init__(sharing.health, Question(CHECK, levels, request.cost))
        self._request = request

    def answered(self, answer: Answer, now: i64) -> None:
        if answer.failed:  # one of its keys cannot be read there; others are not concerned
            self.given_up(now)
        else:
            self._request.checked(answer, now)

    def given_up(self, now: i64) -> None:
        if not self._request.is_over:
            self._request.degrade(now)

    def lost(self, now: i64) -> None:
        return


@final
class Request(Timed):
    """One request, until it is answered.

    Attributes:
        cost: > 0.
        pending: the answer, once it is clear that it has to be waited for.
    """

    def __init__(self, sharing: Sharing, keys: list[tuple[Keyspace, str]], cost: i64) -> None:
        super().__init__()
        self.cost: i64 = cost
        self.pending: Pending[Decision] | None = None
        self._sharing = sharing
        self._parts = [Part(keyspace, key) for keyspace, key in keys]
        self._local = [part for part in self._parts if part.shared is None]
        self._held_at: i64 = 0
        self._lacking: i64 = 0
        self._was_admitted = False
        self._decision: Decision | None = None

    # Beginning -----------------------------------------------------------------------------------

    def begin(self, now: i64) -> Decision | Pending[Decision]:
        """Decide, or ask."""
        denied = False
        must_ask = False
        for part in self._parts:
            if part.shared is not None:
                self._look_at(part, part.shared, now)
                denied = denied or part.decision is not None
                must_ask = must_ask or part.has == _LACKS or part.has == _STRICT
        if denied or not self._local_admits(now):
            return self._end(False, now)
        if must_ask and not self._may_ask(now):
            return self.degrade(now)
        self._hold(now)
        if not must_ask:
            return self._end(True, now)
        pending: Pending[Decision] = Pending()
        self.pending = pending
        self._sharing.waited += 1
        self._sharing.health.watch(self, now)
        self._ask(now)
        return pending if self._decision is None else self._decision

    def _look_at(self, part: Part, shared: SharedLimit, now: i64) -> None:
        """What is known of one shared limit; it has its decision already if that is a no."""
        part.has = _STRICT
        if self.cost > shared.capacity:
            part.decision = shared.known(shared.leases.get(part.key), self.cost, now, False)
            return
        renewals = self._sharing.renewals
        part.lease = lease = renewals.record(shared, part.key, now)
        if lease is None:
            return
        lease.asked += self.cost
        if not shared.is_leased or renewals.is_draining:
            return
        if lease.has(self.cost, now):
            part.has = _HAS
            return
        part.has = _LACKS
        if lease.is_dry(self.cost) and (self._sharing.health.is_up or now < lease.dry_until):
            part.decision = shared.no(lease, lease.retry_after(now), now)

    def _may_ask(self, now: i64) -> bool:
        """Whether the store is there; for local shares, whether all nodes have charged theirs, too."""
        health = self._sharing.health
        if not health.is_up:
            return False
        if now >= health.settled_at:
            return True
        for part in self._parts:
            shared = part.shared
            if shared is not None and part.has != _HAS and shared.mode != LOCAL:
                return True
        return False

    def _local_admits(self, now: i64) -> bool:
        if len(self._local) == 0:
            return True
        keys = [(part.keyspace, part.key) for part in self._local]
        return decide(self._sharing.table, keys, self.cost, now, False).allowed

    def _hold(self, now: i64) -> None:
        """Spend what this node has by itself; it may be given back."""
        self._held_at = now
        spend_local(self._sharing.table, self._local, self.cost, now)
        self._hold_leased(now)

    def _hold_leased(self, now: i64) -> None:
        for part in self._parts:
            if part.has == _HAS and part.lease is not None and part.shared is not None:
                lease = part.lease
                part.is_held = True
                lease.left -= self.cost
                lease.pinned += self.cost
                if lease.left <= lease.low:
                    self._sharing.renewals.low(part.shared, lease, now)

    def _ask(self, now: i64) -> None:
        lacking = [part for part in self._parts if part.has == _LACKS]
        self._lacking = len(lacking)
        for part in lacking:
            if not self.is_over and part.lease is not None and part.shared is not None:
                self._sharing.renewals.wait(part.shared, part.lease, self, now)
        if len(lacking) == 0 and not self.is_over:
            self._check(now)

    def _check(self, now: i64) -> None:
        """Ask all strict limits, or be done when there are none."""
        levels: list[tuple[Counter, str]] = []
        for part in self._parts:
            if part.has == _STRICT and part.shared is not None:
                levels.append((part.shared.counter, part.key))
        if len(levels) == 0:
            self._end(True, now)
        elif not self._sharing.health.is_up:
            self.degrade(now)
        else:
            self._sharing.health.send(_CheckFlight(self, self._sharing, levels), now)

    # Answers -------------------------------------------------------------------------------------

    def granted(self, lease: Lease, at_us: i64, now: i64) -> None:
        """A lease that lacked tokens has some now.

        Args:
            lease: it.
            at_us: when the store spent them for this request; -1 when they are of the lease, and pinned.
            now: the time.
        """
        for part in self._parts:
            if part.lease is lease and part.has == _LACKS:
                part.has = _HAS if at_us < 0 else _BOUGHT
                part.is_held = True
                part.at_us = at_us
        self._lacking -= 1
        if self._lacking == 0:
            self._check(now)

    def refused(self, lease: Lease, retry_ns: i64, now: i64) -> None:
        """A lease that lacked tokens got none."""
        for part in self._parts:
            if part.lease is lease and part.shared is not None:
                part.decision = part.shared.no(lease, retry_ns, now)
        self._end(False, now)

    def checked(self, answer: Answer, now: i64) -> None:
        """The strict limits have answered, maybe too late."""
        strict = [part for part in self._parts if part.has == _STRICT]
        admitted = True
        for place, part in enumerate(strict):
            standing = answer.standings[place]
            admitted = admitted and standing.wait_ns == 0
            part.at_us = answer.at_us
            if part.lease is not None:
                part.lease.hear(standing, now)
            if part.shared is not None and not self.is_over:
                part.decision = part.shared.of_standing(standing)
        if not self.is_over:
            self._end(admitted, now)
        elif admitted:
            self._settle_late(strict, now)

    def _settle_late(self, strict: list[Part], now: i64) -> None:
        """The store has spent for a request that was answered without it."""
        debts = self._sharing.debts
        for part in strict:
            if part.shared is None:
                continue
            if self._was_admitted:
                debts.refund(part.shared.counter, part.key, self.cost, part.at_us, now)
            else:
                debts.return_now(part.shared.counter, part.key, self.cost, part.at_us, now)

    # Without the store ---------------------------------------------------------------------------

    def overdue(self, now: i64) -> None:
        self.degrade(now)

    def degrade(self, now: i64) -> Decision:
        """Answer by the failure modes of the limits that cannot be asked."""
        missing = [part for part in self._parts if part.has == _LACKS or part.has == _STRICT]
        is_new = self.pending is None
        local = self._local if is_new else []
        admitted = self._sharing.fallbacks.decide(missing, local, self.cost, now)
        if admitted:
            self._was_admitted = True
            if is_new:
                self._hold_leased(now)
            for part in missing:
                if part.shared is not None:
                    self._sharing.debts.owe(part.shared, part.key, self.cost)
            self._sharing.settle_soon()
        return self._end(admitted, now)

    # The end -------------------------------------------------------------------------------------

    def _end(self, admitted: bool, now: i64) -> Decision:
        """Keep what is held, or give it back; then answer."""
        self.is_over = True
        for part in self._parts:
            if part.is_held:
                self._let_go(part, admitted, now)
        decision = self._answer(admitted, now)
        self._decision = decision
        if self.pending is not None:
            self.pending.settle(decision)
        return decision

    def _let_go(self, part: Part, is_spent: bool, now: i64) -> None:
        part.is_held = False
        lease = part.lease
        if part.has == _HAS and lease is not None:
            lease.pinned -= self.cost
            if not is_spent:
                lease.left += self.cost
        elif is_spent:
            return
        elif part.shared is None:
            part.keyspace.refund(part.key, self.cost, now, self._held_at)
            part.keyspace.admitted -= 1
            part.decision = None
        else:
            counter = part.shared.counter
            self._sharing.debts.return_now(counter, part.key, self.cost, part.at_us, now)

    def _answer(self, admitted: bool, now: i64) -> Decision:
        decisions: list[Decision] = []
        for part in self._parts:
            decision = part.decision
            if decision is None:
                decision = self._decision_of(part, admitted, now)
            if admitted:
                if part.shared is not None:
                    part.keyspace.admitted += 1
            elif not decision.allowed:
                part.keyspace.denied += 1
                self._sharing.observe_denial(decision.policy, part.key)
            decisions.append(decision)
        return combine(decisions)

    def _decision_of(self, part: Part, admitted: bool, now: i64) -> Decision:
        shared = part.shared
        if shared is None:
            return part.keyspace.peek(part.key, 0 if admitted else self.cost, now)
        if part.lease is not None and (admitted or part.has == _HAS or part.has == _BOUGHT):
            return shared.yes(part.lease, now)
        # Another limit denied before this one was asked.
        return shared.known(part.lease, 0, now, False)


def spend_local(table: KeyedTable, parts: list[Part], cost: i64, now: i64) -> bool:
    """Spend on all local limits if all admit; each gets its answer."""
    if len(parts) == 0:
        return True
    keys = [(part.keyspace, part.key) for part in parts]
    decision = decide(table, keys, cost, now, True)
    answers = decision.levels if len(parts) > 1 else (decision,)
    for place, part in enumerate(parts):
        part.decision = answers[place]
        part.is_held = decision.allowed
    return decision.allowed
