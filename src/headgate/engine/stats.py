"""What the engine can be asked about itself and about its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.engine.table import Keyspace, TableStats

__all__ = ["EngineStats", "PolicyStats", "Usage"]


class Usage:
    """What one key of one limit has spent and has left (A14). Reading it spent nothing.

    Of a limit that is shared with other nodes, it is what this node last heard, and its own lease.

    Attributes:
        policy: the limit's name.
        key: the key within the limit.
        limit: the quota per window.
        window_ns: that window.
        capacity: the most that may be spent at once.
        used: the window's count, or the tokens missing from the bucket.
        remaining: what may be spent now (what is left of the burst).
        reset_after_ns: the wait until all is back.
        rate_per_second: ``used`` per second of the window.
    """

    __slots__ = (
        "capacity",
        "key",
        "limit",
        "policy",
        "rate_per_second",
        "remaining",
        "reset_after_ns",
        "used",
        "window_ns",
    )

    def __init__(self, keyspace: Keyspace, key: str, now: int) -> None:
        algorithm = keyspace.algorithm
        self.policy = keyspace.name
        self.key = key
        self.limit: int = algorithm.limit
        self.window_ns: int = algorithm.window_ns
        self.capacity: int = algorithm.capacity
        shared = keyspace.shared
        if shared is None:
            state = keyspace.standing(key, now)
            self.used: int = algorithm.used(state, now)
            self.remaining: int = algorithm.remaining(state, now)
            self.reset_after_ns: int = algorithm.reset(state, now)
        else:
            known = shared.known(shared.leases.get(key), 0, now, False)
            self.remaining = known.remaining
            self.used = self.capacity - known.remaining
            self.reset_after_ns = known.reset_after_ns
        self.rate_per_second = self.used * 1e9 / self.window_ns


class PolicyStats:
    """Counters of one level of a policy, its overrides included.

    Attributes:
        policy: the policy's name.
        level: the level's name as it stands in decisions.
        admitted: checks answered yes.
        denied: checks answered no.
        keys: keys kept.
    """

    __slots__ = ("admitted", "denied", "keys", "level", "policy")

    def __init__(self, policy: str, keyspaces: Sequence[Keyspace]) -> None:
        self.policy = policy
        self.level = keyspaces[0].name
        self.admitted: int = sum(keyspace.admitted for keyspace in keyspaces)
        self.denied: int = sum(keyspace.denied for keyspace in keyspaces)
        self.keys: int = sum(len(keyspace) for keyspace in keyspaces)


class EngineStats:
    """Counters of the whole engine.

    Attributes:
        table: what is kept and what was given up.
        policies: one entry for each level of each policy.
        reservations: open holds.
        unmatched: requests that no policy applied to.
    """

    __slots__ = ("policies", "reservations", "table", "unmatched")

    def __init__(
        self, table: TableStats, policies: list[PolicyStats], reservations: int, unmatched: int
    ) -> None:
        self.table = table
        self.policies = policies
        self.reservations = reservations
        self.unmatched = unmatched
