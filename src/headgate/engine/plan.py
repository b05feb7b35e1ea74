"""The compiled plan: which limits apply to a request, found without asking every policy.

Each level of each policy is filed under one *anchor*: the attribute, and the part of its pattern, that
fewest requests share. For each attribute that a request carries, the plan looks its value up among the
exact values, then among the known prefix lengths, then takes the levels that only need it to be
present. What is found is checked in full. So the work follows the attributes of the request and the
levels that nearly apply, not the number of policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.engine.table import Keyspace
    from headgate.policy.matching import Pattern

__all__ = ["Plan", "PlannedLevel"]


@final
class PlannedLevel:
    """One level, ready to be asked.

    Attributes:
        order: its place among all levels, for a stable order of answers.
        keyspace: the keys of its limit.
        overrides: for a named key, the keyspace of its own limit.
    """

    def __init__(
        self,
        order: int,
        dimensions: Sequence[str],
        match: Sequence[tuple[str, Sequence[Pattern]]],
        keyspace: Keyspace,
        overrides: dict[str, Keyspace],
    ) -> None:
        self.order = order
        self.dimensions: list[str] = list(dimensions)
        self.keyspace = keyspace
        self.overrides = overrides
        self.has_several_anchors = False
        self._match: list[tuple[str, list[Pattern]]] = [
            (dimension, list(patterns)) for dimension, patterns in match
        ]

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

    def anchors(self) -> list[tuple[str, str, bool]]:
        """Where to file this level: (attribute, literal, whether the literal is the whole value).

        The most telling condition wins: all-exact, then the longest literal prefix, then presence. No
        anchor at all means that the level applies to every request.
        """
        best: list[tuple[str, str, bool]] = []
        best_rank = -1
        for dimension, patterns in self._match:
            exact = all([pattern.is_exact for pattern in patterns])
            rank = 1_000_000 if exact else min([len(pattern.literal) for pattern in patterns])
            if rank > best_rank:
                best_rank = rank
                best = [(dimension, pattern.literal, exact) for pattern in patterns]
        if not best and self.dimensions:
            # Nearly every request has the dimension "key"; any other tells more.
            rarest = [name for name in self.dimensions if name != "key"]
            best = [(rarest[0] if rarest else "key", "", False)]
        return best


def _any_matches(patterns: list[Pattern], value: str) -> bool:
    for pattern in patterns:
        if pattern.matches(value):
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


@final
class _AttributeIndex:
    """The levels that are anchored on one attribute."""

    def __init__(self) -> None:
        self._exact: dict[str, list[PlannedLevel]] = {}
        self._prefixes: dict[str, list[PlannedLevel]] = {}
        self._prefix_lengths: list[int] = []
        self._present: list[PlannedLevel] = []

    def is_empty(self) -> bool:
        """Whether nothing is filed here."""
        return not (self._exact or self._prefixes or self._present)

    def add(self, level: PlannedLevel, literal: str, exact: bool) -> None:
        """File a level under a literal."""
        if exact:
            _file(self._exact, literal, level)
        elif literal:
            _file(self._prefixes, literal, level)
            self._measure_prefixes()
        elif level not in self._present:
            self._present.append(level)

    def remove(self, level: PlannedLevel, literal: str, exact: bool) -> None:
        """Take a level from under a literal; harmless when it is gone already."""
        if exact:
            _unfile(self._exact, literal, level)
        elif literal:
            _unfile(self._prefixes, literal, level)
            self._measure_prefixes()
        elif level in self._present:
            self._present.remove(level)

    def _measure_prefixes(self) -> None:
        self._prefix_lengths = sorted({len(prefix) for prefix in self._prefixes})

    def collect(self, value: str, attributes: dict[str, str], found: list[PlannedLevel]) -> None:
        if len(self._exact) > 0:
            exact = self._exact.get(value)
            if exact is not None:
                _collect(exact, attributes, found)
        for length in self._prefix_lengths:
            if length <= len(value):
                prefixed = self._prefixes.get(value[:length])
                if prefixed is not None:
                    _collect(prefixed, attributes, found)
        if len(self._present) > 0:
            _collect(self._present, attributes, found)


def _file(files: dict[str, list[PlannedLevel]], literal: str, level: PlannedLevel) -> None:
    filed = files.setdefault(literal, [])
    if level not in filed:
        filed.append(level)


def _unfile(files: dict[str, list[PlannedLevel]], literal: str, level: PlannedLevel) -> None:
    filed = files.get(literal)
    if filed is not None and level in filed:
        filed.remove(level)
        if not filed:
            del files[literal]


def _collect(
    levels: list[PlannedLevel], attributes: dict[str, str], found: list[PlannedLevel]
) -> None:
    for level in levels:
        if level.applies(attributes) and not (level.has_several_anchors and level in found):
            found.append(level)


def _order_of(level: PlannedLevel) -> int:
    return level.order


@final
class Plan:
    """All levels, filed by anchor."""

    def __init__(self) -> None:
        self._always: list[PlannedLevel] = []
        self._indexes: dict[str, _AttributeIndex] = {}

    def add(self, level: PlannedLevel) -> None:
        """File a level."""
        anchors = level.anchors()
        level.has_several_anchors = len(anchors) > 1
        if not anchors:
            self._always.append(level)
        for attribute, literal, exact in anchors:
            self._indexes.setdefault(attribute, _AttributeIndex()).add(level, literal, exact)

    def remove(self, level: PlannedLevel) -> None:
        """Take a level out again."""
        anchors = level.anchors()
        if not anchors:
            self._always.remove(level)
        for attribute, literal, exact in anchors:
            index = self._indexes[attribute]
            index.remove(level, literal, exact)
            if index.is_empty():
                del self._indexes[attribute]

    def find(self, attributes: dict[str, str]) -> list[PlannedLevel]:
        """The levels that apply to a request, in the order of their policies."""
        found = self._always.copy()
        for attribute, value in attributes.items():
            index = self._indexes.get(attribute)
            if index is not None:
                index.collect(value, attributes, found)
        if len(found) > 1:
            found.sort(key=_order_of)
        return found
