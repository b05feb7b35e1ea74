"""The compiled plan: which limits apply to a request, found without asking every policy.

A level of a policy makes *conditions* on a request: an attribute has one of these values, or starts or
ends with one of these literals, or is merely there. The level is filed under the condition that fewest
requests meet. For each attribute that a request carries, the plan looks its value up among the exact
values, then among the literals of each length that occurs, then takes the levels that only need the
attribute to be there. What is found are the *candidates*; they are checked in full.

Where many levels are filed in one place (a thousand limits that all ask for the same tenant), the place
becomes a plan of its own, which files them by their other conditions. So the work follows the
attributes of the request and the levels that nearly apply, not the number of policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.levels import HAS, IS, STARTS

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.levels import Condition, PlannedLevel

__all__ = ["Plan"]

_MOST_IN_ONE_PLACE: Final = 16
_MOST_TO_INSERT: Final = 32


@final
class _Place:
    """The levels that are filed under one literal: a short list, or a plan once they are many."""

    def __init__(self) -> None:
        self.levels: list[PlannedLevel] = []
        self.plan: Plan | None = None

    def size(self) -> int:
        if self.plan is not None:
            return len(self.plan)
        return len(self.levels)

    def add(self, level: PlannedLevel, used: set[tuple[str, i64]]) -> None:
        if self.plan is not None:
            self.plan.add(level)
            return
        self.levels.append(level)
        if len(self.levels) > _MOST_IN_ONE_PLACE:
            self.plan = Plan(used)
            for each in self.levels:
                self.plan.add(each)
            self.levels = []

    def remove(self, level: PlannedLevel) -> None:
        if self.plan is not None:
            self.plan.remove(level)
        else:
            self.levels.remove(level)

    def gather(self, attributes: dict[str, str], found: list[PlannedLevel], every: bool) -> None:
        if self.plan is not None:
            self.plan.gather(attributes, found, every)
            return
        for level in self.levels:
            if every or level.applies(attributes):
                found.append(level)


@final
class _Literals:
    """The places of conditions of one kind on one attribute, by literal."""

    def __init__(self) -> None:
        self.places: dict[str, _Place] = {}
        self._count_of_length: dict[int, int] = {}
        self.lengths: list[int] = []

    def load(self, literals: list[str]) -> int:
        """How crowded it is where a condition with these literals would be filed."""
        most = 0
        for literal in literals:
            place = self.places.get(literal)
            if place is not None:
                most = max(most, place.size())
        return most

    def add(self, level: PlannedLevel, literal: str, used: set[tuple[str, i64]]) -> None:
        place = self.places.get(literal)
        if place is None:
            place = _Place()
            self.places[literal] = place
            length = len(literal)
            self._count_of_length[length] = self._count_of_length.get(length, 0) + 1
            if self._count_of_length[length] == 1:
                self.lengths = sorted(self._count_of_length)
        place.add(level, used)

    def remove(self, level: PlannedLevel, literal: str) -> None:
        place = self.places[literal]
        place.remove(level)
        if place.size() == 0:
            del self.places[literal]
            length = len(literal)
            self._count_of_length[length] -= 1
            if self._count_of_length[length] == 0:
                del self._count_of_length[length]
                self.lengths = sorted(self._count_of_length)


@final
class _AttributeIndex:
    """The levels that are filed under a condition on one attribute."""

    def __init__(self) -> None:
        self._exact = _Literals()
        self._heads = _Literals()
        self._tails = _Literals()
        self._present = _Place()

    def is_empty(self) -> bool:
        """Whether nothing is filed here."""
        filed = self._exact.places or self._heads.places or self._tails.places
        return not filed and self._present.size() == 0

    def load(self, condition: Condition) -> int:
        """How crowded it is where a level with this condition would be filed."""
        if condition.kind <= HAS:
            return self._present.size()
        return self._literals(condition.kind).load(condition.literals)

    def add(self, level: PlannedLevel, condition: Condition, used: set[tuple[str, i64]]) -> None:
        if condition.kind <= HAS:
            self._present.add(level, used)
            return
        literals = self._literals(condition.kind)
        for literal in condition.literals:
            literals.add(level, literal, used)

    def remove(self, level: PlannedLevel, condition: Condition) -> None:
        if condition.kind <= HAS:
            self._present.remove(level)
            return
        literals = self._literals(condition.kind)
        for literal in condition.literals:
            literals.remove(level, literal)

    def gather(
        self,
        value: str,
        attributes: dict[str, str],
        found: list[PlannedLevel],
        every: bool,
    ) -> None:
        if len(self._exact.places) > 0:
            place = self._exact.places.get(value)
            if place is not None:
                place.gather(attributes, found, every)
        size = len(value)
        for length in self._heads.lengths:
            if length > size:
                break
            place = self._heads.places.get(value[:length])
            if place is not None:
                place.gather(attributes, found, every)
        for length in self._tails.lengths:
            if length > size:
                break
            place = self._tails.places.get(value[size - length :])
            if place is not None:
                place.gather(attributes, found, every)
        self._present.gather(attributes, found, every)

    def _literals(self, kind: i64) -> _Literals:
        if kind == IS:
            return self._exact
        if kind == STARTS:
            return self._heads
        return self._tails


@final
class Plan:
    """Levels, filed by one condition each.

    Args:
        used: conditions that all of them are known to meet already; None for the plan of an engine.
    """

    def __init__(self, used: set[tuple[str, i64]] | None = None) -> None:
        self._used: set[tuple[str, i64]] = set() if used is None else used
        self._always: list[PlannedLevel] = []
        self._indexes: dict[str, _AttributeIndex] = {}
        self._filed: dict[PlannedLevel, Condition] = {}

    def __len__(self) -> int:
        return len(self._always) + len(self._filed)

    def add(self, level: PlannedLevel) -> None:
        """File a level."""
        condition = self._choose(level)
        if condition is None:
            self._always.append(level)
            return
        self._filed[level] = condition
        index = self._indexes.get(condition.attribute)
        if index is None:
            index = _AttributeIndex()
            self._indexes[condition.attribute] = index
        index.add(level, condition, self._used | {(condition.attribute, condition.kind)})

    def remove(self, level: PlannedLevel) -> None:
        """Take a level out again."""
        condition = self._filed.pop(level, None)
        if condition is None:
            self._always.remove(level)
            return
        index = self._indexes[condition.attribute]
        index.remove(level, condition)
        if index.is_empty():
            del self._indexes[condition.attribute]

    def find(self, attributes: dict[str, str]) -> list[PlannedLevel]:
        """The levels that apply to a request, in the order of their policies."""
        found: list[PlannedLevel] = []
        self.gather(attributes, found, False)
        if len(found) > 1:
            return _in_order(found)
        return found

    def candidates(self, attributes: dict[str, str]) -> list[PlannedLevel]:
        """The levels that `find` checks in full: all that apply, and a few that do not."""
        found: list[PlannedLevel] = []
        self.gather(attributes, found, True)
        return found

    def gather(self, attributes: dict[str, str], found: list[PlannedLevel], every: bool) -> None:
        """Add the levels that apply, or every candidate, to a list."""
        for level in self._always:
            if every or level.applies(attributes):
                found.append(level)
        for attribute, value in attributes.items():
            index = self._indexes.get(attribute)
            if index is not None:
                index.gather(value, attributes, found, every)

    def _choose(self, level: PlannedLevel) -> Condition | None:
        """The condition to file a level under: the most telling kind, and the emptiest place in it."""
        best: Condition | None = None
        best_load = 0
        for condition in level.conditions:
            if (condition.attribute, condition.kind) in self._used:
                continue
            if best is not None and condition.kind < best.kind:
                continue
            index = self._indexes.get(condition.attribute)
            load = 0 if index is None else index.load(condition)
            if best is None or condition.kind > best.kind or load < best_load:
                best = condition
                best_load = load
        return best


def _in_order(found: list[PlannedLevel]) -> list[PlannedLevel]:
    """Sorted, and each level once: one with several literals may have been found under two of them."""
    if len(found) > _MOST_TO_INSERT:
        found.sort(key=_order_of)
    ordered: list[PlannedLevel] = []
    for level in found:
        place: i64 = len(ordered)
        while place > 0 and ordered[place - 1].order > level.order:
            place -= 1
        if place == 0 or ordered[place - 1] is not level:
            ordered.insert(place, level)
    return ordered


def _order_of(level: PlannedLevel) -> int:
    return level.order
