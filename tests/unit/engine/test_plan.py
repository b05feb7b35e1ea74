"""The plan finds what applies, and looks at little else."""

from __future__ import annotations

import pytest

from headgate.engine.levels import PlannedLevel
from headgate.engine.plan import Plan
from headgate.engine.table import KeyedTable
from headgate.policy.matching import Pattern
from tests.support.limits import keyspace

SPACE = keyspace(KeyedTable())
FEW = 20


def level(order: int, dimensions: list[str], match: dict[str, list[str]]) -> PlannedLevel:
    conditions = [(name, [Pattern(text) for text in texts]) for name, texts in match.items()]
    return PlannedLevel(order, dimensions, conditions, SPACE, {})


def plan_of(levels: list[PlannedLevel]) -> Plan:
    plan = Plan()
    for each in levels:
        plan.add(each)
    return plan


def test_an_empty_plan_finds_nothing():
    assert Plan().find({"key": "k"}) == []
    assert len(Plan()) == 0


def test_what_is_found_is_in_the_order_of_the_policies():
    levels = [level(n, [["key"], [], ["user"]][n % 3], {}) for n in range(9)]
    plan = plan_of(levels[::-1])
    assert [each.order for each in plan.find({"user": "u", "key": "k"})] == list(range(9))


def test_more_than_a_few_are_in_order_too():
    levels = [level(n, ["key"], {}) for n in range(100)]
    plan = plan_of([*levels[50:], *levels[:50]])
    assert [each.order for each in plan.find({"key": "k"})] == list(range(100))


def test_a_level_that_is_found_twice_is_asked_once():
    plan = plan_of([level(1, [], {"path": ["/a*", "/a/b*", "/a/b/c"]})])
    assert len(plan.candidates({"path": "/a/b/c"})) == 3
    assert len(plan.find({"path": "/a/b/c"})) == 1


def test_what_is_removed_is_found_no_more():
    levels = [level(n, ["user"], {"path": [f"/{n}/*"]}) for n in range(40)]
    plan = plan_of(levels)
    for each in levels:
        request = {"user": "u", "path": f"/{each.order}/x"}
        assert plan.find(request) == [each]
        plan.remove(each)
        assert plan.find(request) == []
    assert len(plan) == 0
    assert plan._indexes == {}


# Each of these asks for something that all others ask for too, and for one thing of its own.
MANY = {
    "exact": lambda n: ([], {"region": ["eu"], "user": [f"u{n}"]}),
    "exact and prefix": lambda n: ([], {"region": ["eu"], "path": [f"/{n}/*"]}),
    "exact and suffix": lambda n: ([], {"region": ["eu"], "path": [f"*/{n}"]}),
    "presence": lambda n: (["region", f"feature {n}"], {}),
    "presence and key": lambda n: (["key", "region", f"feature {n}"], {}),
    "prefix": lambda n: (["key"], {"path": [f"/api/{n}/*"]}),
    "suffix": lambda n: (["key"], {"path": [f"*/{n}"]}),
    "wildcard": lambda n: (["key"], {"path": [f"/v*/{n}"]}),
    "several values": lambda n: (["key"], {"user": [f"u{n}", f"w{n}"], "region": ["eu", "us"]}),
    "three conditions": lambda n: (
        ["key"],
        {"region": ["eu"], "path": [f"/{n % 100}/*"], "user": [f"u{n // 100}", "*"]},
    ),
}


@pytest.mark.parametrize("kind", MANY)
def test_work_does_not_grow_with_the_number_of_policies(kind):
    request = {
        "key": "k",
        "region": "eu",
        "user": "u7",
        "path": "/api/7/7",
        "feature 7": "on",
        "more": "m",
    }
    plan = plan_of([level(n, *MANY[kind](n)) for n in range(2_000)])
    found = plan.find(request)
    assert len(plan.candidates(request)) <= len(found) + FEW


def test_prefixes_of_a_value_are_found_whatever_their_length():
    prefixes = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/b"]
    plan = plan_of([level(n, [], {"path": [f"{text}*"]}) for n, text in enumerate(prefixes)])
    assert [each.order for each in plan.find({"path": "/a/b/c"})] == [0, 1, 2, 3, 4]
    assert [each.order for each in plan.find({"path": "/"})] == [0]
    assert plan.find({"path": ""}) == []


def test_an_empty_value_is_found_by_presence():
    plan = plan_of(
        [level(1, ["user"], {}), level(2, [], {"user": [""]}), level(3, [], {"user": ["*"]})]
    )
    assert [each.order for each in plan.find({"user": ""})] == [1, 2, 3]


def test_the_same_level_many_times_over():
    levels = [level(n, ["key"], {"user": ["ann"]}) for n in range(200)]
    plan = plan_of(levels)
    assert plan.find({"key": "k", "user": "ann"}) == levels
    assert plan.candidates({"key": "k", "user": "ben"}) == []
    for each in levels:
        plan.remove(each)
    assert plan.candidates({"key": "k", "user": "ann"}) == []
