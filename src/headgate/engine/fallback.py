"""What a node admits while the store is away, for policies whose failure mode is ``local``: its share.

Of ``n`` live nodes, the one of rank ``r`` has ``L*(r+1)//n - L*r//n`` of a limit of L, which add up to L.
Its burst is split likewise, but is one at least where the limit is: so a smooth limit (burst 1) does not
deny all requests on all nodes but one; bursts add up to at most n - 1 more than the limit's. A node whose
share of the limit is nothing denies.

A key begins with its share of what the store had left of it, as far as this node heard, so that the loss of
the store is no fresh allowance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from headgate.decision import NEVER, Decision
from headgate.engine.shared_limit import LOCAL, OPEN
from headgate.engine.table import Keyspace
from headgate.engine.together import decide
from headgate.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.engine.leases import Lease
    from headgate.engine.requests import Part
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.store_health import StoreHealth
    from headgate.engine.table import KeyedTable
    from headgate.policy.model import LimitSpec

__all__ = ["Fallback", "Fallbacks", "share_of"]


def share_of(whole: i64, rank: i64, count: i64) -> i64:
    """The part of one among so many; all parts add up to the whole."""
    return whole * (rank + 1) // count - whole * rank // count


@final
class Fallback:
    """One shared limit, decided alone.

    Attributes:
        keyspace: decides; None when this node's share is nothing.
    """

    def __init__(
        self, shared: SharedLimit, table: KeyedTable, wall_offset_ns: i64, rank: i64, count: i64
    ) -> None:
        self.keyspace: Keyspace | None = None
        self._shared = shared
        self._table = table
        self._wall_offset_ns: i64 = wall_offset_ns
        self._rank: i64 = -1
        self._count: i64 = 0
        self._version = ""
        self.follow(rank, count, 0)

    def follow(self, rank: i64, count: i64, now: i64) -> None:
        """Go on with the share that this node has now."""
        version = self._shared.keyspace.settings
        if rank == self._rank and count == self._count and version == self._version:
            return
        self._rank = rank
        self._count = count
        self._version = version
        spec = _share(self._shared.counter.spec, rank, count)
        if spec is None:
            self.retire()
            return
        algorithm = spec.build(self._wall_offset_ns)
        settings = spec.fingerprint()
        if self.keyspace is None:
            self.keyspace = Keyspace(self._table, algorithm, self._shared.name, "", settings)
        else:
            self.keyspace.change(algorithm, settings, now)

    def seed(self, key: str, lease: Lease | None, now: i64) -> None:
        """Let a key begin with its share of what the store had left."""
        keyspace = self.keyspace
        if keyspace is None or lease is None or keyspace.tracks(key):
            return
        left = share_of(self._shared.spare_now(lease, now), self._rank, self._count)
        spent = keyspace.algorithm.capacity - left
        if spent > 0:
            keyspace.pay(key, spent, now)

    def retire(self) -> None:
        """Forget all keys; what they were admitted is owed, and that is kept elsewhere."""
        if self.keyspace is not None:
            self.keyspace.retire()
            self.keyspace = None


def _share(spec: LimitSpec, rank: i64, count: i64) -> LimitSpec | None:
    rate = spec.rate
    limit = share_of(rate.limit, rank, count)
    if limit == 0:
        return None
    burst: int | None = None
    if rate.burst is not None:
        burst = max(1, share_of(rate.burst, rank, count))
    return replace(spec, rate=Rate(limit, rate.window_ns, burst, rate.period, rate.tz))


@final
class Fallbacks:
    """The failure modes of all limits of a node.

    Args:
        health: knows when the store will be asked again.
        table: where the keys are kept that are decided alone.
        wall_offset_ns: of the engine's clock.
        place: this node's rank among the live nodes, and how many there are.

    Attributes:
        counts: limits decided by each failure mode, in the order of their constants.
    """

    def __init__(
        self,
        health: StoreHealth,
        table: KeyedTable,
        wall_offset_ns: i64,
        place: Callable[[], tuple[int, int]],
    ) -> None:
        self.counts: list[int] = [0, 0, 0]
        self._health = health
        self._table = table
        self._wall_offset_ns: i64 = wall_offset_ns
        self._place = place
        self._in_use: list[SharedLimit] = []

    def decide(self, missing: list[Part], local: list[Part], cost: i64, now: i64) -> bool:
        """Decide without the store; spend on all if all admit. Each limit gets its answer.

        Args:
            missing: the limits that the store would have been asked for.
            local: local limits that are to be decided together with them.
            cost: tokens.
            now: the time.
        """
        alone: list[Part] = list(local)
        keys: list[tuple[Keyspace, str]] = [(part.keyspace, part.key) for part in local]
        denied = False
        for part in missing:
            shared = part.shared
            if shared is None:
                continue
            self.counts[shared.mode] += 1
            keyspace = self._keyspace(part, shared, now) if shared.mode == LOCAL else None
            if keyspace is not None:
                alone.append(part)
                keys.append((keyspace, part.key))
                continue
            part.decision = self._flat(part, shared, shared.mode == OPEN, now)
            denied = denied or shared.mode != OPEN
        if len(keys) == 0:
            return not denied
        decision = decide(self._table, keys, cost, now, not denied)
        answers = decision.levels if len(keys) > 1 else (decision,)
        is_spent = decision.allowed and not denied
        for place, part in enumerate(alone):
            if part.shared is None:
                part.decision = answers[place]
                part.is_held = False
            else:
                part.decision = self._degraded(answers[place], now)
        return is_spent

    def refund(self, shared: SharedLimit, key: str, cost: i64, now: i64) -> None:
        """Give back what was admitted alone."""
        fallback = shared.fallback
        if fallback is not None and fallback.keyspace is not None:
            fallback.keyspace.refund(key, cost, now, now)

    def end(self) -> None:
        """The store is back."""
        for shared in self._in_use:
            if shared.fallback is not None:
                shared.fallback.retire()
                shared.fallback = None
        self._in_use = []

    def _keyspace(self, part: Part, shared: SharedLimit, now: i64) -> Keyspace | None:
        rank, count = self._place()
        fallback = shared.fallback
        if fallback is None:
            fallback = Fallback(shared, self._table, self._wall_offset_ns, rank, count)
            shared.fallback = fallback
            self._in_use.append(shared)
        fallback.follow(rank, count, now)
        fallback.seed(part.key, part.lease, now)
        return fallback.keyspace

    def _flat(self, part: Part, shared: SharedLimit, allowed: bool, now: i64) -> Decision:
        algorithm = shared.keyspace.algorithm
        wait: i64 = 0 if allowed else self._next_try(now)
        limit, window_ns = algorithm.limit, algorithm.window_ns
        return Decision(allowed, limit, 0, wait, 0, 0, shared.name, window_ns, (), True)

    def _degraded(self, decision: Decision, now: i64) -> Decision:
        wait: i64 = decision.retry_after_ns
        return Decision(
            decision.allowed,
            decision.limit,
            decision.remaining,
            # Too much for this node's share need not be for the limit.
            self._next_try(now) if wait == NEVER else wait,
            decision.reset_after_ns,
            decision.delay_ns,
            decision.policy,
            decision.window_ns,
            (),
            True,
        )

    def _next_try(self, now: i64) -> i64:
        health = self._health
        return max(1, (health.settled_at if health.is_up else health.next_probe_at) - now)
