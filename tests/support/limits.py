"""Short ways to limits, keyspaces, policies and engines, and what must hold of a keyed table always."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from headgate.algorithms import build
from headgate.engine.engine import Engine
from headgate.engine.table import KeyedTable, Keyspace
from headgate.policy import Policy
from headgate.rate import Rate
from headgate.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.algorithms.base import Algorithm

SECOND = 10**9

NAMES = (
    "token_bucket",
    "sliding_window_log",
    "sliding_window_counter",
    "fixed_window",
    "leaky_bucket",
    "leaky_bucket_queue",
    "dual",
    "concurrency",
)


def algorithm(rate: str = "5/second", name: str = "token_bucket", **options: Any) -> Algorithm:
    return build(name, Rate.parse(rate), **options)


def keyspace(table: KeyedTable, rate: str = "5/second", name: str = "token_bucket") -> Keyspace:
    return Keyspace(table, algorithm(rate, name), "test", "test", rate)


def policy(name: str = "test", **fields: Any) -> Policy:
    return Policy.from_dict({"name": name, "limit": 10, "window": "1m", **fields})


def engine(*policies: Policy, clock: ManualClock | None = None, **settings: Any) -> Engine:
    made = Engine(clock or ManualClock(), **settings)
    for each in policies:
        made.set_policy(each)
    return made


def tracked(space: Keyspace) -> set[str]:
    """The keys that have a slot in this keyspace, those of former settings included."""
    return {*space._states, *(key for former in space._formers for key in former.states)}


def assert_in_step(table: KeyedTable, spaces: Iterable[Keyspace]) -> None:
    """Each tracked key has exactly one slot, and there are never more slots than the cap has it."""
    slots = Counter(zip(table._spaces, table._keys, strict=True))
    assert len(table) == slots.total() <= table.stats().max_keys
    for space in spaces:
        for key in tracked(space):
            assert slots[space, key] == 1, key
