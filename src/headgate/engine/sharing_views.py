"""How the sharing of limits goes, as plain numbers for people and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.engine.leases import Lease
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.sharing import Sharing

__all__ = ["LeaseView", "SharingStatus"]


class LeaseView:
    """What this node has of one key.

    Attributes:
        policy: the limit's name.
        key: the key within it.
        consistency: ``strict`` or ``leased``.
        held: tokens that this node may spend without asking.
        bound: the most that all nodes together may hold unspent: what a limit can be short of at worst.
        outstanding: what all nodes held when this one last asked.
        demand: tokens per second that this node is asked for.
        usable_ns: how long the tokens may still be spent.
        dry_ns: how long this key will be denied without asking.
        waiting: requests that wait for an answer of the store.
    """

    __slots__ = (
        "bound",
        "consistency",
        "demand",
        "dry_ns",
        "held",
        "key",
        "outstanding",
        "policy",
        "usable_ns",
        "waiting",
    )

    def __init__(self, shared: SharedLimit, lease: Lease, now: int) -> None:
        self.policy = shared.name
        self.key = lease.key
        self.consistency = "leased" if shared.is_leased else "strict"
        self.held: int = lease.left + lease.pinned
        self.bound: int = shared.bound
        self.outstanding: int = lease.outstanding
        self.demand = lease.demand
        self.usable_ns: int = max(0, lease.usable_until - now)
        self.dry_ns: int = max(0, lease.dry_until - now)
        self.waiting = len(lease.waiters)


class SharingStatus:
    """Counters and states of a node's sharing; the counters since it started.

    Attributes:
        is_up: whether the store is asked; while it is not, failure modes are in force.
        since_ns: for how long that has been so.
        is_draining: leases are being given back for good.
        downs: how often the store was given up.
        questions: sent to the store, probes included.
        answered: of them.
        late: not answered within the deadline.
        unanswered: of which nothing will be known.
        in_flight: on their way.
        waited: requests that waited for the store.
        renewals: answers about leases.
        keys: of which something is known: leases, or how they stood last.
        held: tokens drawn ahead that are not spent.
        bound: the most tokens that all nodes together may hold unspent of the keys that this one holds.
        keys_refused: times that there was no room for a key, which was then counted strictly.
        degraded: for each failure mode, how many limits were decided by it.
        owed: tokens admitted without the store and not yet charged.
        keys_owing: keys that they were admitted for.
        paid: tokens that were charged afterwards.
        forgone: tokens that will never be charged, for want of room.
        refunds_waiting: refunds and settlements that wait for the store.
        refunds_dropped: that were given up, for want of room.
        refunds_unknown: tokens given back of which it is not known whether the store noticed.
    """

    def __init__(self, sharing: Sharing, now: int) -> None:
        health, debts, renewals = sharing.health, sharing.debts, sharing.renewals
        self.is_up: bool = health.is_up
        self.since_ns: int = now - health.changed_at
        self.is_draining: bool = renewals.is_draining
        self.downs: int = health.downs
        self.questions: int = health.asked
        self.answered: int = health.answered
        self.late: int = health.late
        self.unanswered: int = health.unanswered
        self.in_flight: int = health.in_flight
        self.waited: int = sharing.waited
        self.renewals: int = renewals.renewed_count
        self.keys: int = renewals.book.count
        self.held, self.bound = renewals.book.holdings()
        self.keys_refused: int = renewals.refused
        self.degraded = dict(
            zip(("local", "open", "closed"), sharing.fallbacks.counts, strict=True)
        )
        self.owed: int = debts.owed
        self.keys_owing: int = debts.keys_owing
        self.paid: int = debts.paid
        self.forgone: int = debts.forgone
        self.refunds_waiting: int = debts.waiting
        self.refunds_dropped: int = debts.dropped
        self.refunds_unknown: int = debts.unknown
