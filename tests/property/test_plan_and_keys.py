"""The plan finds what asking every level would find; keys of several dimensions never collide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.levels import PlannedLevel, compose_key
from headgate.engine.plan import Plan
from headgate.engine.table import KeyedTable
from headgate.policy.matching import Pattern
from tests.support.limits import keyspace

pytestmark = pytest.mark.slow

SPACE = keyspace(KeyedTable())
NAMES = st.sampled_from(["key", "user", "path", "region"])
VALUES = st.sampled_from(["", "a", "b", "ab", "aab", "/a/b", "/a", "*"])
PATTERNS = st.sampled_from(["", "a", "b", "a*", "*b", "*", "a*b", "/a*", "\\*", "*a*", "ab"])
REQUESTS = st.dictionaries(NAMES, VALUES, max_size=4)
LEVELS = st.tuples(
    st.lists(NAMES, max_size=2, unique=True),
    st.dictionaries(NAMES, st.lists(PATTERNS, min_size=1, max_size=3), max_size=2),
)


def made(specs) -> list[PlannedLevel]:
    return [
        PlannedLevel(
            order,
            dimensions,
            [(name, [Pattern(text) for text in texts]) for name, texts in match.items()],
            SPACE,
            {},
        )
        for order, (dimensions, match) in enumerate(specs)
    ]


@given(st.lists(LEVELS, max_size=80), st.lists(REQUESTS, max_size=8), st.data())
def test_it_finds_what_asking_every_level_finds(specs, requests, data):
    levels = made(specs)
    plan = Plan()
    for level in data.draw(st.permutations(levels)):
        plan.add(level)
    gone = set(data.draw(st.lists(st.sampled_from(levels), unique=True)) if levels else [])
    for level in gone:
        plan.remove(level)
    back = set(
        data.draw(st.lists(st.sampled_from(sorted(gone, key=id)), unique=True)) if gone else []
    )
    for level in back:
        plan.add(level)
    there = [level for level in levels if level not in gone or level in back]
    assert len(plan) == len(there)
    for request in requests:
        assert plan.find(request) == [level for level in there if level.applies(request)]
    for level in there:
        plan.remove(level)
    assert len(plan) == 0
    assert not any(plan.find(request) for request in requests)


ODD = st.text(st.sampled_from("0123456789:,ab\x00é"), max_size=6)


@given(st.lists(st.tuples(ODD, ODD), min_size=1, max_size=4))
def test_different_values_make_different_keys(pairs):
    names = [f"d{n}" for n in range(len(pairs))]
    one = dict(zip(names, [first for first, _ in pairs], strict=True))
    other = dict(zip(names, [second for _, second in pairs], strict=True))
    assert (compose_key(names, one) == compose_key(names, other)) == (one == other)
