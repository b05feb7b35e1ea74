"""One limit that this node shares with others: how it is counted, and its leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import NEVER, Decision
from headgate.engine.leases import most_leased

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.counters import Counter, Standing
    from headgate.engine.fallback import Fallback
    from headgate.engine.keyspace import Keyspace
    from headgate.engine.leases import Lease
    from headgate.policy.model import LimitSpec

__all__ = ["CLOSED", "LOCAL", "OPEN", "SharedLimit", "may_be_leased", "mode_of"]

LOCAL: Final = 0
"""While the store is away, admit this node's share of the limit."""
OPEN: Final = 1
"""While the store is away, admit."""
CLOSED: Final = 2
"""While the store is away, deny."""

_MODES: Final = {"local": LOCAL, "open": OPEN, "closed": CLOSED}
_LONGEST_PAUSE_NS: Final = 5_000_000
_NEVER_LEASED: Final = ("concurrency", "leaky_bucket_queue")
_BUCKETS: Final = ("token_bucket", "leaky_bucket", "leaky_bucket_queue")


@final
class SharedLimit:
    """One limit that is shared.

    Attributes:
        keyspace: the limit as the engine has it. It counts answers, and decides for nobody.
        counter: the limit as the store has it.
        is_leased: tokens are drawn ahead; else each decision is a question.
        mode: what holds while the store is away.
        capacity: the most that one key may spend at once.
        ttl_ns: how long a lease lasts.
        bound: the most tokens of one key that all nodes together may hold unspent.
        pause_ns: the least time between a "no" and asking again.
        leases: what is known of its keys.
        fallback: decides while the store is away; None while it does not.
        is_gone: the policy has no such limit any more.
        has_rivals: shares are kept fair among those who share it; not so among the processes of one node,
            whose callers may come to any of them.
    """

    def __init__(self, keyspace: Keyspace, counter: Counter) -> None:
        self.keyspace = keyspace
        self.counter = counter
        self.name = keyspace.name
        self.is_leased = False
        self.mode: i64 = LOCAL
        self.ttl_ns: i64 = 0
        self.capacity: i64 = 0
        self.bound: i64 = 1
        self.pause_ns: i64 = 0
        self.leases: dict[str, Lease] = {}
        self.fallback: Fallback | None = None
        self.is_gone = False
        self.has_rivals = True
        self._token_ns = 0.0

    def set_up(
        self, counter: Counter, is_leased: bool, mode: i64, ttl_ns: i64, share: float
    ) -> None:
        """Go by these settings from now on; those of the limit itself are the counter's.

        Args:
            counter: the limit as the store has it.
            is_leased: draw tokens ahead.
            mode: what holds while the store is away.
            ttl_ns: how long a lease lasts.
            share: of the capacity, what all nodes together may hold unspent.
        """
        self.counter = counter
        self.is_leased = is_leased
        self.mode = mode
        self.ttl_ns = ttl_ns
        self.capacity = self.keyspace.algorithm.capacity
        self.bound = most_leased(self.capacity, share)
        rate = counter.spec.rate
        self._token_ns = float(rate.window_ns) / float(rate.limit)
        # A small bucket is full again soon, and what flows over is lost.
        refill = self._token_ns * float(self.capacity)
        self.pause_ns = max(1, int(min(float(_LONGEST_PAUSE_NS), refill / 8.0)))

    @property
    def is_bucket(self) -> bool:
        """Whether tokens come back one by one."""
        return self.counter.spec.algorithm in _BUCKETS

    # What is known of a key -----------------------------------------------------------------------

    def spare_now(self, lease: Lease | None, now: i64) -> i64:
        """What the store has left of a key now, by what was last heard; the capacity when nothing was."""
        if lease is None or lease.heard_at < 0 or now >= lease.reset_at:
            return self.capacity
        if not self.is_bucket:
            return min(self.capacity, lease.spare)
        back = float(now - lease.heard_at) / self._token_ns
        return min(self.capacity, lease.spare + int(min(back, 1e15)))

    def wait_for(self, cost: i64, standing: Standing) -> i64:
        """How long a cost has to wait, of which only is known how long one token has to."""
        wait: i64 = standing.wait_ns
        if wait == NEVER or cost <= 1 or not self.is_bucket:
            return wait
        remaining: i64 = standing.remaining
        missing = cost - max(1, remaining)
        return wait + int(float(max(0, missing)) * self._token_ns)

    # Answers -------------------------------------------------------------------------------------

    def yes(self, lease: Lease, now: i64) -> Decision:
        """Admitted from a lease."""
        return Decision(
            True,
            lease.limit,
            lease.spare + lease.left,
            0,
            max(0, lease.reset_at - now),
            0,
            self.name,
            lease.window_ns,
        )

    def no(self, lease: Lease, retry_ns: i64, now: i64) -> Decision:
        """Denied by what is known of the key."""
        return Decision(
            False,
            lease.limit,
            lease.left,
            retry_ns,
            max(0, lease.reset_at - now),
            0,
            self.name,
            lease.window_ns,
        )

    def known(self, lease: Lease | None, cost: i64, now: i64, degraded: bool) -> Decision:
        """How a key stands by what is known of it, for answers about which another limit decided."""
        algorithm = self.keyspace.algorithm
        remaining = self.spare_now(lease, now)
        reset: i64 = 0
        if lease is not None:
            remaining = min(self.capacity, remaining + lease.left)
            reset = max(0, lease.reset_at - now)
        wait: i64 = 0
        if cost > self.capacity:
            wait = NEVER
        elif lease is not None and lease.is_dry(cost) and not lease.has(cost, now):
            wait = lease.retry_after(now)
        elif cost > remaining:
            wait = max(1, reset)
        return Decision(
            wait == 0,
            algorithm.limit,
            remaining,
            wait,
            reset,
            0,
            self.name,
            algorithm.window_ns,
            (),
            degraded,
        )

    def with_lease(self, standing: Standing, lease: Lease, cost: i64) -> Decision:
        """As the store answered, for a node that has tokens of its own besides."""
        wait: i64 = 0 if lease.left >= cost else standing.wait_ns
        remaining = min(self.capacity, standing.remaining + lease.left)
        limit, reset_ns, window_ns = standing.limit, standing.reset_ns, standing.window_ns
        return Decision(wait == 0, limit, remaining, wait, reset_ns, 0, self.name, window_ns)

    def of_standing(self, standing: Standing) -> Decision:
        """As the store answered."""
        wait: i64 = standing.wait_ns
        return Decision(
            wait == 0,
            standing.limit,
            standing.remaining,
            wait,
            standing.reset_ns,
            standing.delay_ns if wait == 0 else 0,
            self.name,
            standing.window_ns,
        )


def mode_of(failure_mode: str) -> int:
    """The constant for a policy's word."""
    return _MODES[failure_mode]


def may_be_leased(spec: LimitSpec) -> bool:
    """Whether tokens of such a limit can be drawn ahead: not permits, nor places in a queue."""
    return spec.algorithm not in _NEVER_LEASED
