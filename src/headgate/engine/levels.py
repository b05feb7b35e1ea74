"""One level of a policy, ready to be asked: does it apply, and by which key does it count?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.priority import DEFAULT_TIER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i64

    from headgate.engine.keyspace import Keyspace
    from headgate.policy.matching import Pattern

__all__ = [
    "ENDS",
    "HAS",
    "HAS_KEY",
    "IS",
    "STARTS",
    "Condition",
    "PlannedLevel",
    "compose_key",
    "is_shared",
    "keys_of",
]

# Kinds of conditions, from the one that most requests meet to the one that fewest do. Nearly every
# request has the attribute "key", so that to have it tells the least.
HAS_KEY: Final = 0
HAS: Final = 1
ENDS: Final = 2
STARTS: Final = 3
IS: Final = 4


@final
class Condition:
    """What a level asks of one attribute.

    Attributes:
        attribute: its name.
        kind: how it is compared.
        literals: one of them has to be, to start or to end the value; [""] when any value will do.
    """

    def __init__(self, attribute: str, kind: i64, literals: list[str]) -> None:
        self.attribute = attribute
        self.kind = kind
        self.literals = literals


@final
class PlannedLevel:
    """One level, ready to be asked.

    Attributes:
        order: its place among all levels, for a stable order of answers.
        keyspace: the keys of its limit.
        overrides: for a named key, the keyspace of its own limit.
        conditions: all of them are necessary; together they need not be enough.
        tier: how important its policy says the request is; see `headgate.priority`.
    """

    def __init__(
        self,
        order: i64,
        dimensions: Sequence[str],
        match: Sequence[tuple[str, Sequence[Pattern]]],
        keyspace: Keyspace,
        overrides: dict[str, Keyspace],
        tier: i64 = DEFAULT_TIER,
    ) -> None:
        self.order = order
        self.tier = tier
        self.dimensions: list[str] = list(dimensions)
        self.keyspace = keyspace
        self.overrides = overrides
        self._match: list[tuple[str, list[Pattern]]] = [
            (dimension, list(patterns)) for dimension, patterns in match
        ]
        self.conditions = _conditions(self.dimensions, self._match)

    def applies(self, attributes: dict[str, str]) -> bool:
        """Whether the request has all dimensions and fits all patterns."""
        for dimension in self.dimensions:
            if dimension not in attributes:
                return False
        for dimension, patterns in self._match:
            value = attributes.get(dimension)
            if value is None or not _any_matches(patterns, value):
                return False
        return True

    def key_of(self, attributes: dict[str, str]) -> str:
        """The key that the request counts under."""
        return compose_key(self.dimensions, attributes)

    def keyspace_of(self, key: str) -> Keyspace:
        """The limit that holds for a key: an override, or the level's own."""
        if len(self.overrides) == 0:
            return self.keyspace
        return self.overrides.get(key, self.keyspace)

    def keyspaces(self) -> list[Keyspace]:
        """The level's own keyspace, then those of its overrides."""
        return [self.keyspace, *self.overrides.values()]


def keys_of(levels: list[PlannedLevel], attributes: dict[str, str]) -> list[tuple[Keyspace, str]]:
    """For each level, the limit that holds and the key that the request counts under."""
    keys: list[tuple[Keyspace, str]] = []
    for level in levels:
        key = level.key_of(attributes)
        keys.append((level.keyspace_of(key), key))
    return keys


def is_shared(keys: list[tuple[Keyspace, str]]) -> bool:
    """Whether other nodes have a say in one of these limits."""
    for keyspace, _ in keys:
        if keyspace.shared is not None:
            return True
    return False


def compose_key(dimensions: list[str], attributes: dict[str, str]) -> str:
    """One key of the values of several dimensions, such that no two combinations share one.

    All but the last value carry their length: without it, values chosen by an attacker could be made to
    count under somebody else's key.
    """
    count = len(dimensions)
    if count == 1:
        return attributes[dimensions[0]]
    if count == 0:
        return ""
    last = attributes[dimensions[count - 1]]
    if count == 2:
        first = attributes[dimensions[0]]
        return f"{len(first)}:{first},{last}"
    parts: list[str] = []
    for dimension in dimensions[:-1]:
        value = attributes[dimension]
        parts.append(f"{len(value)}:{value},")
    parts.append(last)
    return "".join(parts)


def _any_matches(patterns: list[Pattern], value: str) -> bool:
    for pattern in patterns:
        if pattern.matches(value):
            return True
    return False


def _conditions(dimensions: list[str], match: list[tuple[str, list[Pattern]]]) -> list[Condition]:
    matched: set[str] = {dimension for dimension, _ in match}
    conditions: list[Condition] = []
    for dimension, patterns in match:
        conditions += _conditions_of(dimension, patterns)
    for dimension in dimensions:
        if dimension not in matched:
            conditions.append(_presence(dimension))
    return conditions


def _conditions_of(dimension: str, patterns: list[Pattern]) -> list[Condition]:
    """What any value has in common that fits one of the patterns."""
    if all([pattern.is_exact for pattern in patterns]):
        return [Condition(dimension, IS, _distinct([pattern.head for pattern in patterns]))]
    conditions: list[Condition] = []
    if all([len(pattern.head) > 0 for pattern in patterns]):
        heads = [pattern.head for pattern in patterns]
        conditions.append(Condition(dimension, STARTS, _distinct(heads)))
    if all([len(pattern.tail) > 0 for pattern in patterns]):
        tails = [pattern.tail for pattern in patterns]
        conditions.append(Condition(dimension, ENDS, _distinct(tails)))
    if len(conditions) == 0:
        conditions.append(_presence(dimension))
    return conditions


def _presence(dimension: str) -> Condition:
    return Condition(dimension, HAS_KEY if dimension == "key" else HAS, [""])


def _distinct(literals: list[str]) -> list[str]:
    return list(dict.fromkeys(literals))
