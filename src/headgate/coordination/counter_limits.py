"""What is sent of a limit whenever it is asked for, worked out once."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, final

from headgate.coordination.counter_rules import bounds_around, calendar_of, keeps_log, rule_of
from headgate.engine.recipes import recipe_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.engine.counters import Counter

__all__ = ["HeldLevel", "KnownLimit", "KnownLimits"]

_MOST_KNOWN: Final = 10_000
_MOST_FORMERS: Final = 4


@final
class KnownLimit:
    """One limit.

    Attributes:
        recipe: the settings, as they stand in the store.
        version: of them.
        suffix: of the keys of this limit; the text of the key goes before it.
        formers: earlier settings of the same limit, under which the store may still have keys.
        calendar: that its windows follow, if they do.
        keeps_log: whether each key has a second one.
        limit: in force.
        window_ns: likewise.
        rule: what the settings come to, for the script.
    """

    __slots__ = (
        "_bounds",
        "calendar",
        "counter",
        "formers",
        "keeps_log",
        "limit",
        "recipe",
        "rule",
        "suffix",
        "version",
        "window_ns",
    )

    def __init__(
        self, recipe: str, version: int, suffix: str, formers: list[str], counter: Counter | None
    ) -> None:
        spec = spec_of(tuple(json.loads(f"[{recipe}]")))
        self.counter = counter  # so that its id is not given to another
        self.recipe = recipe
        self.version = version
        self.suffix = suffix
        self.formers = formers
        self.rule = rule_of(spec)
        self.calendar = calendar_of(spec)
        self.keeps_log = keeps_log(spec)
        self.limit = spec.rate.limit
        self.window_ns = spec.rate.window_ns
        self._bounds: list[int] = [0] * 5

    def sent(self, seen_us: int) -> tuple[int, str, dict[str, object]]:
        """The version, the recipe and the rule; of a calendar with the periods around a moment."""
        if self.calendar is not None and not self._bounds[1] <= seen_us < self._bounds[2]:
            self._bounds = bounds_around(self.calendar, seen_us)
            self.rule["bounds"] = self._bounds
        return self.version, self.recipe, self.rule


@final
class HeldLevel:
    """One level of a hold, as it was written into the store when it was opened."""

    __slots__ = ("key", "recipe", "version")

    def __init__(self, key: str, version: int, recipe: str) -> None:
        self.key = key
        self.version = version
        self.recipe = recipe


@final
class KnownLimits:
    """All limits that were asked for lately."""

    def __init__(self) -> None:
        self._known: dict[int, KnownLimit] = {}
        self._held: dict[tuple[int, str], KnownLimit] = {}
        self._formers: dict[str, list[str]] = {}

    def of(self, counter: Counter) -> KnownLimit:
        """What is sent of a counter."""
        known = self._known.get(id(counter))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            digest = blake2b(counter.identity.encode("utf-8", "backslashreplace"), digest_size=8)
            suffix = f"}}:{digest.hexdigest()}"
            recipe = json.dumps(recipe_of(counter.spec), separators=(",", ":"))[1:-1]
            formers = self._formers.setdefault(suffix, [])
            known = KnownLimit(recipe, counter.version, suffix, formers, counter)
            self._known[id(counter)] = known
        return known

    def of_held(self, level: HeldLevel) -> KnownLimit:
        """What is sent of a level of a hold."""
        place = (level.version, level.recipe)
        known = self._held.get(place)
        if known is None:
            if len(self._held) >= _MOST_KNOWN:
                self._held.clear()
            suffix = level.key[level.key.rfind("}:") :]
            formers = self._formers.setdefault(suffix, [])
            known = KnownLimit(level.recipe, level.version, suffix, formers, None)
            self._held[place] = known
        return known

    def learn(self, known: Sequence[KnownLimit], recipe: str) -> bool:
        """The store keeps keys of these limits under earlier settings: send those too from now on.

        False when the settings make no limit. "" stands for nothing to learn.
        """
        if recipe and self.of_former(recipe) is None:
            return False
        for one in known:
            if recipe and recipe != one.recipe and recipe not in one.formers:
                one.formers.append(recipe)
                del one.formers[:-_MOST_FORMERS]
        return True

    def of_former(self, recipe: str) -> KnownLimit | None:
        """What is sent of earlier settings; None when they make no limit."""
        try:
            return self.of_held(HeldLevel("", 0, recipe))
        except ValueError:
            return None
