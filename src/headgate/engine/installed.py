"""From a policy to levels that can be asked, with the counters that it had before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

from headgate.engine.levels import PlannedLevel, compose_key
from headgate.engine.table import Keyspace
from headgate.priority import tier_of

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from headgate.engine.table import KeyedTable
    from headgate.policy.model import Level, LimitSpec, Policy

__all__ = ["Installed", "compile_policy", "retire_policy"]

_MOST_LEVELS: Final = 1024


@final
class Installed:
    """A policy in force.

    Attributes:
        policy: what was asked for.
        number: its place among the policies; a change keeps it.
        levels: what it was compiled into.
    """

    def __init__(self, policy: Policy, number: int, levels: list[PlannedLevel]) -> None:
        self.policy = policy
        self.number = number
        self.levels = levels

    def keyspaces(self) -> dict[str, Keyspace]:
        """All its limits, by place."""
        return {keyspace.place: keyspace for level in self.levels for keyspace in level.keyspaces()}


def compile_policy(
    policy: Policy,
    number: int,
    before: Installed | None,
    table: KeyedTable,
    now: int,
    wall_offset_ns: int,
) -> Installed:
    """The levels of a policy. A limit that it had before goes on, if need be under other settings."""
    earlier = {} if before is None else before.keyspaces()
    changes: list[tuple[Keyspace, Algorithm, str]] = []

    def keyspace(level: Level, spec: LimitSpec, place: str) -> Keyspace:
        algorithm = spec.build(wall_offset_ns)
        settings = spec.fingerprint()
        known = earlier.get(place)
        if known is None:
            return Keyspace(table, algorithm, level.name, place, settings)
        changes.append((known, algorithm, settings))
        return known

    tier = tier_of(policy.priority)
    levels = []
    for order, level in enumerate(policy.levels, number * _MOST_LEVELS):
        dimensions = list(level.dimensions)
        root = f"{level.name} {json.dumps(dimensions)}"
        overrides = {}
        for override in level.overrides:
            key = compose_key(dimensions, dict(zip(dimensions, override.values, strict=True)))
            overrides[key] = keyspace(level, override.spec, f"{root}={key}")
        own = keyspace(level, level.spec, root)
        levels.append(PlannedLevel(order, dimensions, level.match, own, overrides, tier))
    # Only now that nothing can fail any more.
    for known, algorithm, settings in changes:
        known.change(algorithm, settings, now)
    return Installed(policy, number, levels)


def retire_policy(before: Installed, after: Installed | None) -> None:
    """Drop the keys of the limits that nothing goes on with."""
    kept = {} if after is None else after.keyspaces()
    for place, keyspace in before.keyspaces().items():
        if place not in kept:
            keyspace.retire()
