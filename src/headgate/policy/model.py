"""Policies as values, and their reading from plain documents (JSON, YAML, Python).

A policy has one level, or several nested ones (``levels``), all decided together. A level inherits from
its policy every limit setting that it does not set itself; an override inherits from its level.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from headgate.algorithms import build, options_of
from headgate.errors import InvalidInput, InvalidPolicy
from headgate.policy.adaptive import AdaptiveSpec, read_adaptive
from headgate.policy.fields import Fields
from headgate.policy.matching import Pattern
from headgate.policy.sharing import LIKE_THE_NODE, LeaseSpec, read_consistency, read_lease
from headgate.priority import PRIORITIES
from headgate.rate import Rate, parse_window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.algorithms.base import Algorithm

__all__ = ["Level", "LimitSpec", "Override", "Policy", "read_policies"]

FAILURE_MODES: Final = ("local", "open", "closed")
MAX_LEVELS: Final = 16
MAX_OVERRIDES: Final = 10_000
MAX_DIMENSIONS: Final = 16
MAX_PATTERNS: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LIMIT_FIELDS: Final = (
    "algorithm",
    "limit",
    "window",
    "burst",
    "timezone",
    "granularity",
    "max_delay",
)
_LEVEL_FIELDS: Final = (*_LIMIT_FIELDS, "dimensions", "match", "overrides")
_POLICY_FIELDS: Final = (
    "name",
    "levels",
    "priority",
    "enabled",
    "description",
    "failure_mode",
    "adaptive",
    "consistency",
    "lease",
)


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """The recipe of one limit.

    Attributes:
        algorithm: a name of `headgate.algorithms.ALGORITHMS`.
        rate: limit, window and burst.
        granularity: sub-windows of the sliding-window counter.
        max_delay_ns: the longest wait in the queue of ``leaky_bucket_queue``; None for its default.
    """

    algorithm: str
    rate: Rate
    granularity: int = 1
    max_delay_ns: int | None = None

    def fingerprint(self) -> str:
        """Tells limits with different settings apart."""
        rate = self.rate
        return (
            f"{self.algorithm} {rate.limit}/{rate.window_ns} {rate.capacity} {rate.period} {rate.tz} "
            f"{self.granularity} {self.max_delay_ns}"
        )

    def build(self, wall_offset_ns: int) -> Algorithm:
        """The algorithm that decides, with its constants worked out."""
        return build(
            self.algorithm,
            self.rate,
            wall_offset_ns=wall_offset_ns,
            granularity=self.granularity,
            max_delay_ns=self.max_delay_ns,
        )


@dataclass(frozen=True, slots=True)
class Override:
    """Another limit for one named key: ``values`` has a value for every dimension of the level."""

    values: tuple[str, ...]
    spec: LimitSpec


@dataclass(frozen=True, slots=True)
class Level:
    """One limit of a policy: what it is counted by, and which requests it applies to.

    Attributes:
        name: as it stands in decisions: the policy's name, or ``policy/level``.
        dimensions: one counter for each combination of their values; none for one shared counter.
        match: for a dimension, the patterns of which one must match.
        spec: the limit.
        overrides: other limits for named keys.
    """

    name: str
    dimensions: tuple[str, ...]
    match: tuple[tuple[str, tuple[Pattern, ...]], ...]
    spec: LimitSpec
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A named set of limits that are decided together.

    >>> policy = Policy.from_dict({"name": "api", "limit": 100, "window": "1m"})
    >>> policy.levels[0].dimensions
    ('key',)

    Attributes:
        name: unique among the policies of a service.
        levels: at least one.
        priority: one of `PRIORITIES`; who is shed first under pressure.
        enabled: a policy that is not enabled applies to nothing.
        failure_mode: what to do when the shared store is gone; one of `FAILURE_MODES`.
        adaptive: by what rule its limits run faster or slower; None when they do not.
        consistency: ``strict``, ``leased`` or ``local``; None: as the node has it.
        lease: how its tokens are drawn ahead when it is leased.
        document: the plain document that it was read from, with nothing added.
    """

    name: str
    levels: tuple[Level, ...]
    priority: str = "normal"
    enabled: bool = True
    description: str = ""
    failure_mode: str = "local"
    adaptive: AdaptiveSpec | None = None
    consistency: str | None = None
    lease: LeaseSpec = LIKE_THE_NODE
    document: dict[str, Any] = field(default_factory=dict, compare=False, hash=False, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Read a plain document.

        Raises:
            InvalidPolicy: with the path of the offending field.
        """
        top = Fields(data, "")
        top.only((*_LEVEL_FIELDS, *_POLICY_FIELDS))
        name = _read_name(top, "name")
        levels = _read_levels(top, name)
        adaptive = read_adaptive(top, _algorithms(levels))
        return cls(
            name=name,
            levels=levels,
            priority=top.choice("priority", PRIORITIES, "normal"),
            enabled=top.flag("enabled", default=True),
            description=top.text("description", "", max_length=1024),
            failure_mode=top.choice("failure_mode", FAILURE_MODES, "local"),
            adaptive=adaptive,
            consistency=read_consistency(top, adapts=adaptive is not None),
            lease=read_lease(top),
            document=deepcopy(top.data),
        )

    def to_dict(self) -> dict[str, Any]:
        """The document that it was read from, with the defaults that matter filled in."""
        defaults: dict[str, Any] = {"priority": self.priority, "enabled": self.enabled}
        if self.document.get("levels") is None:
            defaults["algorithm"] = self.levels[0].spec.algorithm
            defaults["dimensions"] = list(self.levels[0].dimensions)
        missing = {
            name: value for name, value in defaults.items() if self.document.get(name) is None
        }
        return {**deepcopy(self.document), **missing}


def _read_name(fields: Fields, name: str) -> str:
    value = fields.text(name, None, max_length=128)
    if not _NAME.fullmatch(value):
        raise fields.error(name, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -", value)
    return value


def _read_levels(top: Fields, policy: str) -> tuple[Level, ...]:
    if not top.given("levels"):
        return (_read_level(top, None, policy),)
    nested = top.objects("levels", MAX_LEVELS)
    if not nested:
        raise top.error(
            "levels", "must hold at least one level; leave it out for a single limit", []
        )
    # Read for their own sake too: what every level sets itself would not be looked at else.
    _read_dimensions(top)
    _read_match(top)
    levels = []
    names: set[str] = set()
    for fields in nested:
        fields.only((*_LEVEL_FIELDS, "name"))
        name = _read_name(fields, "name")
        if name in names:
            raise fields.error("name", "must differ from the names of the other levels", name)
        names.add(name)
        levels.append(_read_level(fields, top, f"{policy}/{name}"))
    return tuple(levels)


def _algorithms(levels: Iterable[Level]) -> Iterator[tuple[str, bool]]:
    """Of all limits: the algorithm's name, and whether it follows a calendar."""
    for level in levels:
        for spec in (level.spec, *(override.spec for override in level.overrides)):
            yield spec.algorithm, spec.rate.tz is not None


def _read_level(fields: Fields, parent: Fields | None, name: str) -> Level:
    merged = fields.inherit(parent, _LEVEL_FIELDS) if parent else fields
    dimensions = _read_dimensions(merged)
    return Level(
        name=name,
        dimensions=dimensions,
        match=_read_match(merged),
        spec=_read_spec(merged),
        overrides=_read_overrides(merged, dimensions),
    )


def _read_dimensions(fields: Fields) -> tuple[str, ...]:
    names = fields.texts("dimensions", ["key"], MAX_DIMENSIONS)
    if len(set(names)) != len(names):
        raise fields.error("dimensions", "must not name a dimension twice", names)
    return tuple(names)


def _read_match(fields: Fields) -> tuple[tuple[str, tuple[Pattern, ...]], ...]:
    conditions = []
    match = fields.mapping("match")
    if len(match.data) > MAX_DIMENSIONS:
        raise fields.error("match", f"must name at most {MAX_DIMENSIONS} dimensions", match.data)
    for dimension in match:
        texts = match.text_or_texts(dimension, MAX_PATTERNS)
        conditions.append((dimension, tuple(Pattern(text) for text in texts)))
    return tuple(conditions)


def _read_overrides(fields: Fields, dimensions: tuple[str, ...]) -> tuple[Override, ...]:
    overrides = []
    seen: set[tuple[str, ...]] = set()
    for entry in fields.objects("overrides", MAX_OVERRIDES):
        entry.only((*_LIMIT_FIELDS, "match"))
        match = entry.mapping("match")
        if set(match) != set(dimensions):
            raise entry.error(
                "match", f"must give a value for each dimension {list(dimensions)}", sorted(match)
            )
        values = tuple(match.text(dimension, None) for dimension in dimensions)
        if values in seen:
            raise entry.error("match", "must differ from the other overrides", dict(match.data))
        seen.add(values)
        overrides.append(Override(values, _read_spec(entry.inherit(fields, _LIMIT_FIELDS))))
    return tuple(overrides)


def _read_spec(fields: Fields) -> LimitSpec:
    """The limit settings; a constraint broken in `Rate` or an algorithm names its field here."""
    algorithm = fields.text("algorithm", "token_bucket")
    with fields.naming("algorithm"):
        options_of(algorithm)
    limit = fields.whole("limit", None)
    with fields.naming("window"):
        window_ns, period = parse_window(fields.duration("window"))
    with fields.naming("limit"):
        rate = Rate(limit, window_ns)
    if fields.given("burst"):
        burst = fields.whole("burst", None)
        with fields.naming("burst"):
            rate = Rate(limit, window_ns, burst)
    if fields.given("timezone"):
        zone = fields.text("timezone", None)
        with fields.naming("timezone"):
            rate = Rate(limit, window_ns, rate.burst, period, zone)
    max_delay_ns = None
    if fields.given("max_delay"):
        with fields.naming("max_delay"):
            max_delay_ns, _ = parse_window(fields.duration("max_delay"))
    spec = LimitSpec(algorithm, rate, fields.whole("granularity", 1), max_delay_ns)
    _require_buildable(spec, fields)
    return spec


def _require_buildable(spec: LimitSpec, fields: Fields) -> None:
    """Refuse settings that do not go together; the error names the one that is in the way."""
    try:
        spec.build(0)
    except InvalidInput:
        rate = spec.rate
        without = {
            "burst": replace(spec, rate=Rate(rate.limit, rate.window_ns, None, None, rate.tz)),
            "timezone": replace(spec, rate=Rate(rate.limit, rate.window_ns, rate.burst)),
            "granularity": replace(spec, granularity=1),
            "max_delay": replace(spec, max_delay_ns=None),
        }
        blamed = [name for name, other in without.items() if other != spec and _builds(other)]
        with fields.naming(blamed[0] if blamed else "limit"):
            raise


def _builds(spec: LimitSpec) -> bool:
    try:
        spec.build(0)
    except InvalidInput:
        return False
    return True


def read_policies(documents: list[Mapping[str, Any]]) -> list[Policy]:
    """Read several documents; their names must differ.

    Raises:
        InvalidPolicy: for the first that breaks a constraint, with its place as ``field``.
    """
    policies: dict[str, Policy] = {}
    for place, document in enumerate(documents):
        try:
            policy = Policy.from_dict(document)
        except InvalidPolicy as error:
            raise InvalidPolicy(error.message, f"{place}.{error.field}") from error
        if policy.name in policies:
            message = f"name must be unique, got {policy.name!r} twice; rename one"
            raise InvalidPolicy(message, f"{place}.name")
        policies[policy.name] = policy
    return list(policies.values())
