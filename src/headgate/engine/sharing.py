"""The node's side of limits that are shared with other nodes: leases, strict questions, failure modes.

An engine is given its sharing once it is built: ``engine.share(Sharing(courier, settings, engine.clock,
engine.table))``. From then on the ``begin_`` methods of the engine answer for strict and leased limits by the
shared counters; policies that were set before, too. Without a sharing, they are decided locally.

A leased limit whose lease has tokens is decided in here, at once. Everything else has a module of its own:
`headgate.engine.requests` (several limits, and waiting), `headgate.engine.renewals` (messages about leases),
`headgate.engine.store_health` (deadlines, and whether the store is asked at all), `headgate.engine.fallback`
(failure modes), `headgate.engine.debts` (what is settled when the store is back) and
`headgate.engine.shared_holds` (reservations, refunds, and questions that spend nothing).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import Counter
from headgate.engine.debts import Debts
from headgate.engine.fallback import Fallbacks
from headgate.engine.renewals import Renewals
from headgate.engine.requests import Request
from headgate.engine.shared_holds import SharedHolds
from headgate.engine.shared_limit import SharedLimit, may_be_leased, mode_of
from headgate.engine.sharing_ports import Courier, SharingSettings
from headgate.engine.sharing_views import LeaseView, SharingStatus
from headgate.engine.store_health import StoreHealth

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.decision import Decision
    from headgate.engine.keyspace import Keyspace
    from headgate.engine.leases import Lease
    from headgate.engine.pending import Pending
    from headgate.engine.reservations import ReservationBook
    from headgate.engine.table import KeyedTable
    from headgate.policy.model import LimitSpec, Policy

__all__ = ["Courier", "LeaseView", "Sharing", "SharingSettings", "SharingStatus"]

_LOCAL: Final = "local"
_LEASED: Final = "leased"
_SETTLE_STEP_NS: Final = 10_000_000


def _alone() -> tuple[int, int]:
    return 0, 1


@final
class Sharing:
    """What an engine shares with other nodes, and how.

    Args:
        courier: carries questions to the store.
        settings: how.
        clock: the engine's.
        table: the engine's.
        place: this node's rank among the live nodes, and how many there are; for the share of a limit that
            it may admit while the store is away.
        uniform: randomness in [0, 1), so that nodes do not probe in step.

    Attributes:
        health: whether the store answers.
        waited: requests that had to wait for the store.
    """

    def __init__(
        self,
        courier: Courier,
        settings: SharingSettings,
        clock: Clock,
        table: KeyedTable,
        place: Callable[[], tuple[int, int]] = _alone,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.table = table
        self.waited: i64 = 0
        self.health = StoreHealth(courier, clock.now_ns, settings.deadline_ns, uniform)
        self.health.on_up = self._recover
        self.debts = Debts(self.health, settings.max_owed)
        self.fallbacks = Fallbacks(self.health, table, clock.wall_offset_ns, place)
        self.renewals = Renewals(
            self.health, self.debts, settings.node, settings.horizon_ns, settings.max_records
        )
        self.holds = SharedHolds(self)
        self._will_settle = False
        self._limits: dict[SharedLimit, None] = {}
        self._observe: Callable[[str, str], None] | None = None

    # For the engine ------------------------------------------------------------------------------

    def join(self, book: ReservationBook, observe: Callable[[str, str], None]) -> None:
        """Learn from the engine where its holds are, and whom to tell of denials."""
        self.holds.book = book
        self._observe = observe

    def adopt(self, keyspace: Keyspace, spec: LimitSpec, policy: Policy, version: int) -> None:
        """Share a limit as its policy says, or go on doing so under other settings."""
        consistency = policy.consistency or self.settings.consistency
        scope: str | None = self.settings.scope
        if policy.adaptive is not None:
            scope = None
        elif consistency == _LOCAL:
            consistency, scope = _LEASED, self.settings.local_scope
        shared = keyspace.shared
        if scope is None:
            self.release(keyspace)
            return
        identity = f"{scope}/{keyspace.place}"
        counter = Counter(identity, version, spec, keyspace.name)
        if shared is None or shared.counter.identity != identity:
            self.release(keyspace)
            shared = SharedLimit(keyspace, counter)
            keyspace.shared = shared
            self._limits[shared] = None
        shared.has_rivals = self.settings.has_rivals and scope == self.settings.scope
        ttl_ns = policy.lease.ttl_ns or self.settings.ttl_ns
        is_leased = consistency == _LEASED and may_be_leased(spec)
        share = policy.lease.share or self.settings.share
        shared.set_up(counter, is_leased, mode_of(policy.failure_mode), ttl_ns, share)
        self.renewals.refresh(shared, self.clock.now_ns())

    def release(self, keyspace: Keyspace) -> None:
        """Share a limit no more; its leases are given back."""
        shared = keyspace.shared
        if shared is None:
            return
        keyspace.shared = None
        shared.is_gone = True
        self._limits.pop(shared, None)
        self.renewals.release(shared, self.clock.now_ns())

    def take(self, shared: SharedLimit, key: str, cost: i64, now: i64) -> Decision | None:
        """Decide by the lease alone; None when that cannot be done."""
        lease = shared.leases.get(key)
        if lease is None or not shared.is_leased:
            return None
        if lease.left >= cost and now < lease.usable_until:
            lease.left -= cost
            lease.asked += cost
            shared.keyspace.admitted += 1
            if lease.left <= lease.low:
                self.renewals.low(shared, lease, now)
            return shared.yes(lease, now)
        if lease.is_dry(cost) and (now < lease.dry_until or self.health.is_up):
            if cost > shared.capacity:
                return None
            return self._deny(shared, lease, key, cost, lease.retry_after(now), now)
        if not lease.is_scarce or lease.left > 0 or cost > shared.capacity or not self.health.is_up:
            return None
        if lease.flight is not None or lease.renew_at > now:
            return self._deny(shared, lease, key, cost, shared.pause_ns, now)
        return None

    def _deny(
        self, shared: SharedLimit, lease: Lease, key: str, cost: i64, retry_ns: i64, now: i64
    ) -> Decision:
        lease.asked += cost
        shared.keyspace.denied += 1
        self.observe_denial(shared.name, key)
        return shared.no(lease, retry_ns, now)

    def check(
        self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64
    ) -> Decision | Pending[Decision]:
        """Decide by all limits together; ``cost`` > 0."""
        return Request(self, keys, cost).begin(now)

    def settle_soon(self) -> None:
        """Charge what is owed although the store is there: a request waited too long, through no fault of it.

        Not at once: the answer may be on its way, and then nothing is owed.
        """
        if self.health.is_up and not self._will_settle:
            self._will_settle = True
            self.health.later(2 * self.settings.deadline_ns, self._settle_now)

    def observe_denial(self, policy: str, key: str) -> None:
        """Tell whoever wants to know."""
        if self._observe is not None:
            self._observe(policy, key)

    # For whoever wires and watches ---------------------------------------------------------------

    def drain(self, done: Callable[[], object]) -> None:
        """Give all leases back and draw no more.

        ``done`` is called once the store has them, or cannot be reached. Requests that come meanwhile are
        answered strictly.
        """
        self.renewals.drain(done, self.clock.now_ns())

    def leases(self, key: str | None = None, most: int = 1000) -> list[LeaseView]:
        """What this node has of its shared keys, or of those with this key; so many at most."""
        now = self.clock.now_ns()
        found: list[LeaseView] = []
        for shared in self._limits:
            if key is not None:
                lease = shared.leases.get(key)
                if lease is not None:
                    found.append(LeaseView(shared, lease, now))
                continue
            for lease in shared.leases.values():
                if len(found) >= most:
                    return found
                found.append(LeaseView(shared, lease, now))
        return found

    def counters(self, key: str) -> list[tuple[Counter, str]]:
        """The shared counters that this node knows this key in, for `CounterStore.leases`."""
        return [(shared.counter, key) for shared in self._limits if key in shared.leases]

    def status(self) -> SharingStatus:
        """How the sharing goes. It looks at all leases, so do not ask many times a second."""
        return SharingStatus(self, self.clock.now_ns())

    # Inside --------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """The store is back: first what is owed, then everything else."""
        now = self.clock.now_ns()
        self.debts.settle(now)
        self.renewals.recover(now)
        self._settle()

    def _settle_now(self) -> None:
        self._will_settle = False
        self.debts.settle(self.clock.now_ns())

    def _settle(self) -> None:
        """Charge what is admitted locally until all nodes may be back, and then ask for everything."""
        if not self.health.is_up:
            return
        now = self.clock.now_ns()
        self.debts.settle(now)
        if now < self.health.settled_at:
            self.health.later(_SETTLE_STEP_NS, self._settle)
        else:
            self.fallbacks.end()
