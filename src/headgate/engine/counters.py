"""What nodes ask of the counters that they share, as types (D1, D2).

The store that keeps the counters decides by its own clock, in whole microseconds since `STORE_EPOCH_NS`;
what it answers is in nanoseconds, like everything else here. One `Question` is atomic: all levels admit, or
nothing is spent. Many questions travel together, and each is answered for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.policy.model import LimitSpec

__all__ = [
    "CHECK",
    "PAY",
    "PEEK",
    "REFUND",
    "RENEW",
    "RESERVE",
    "SETTLE",
    "STORE_EPOCH_NS",
    "UNKNOWN_HOLD",
    "UNREADABLE",
    "Answer",
    "Counter",
    "CounterStore",
    "LeaseRequest",
    "Question",
    "Standing",
]

STORE_EPOCH_NS: Final = 1_735_689_600 * 10**9
"""2025-01-01 UTC on the wall. The store counts from here, so that its times fit in 58 bits of nanoseconds."""

CHECK: Final = 0
"""Spend on all levels if all admit."""
PEEK: Final = 1
"""What would `CHECK` answer? Nothing is spent."""
REFUND: Final = 2
"""Give back on all levels what was spent at `Question.granted_at_us`."""
PAY: Final = 3
"""Charge each level as far as it has it: what was admitted while the store was away."""
RENEW: Final = 4
"""Report on a lease of one level, give some of it back, and ask for more; see `LeaseRequest`."""
RESERVE: Final = 5
"""`CHECK`, and when it passes keep a hold of this id that is released when `Question.ttl_us` is over."""
SETTLE: Final = 6
"""End a hold at its real cost, whichever node opened it."""

UNKNOWN_HOLD: Final = "unknown_hold"
"""`Answer.failed` of a `SETTLE`: the hold was settled, has expired, or never was."""
UNREADABLE: Final = "unreadable"
"""`Answer.failed`: what the store has at one of the keys is not ours. Nothing was spent, on any level; the
caller treats this question as one that the store did not answer. Others of the batch are not concerned."""


@final
class Counter:
    """One limit as all nodes know it.

    Attributes:
        identity: names it in the store: its scope and its place among the policies. Not its settings: a limit
            whose settings change goes on, with what was spent under the earlier ones.
        version: of the settings, rising; a question with older ones than the store has seen is answered by
            the newer ones, so that a change is in force everywhere as soon as one node knows of it.
        spec: the settings.
        name: as it stands in decisions.
    """

    __slots__ = ("identity", "name", "spec", "version")

    def __init__(self, identity: str, version: int, spec: LimitSpec, name: str) -> None:
        self.identity = identity
        self.version = version
        self.spec = spec
        self.name = name


@final
class LeaseRequest:
    """What a node says about its lease on one key, and what it wants.

    Attributes:
        node: who asks; a process that starts anew is another node.
        seq: number of this message about this key, rising by one. The same number again gets the same answer
            again, and an older one changes nothing: so a message may be lost, late or doubled.
        left: tokens of the lease that are not spent, those in ``back`` included.
        back: how many of them are given back herewith.
        need: tokens for requests that wait for this answer; spent as soon as they arrive, so they do not
            count as leased.
        ahead: tokens wanted beyond that, to spend without asking.
        demand: tokens per second that this node is being asked for, admitted or not.
        ttl_us: how long the lease lasts.
        bound: the most tokens of this key that all nodes together may hold unspent.
    """

    __slots__ = ("ahead", "back", "bound", "demand", "left", "need", "node", "seq", "ttl_us")

    def __init__(  # noqa: PLR0913 - one message
        self,
        node: str,
        seq: int,
        *,
        left: int,
        back: int,
        need: int,
        ahead: int,
        demand: float,
        ttl_us: int,
        bound: int,
    ) -> None:
        self.node = node
        self.seq = seq
        self.left = left
        self.back = back
        self.need = need
        self.ahead = ahead
        self.demand = demand
        self.ttl_us = ttl_us
        self.bound = bound


@final
class Question:
    """One thing to do with one or several counters, atomically.

    Attributes:
        kind: one of the constants above.
        levels: pairs of a counter and the key within it.
        cost: tokens; of a `SETTLE` the real cost, or -1 for the reserved one.
        granted_at_us: of a `REFUND`: when it was spent, on the store's clock (`Answer.at_us`); 0 for now,
            from a node that has never heard what time it is there.
        lease: of a `RENEW`.
        hold: of a `RESERVE` or `SETTLE`: the id.
        ttl_us: of a `RESERVE`.
    """

    __slots__ = ("cost", "granted_at_us", "hold", "kind", "lease", "levels", "ttl_us")

    def __init__(
        self,
        kind: int,
        levels: Sequence[tuple[Counter, str]],
        cost: int = 0,
        granted_at_us: int = 0,
        lease: LeaseRequest | None = None,
        hold: str = "",
        ttl_us: int = 0,
    ) -> None:
        self.kind = kind
        self.levels = levels
        self.cost = cost
        self.granted_at_us = granted_at_us
        self.lease = lease
        self.hold = hold
        self.ttl_us = ttl_us


@final
class Standing:
    """How one level stands, as `headgate.algorithms.base.Algorithm` words it.

    Attributes:
        wait_ns: before the cost passes (`NEVER`: it never does). Of a `CHECK`, `PEEK` or `RESERVE` it is for
            the question's cost, and was true before anything was spent; of the other kinds it is for a cost
            of 1, and true afterwards.
        delay_ns: of a queueing limit, as ``wait_ns``; 0 when that is not 0. The other two are how things
            stand afterwards.
        remaining: the largest cost that passes now.
        reset_ns: the wait until the whole allowance is back.
        limit: in force, which need not be the one that the question came with.
        window_ns: likewise.
    """

    __slots__ = ("delay_ns", "limit", "remaining", "reset_ns", "wait_ns", "window_ns")

    def __init__(
        self,
        wait_ns: int,
        delay_ns: int,
        remaining: int,
        reset_ns: int,
        limit: int,
        window_ns: int,
    ) -> None:
        self.wait_ns = wait_ns
        self.delay_ns = delay_ns
        self.remaining = remaining
        self.reset_ns = reset_ns
        self.limit = limit
        self.window_ns = window_ns


@final
class Answer:
    """What became of a question.

    Attributes:
        at_us: when, on the store's clock.
        standings: one for each level, in order. Of a `SETTLE`, those of the hold, in the order of its
            reservation.
        granted: of a `RENEW`: tokens, ``need`` before ``ahead``.
        held: of a `RENEW`: how many of those granted the store counts as leased.
        again_ns: of a `RENEW` that got less than it asked for: when it is worth asking again.
        outstanding: of a `RENEW`: what all nodes hold of this key.
        failed: "" or why the question could not be carried out: `UNKNOWN_HOLD` or `UNREADABLE`. There are no
            standings then.
    """

    __slots__ = ("again_ns", "at_us", "failed", "granted", "held", "outstanding", "standings")

    def __init__(
        self,
        at_us: int,
        standings: list[Standing],
        granted: int = 0,
        held: int = 0,
        again_ns: int = 0,
        outstanding: int = 0,
        failed: str = "",
    ) -> None:
        self.at_us = at_us
        self.standings = standings
        self.granted = granted
        self.held = held
        self.again_ns = again_ns
        self.outstanding = outstanding
        self.failed = failed


@runtime_checkable
class CounterStore(Protocol):
    """Where shared counters are kept. Adapters pass ``tests/contract/test_counter_store.py``."""

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer | None]:
        """Carry all of them out, in order; one round trip where the store allows it.

        A store of several servers answers None to a question of which nothing is known, because a server that
        it needs is away.

        Raises:
            StoreUnavailable: it is not known what became of any.
        """

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """(node, tokens held, microseconds until it expires) of one key, live leases only."""

    async def release_expired(self, most: int = 256) -> int:
        """Release the holds that are due, so many at most; how many were. One node does this, by election."""

    async def ping(self) -> None:
        """Return when the store answers; raises `StoreUnavailable` when it does not."""

    async def close(self) -> None:
        """Let go of all connections."""
