"""From a policy to levels that can be asked, with the counters that it had before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

from headgate.algorithms.paced import EVEN
from headgate.backpressure.adaptive_rate import PERIOD_NS
from headgate.engine.levels import PlannedLevel, compose_key
from headgate.engine.table import Keyspace
from headgate.priority import tier_of

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from headgate.backpressure.adaptive_rate import AdaptiveRule
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
        rule: adapts its rates; None when nothing does.
        limits: each with its recipe.
        version: of the policy; see `headgate.engine.counters.Counter`.
    """

    def __init__(
        self,
        policy: Policy,
        number: int,
        levels: list[PlannedLevel],
        rule: AdaptiveRule | None,
        limits: list[tuple[Keyspace, LimitSpec]],
    ) -> None:
        self.limits = limits
        self.version = 0
        self.policy = policy
        self.number = number
        self.levels = levels
        self.rule = rule
        self._admitted = self._count(denied=False)
        self._denied = self._count(denied=True)

    def keyspaces(self) -> dict[str, Keyspace]:
        """All its limits, by place."""
        return {keyspace.place: keyspace for level in self.levels for keyspace in level.keyspaces()}

    def adapt(self, pressure: float, now: int) -> None:
        """Let the limits run as fast as the rule says, if it is time to look again."""
        rule = self.rule
        if rule is None or not rule.is_due(now):
            return
        rule.update(pressure, self._is_used(rule.factor), now)
        self.set_pace(now)

    def set_pace(self, now: int) -> None:
        """Bring all limits to the pace of the rule, or to their own when there is none."""
        pace = EVEN if self.rule is None else round(self.rule.factor * EVEN)
        for level in self.levels:
            for keyspace in level.keyspaces():
                keyspace.set_pace(pace, now)

    def _is_used(self, factor: float) -> bool:
        """Whether, since the last look, a check was denied or half of what one key may have was admitted.

        Checks are counted, whatever they cost: for costly ones it is the denials that tell.
        """
        admitted = self._count(denied=False)
        denied = self._count(denied=True)
        checks, refusals = admitted - self._admitted, denied - self._denied
        self._admitted, self._denied = admitted, denied
        enough = max(1.0, 0.5 * factor * self._least_rate() * PERIOD_NS)
        return refusals > 0 or checks >= enough

    def _least_rate(self) -> float:
        """Of the levels' own limits, the lowest rate, in tokens per nanosecond."""
        specs = [level.spec for level in self.policy.levels]
        return min(spec.rate.limit / spec.rate.window_ns for spec in specs)

    def _count(self, *, denied: bool) -> int:
        spaces = [keyspace for level in self.levels for keyspace in level.keyspaces()]
        return sum(space.denied if denied else space.admitted for space in spaces)


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
    limits: list[tuple[Keyspace, LimitSpec]] = []

    def keyspace(level: Level, spec: LimitSpec, place: str) -> Keyspace:
        algorithm = spec.build(wall_offset_ns)
        settings = spec.fingerprint()
        known = earlier.get(place)
        if known is None:
            known = Keyspace(table, algorithm, level.name, place, settings)
        else:
            changes.append((known, algorithm, settings))
        limits.append((known, spec))
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
    installed = Installed(policy, number, levels, _rule_for(policy, before), limits)
    if installed.rule is not None or (before is not None and before.rule is not None):
        installed.set_pace(now)
    return installed


def _rule_for(policy: Policy, before: Installed | None) -> AdaptiveRule | None:
    """The rule that a policy asks for: the one that it had, with what that has come to, if it is the same."""
    if policy.adaptive is None:
        return None
    if before is not None and before.policy.adaptive == policy.adaptive:
        return before.rule
    return policy.adaptive.build()


def retire_policy(before: Installed, after: Installed | None) -> list[Keyspace]:
    """Drop the keys of the limits that nothing goes on with; those limits."""
    kept = {} if after is None else after.keyspaces()
    retired = [keyspace for place, keyspace in before.keyspaces().items() if place not in kept]
    for keyspace in retired:
        keyspace.retire()
    return retired
