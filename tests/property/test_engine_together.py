"""Whatever the policies: a request is admitted by all of its limits, or nothing changes anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER
from headgate.policy import Policy
from headgate.testing import ManualClock
from tests.support.limits import NAMES, SECOND, assert_in_step, engine

pytestmark = pytest.mark.slow

DIMENSIONS = st.lists(st.sampled_from(["key", "team", "path"]), max_size=2, unique=True)
PATTERNS = st.sampled_from(["a", "a*", "*b", "*", "b"])
LIMITS = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from(NAMES),
        "limit": st.integers(1, 6),
        "window": st.sampled_from(["1s", "7s", "1h"]),
        "dimensions": DIMENSIONS,
        "match": st.dictionaries(st.sampled_from(["team", "path"]), PATTERNS, max_size=1),
    }
)
POLICIES = st.lists(st.lists(LIMITS, min_size=1, max_size=3), min_size=1, max_size=4)
REQUESTS = st.dictionaries(
    st.sampled_from(["key", "team", "path"]), st.sampled_from(["a", "b", "ab"]), max_size=3
)
STEPS = st.lists(
    st.tuples(REQUESTS, st.integers(0, 4), st.sampled_from([0, SECOND // 3, 5 * SECOND])),
    max_size=30,
)


def made(specs) -> list[Policy]:
    return [
        Policy.from_dict(
            {
                "name": f"p{n}",
                "levels": [{**limit, "name": f"l{m}"} for m, limit in enumerate(limits)],
            }
        )
        for n, limits in enumerate(specs)
    ]


class Naive:
    """Every level of every policy is asked; each has a dict of its own that forgets nothing."""

    def __init__(self, policies: list[Policy], wall_offset_ns: int) -> None:
        self.levels = [
            (level, level.spec.build(wall_offset_ns), {})
            for policy in policies
            for level in policy.levels
        ]

    def applicable(self, request):
        for level, algorithm, states in self.levels:
            has_all = all(name in request for name in level.dimensions)
            fits = all(
                name in request and any(pattern.matches(request[name]) for pattern in patterns)
                for name, patterns in level.match
            )
            if has_all and fits:
                yield algorithm, states, tuple(request[name] for name in level.dimensions)

    def check(self, request, cost, now) -> tuple[bool, int]:
        found = list(self.applicable(request))
        waits = [algorithm.wait(states.get(key), cost, now) for algorithm, states, key in found]
        if any(waits):
            return False, NEVER if NEVER in waits else max(waits)
        if cost > 0:
            for algorithm, states, key in found:
                states[key] = algorithm.consume(states.get(key), cost, now)
        return True, 0


@given(POLICIES, STEPS)
def test_all_or_nothing_as_a_naive_engine_has_it(specs, steps):
    policies = made(specs)
    one = engine(*policies)
    naive = Naive(policies, one.clock.wall_offset_ns)
    for request, cost, pause in steps:
        one.clock.advance_ns(pause)
        before = one.snapshot()
        peeked = one.peek(request, cost)
        assert one.snapshot() == before
        decision = one.check(request, cost)
        assert (decision.allowed, decision.retry_after_ns) == naive.check(
            request, cost, one.clock.now_ns()
        )
        assert (peeked.allowed, peeked.retry_after_ns) == (
            decision.allowed,
            decision.retry_after_ns,
        )
        if not decision.allowed or cost == 0:
            assert one.snapshot() == before


@given(POLICIES, STEPS)
def test_at_the_cap_a_refusal_changes_nothing_and_the_bound_holds(specs, steps):
    one = engine(*made(specs), max_keys=5)
    for request, cost, pause in steps:
        one.clock.advance_ns(pause)
        before = one.snapshot()
        peeked = one.peek(request, cost)
        decision = one.check(request, cost)
        assert peeked.allowed == decision.allowed
        assert peeked.retry_after_ns == decision.retry_after_ns
        if not decision.allowed:
            assert one.snapshot() == before
        assert one.stats().table.keys <= 5


@given(POLICIES, STEPS, st.integers(0, 10**17))
def test_a_snapshot_answers_as_its_source_on_any_origin(specs, steps, uptime):
    policies = made(specs)
    one = engine(*policies)
    for request, cost, pause in steps:
        one.clock.advance_ns(pause)
        one.check(request, cost)
    other = engine(*policies, clock=ManualClock(uptime, one.clock.wall_ns() - uptime))
    other.restore(one.snapshot())
    for request, cost, _ in steps:
        assert one.peek(request, cost) == other.peek(request, cost)


@given(POLICIES, STEPS, st.lists(LIMITS, min_size=1, max_size=3))
def test_changing_policies_never_breaks_the_books(specs, steps, changed):
    one = engine(*made(specs))
    for place, (request, cost, pause) in enumerate(steps):
        one.clock.advance_ns(pause)
        one.check(request, cost)
        if place % 3 == 0:
            one.set_policy(made([changed[place % len(changed) :] or changed])[0])
        elif place % 3 == 1:
            one.set_policy(made(specs)[0])
        elif place % 7 == 2:
            one.remove_policy("p0")
        assert_in_step(one.table, one._policies.keyspaces())
        for usage in one.usage(request):
            assert 0 <= usage.remaining <= usage.capacity
            assert usage.used >= 0
