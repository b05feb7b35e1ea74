"""Counters survive a restart, and no snapshot, however odd, does harm."""

from __future__ import annotations

import copy
import json

import pytest

from headgate.errors import InvalidInput
from headgate.testing import ManualClock
from tests.support.limits import NAMES, SECOND, engine, policy

ANN = {"key": "ann", "team": "red"}
START = 1_767_225_600 * SECOND


def clock(uptime: float, wall: float) -> ManualClock:
    """A clock that has run for so long, at a moment so long after the start of 2026."""
    start = round(uptime * SECOND)
    return ManualClock(start, START + round(wall * SECOND) - start)


class TestRoundTrip:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("uptime", [0, 1, 10_000_000])
    def test_onto_another_origin(self, name, uptime):
        policies = [policy(algorithm=name, window="1h"), policy("b", dimensions=["team"], limit=20)]
        before = engine(*policies, clock=clock(5_000, wall=100))
        before.check(ANN, 7)
        after = engine(*policies, clock=clock(uptime, wall=101))
        before.clock.advance(1)
        assert after.restore(json.loads(json.dumps(before.snapshot()))) == 2
        assert after.peek(ANN, 4) == before.peek(ANN, 4)
        assert after.peek(ANN, 3).allowed

    def test_what_came_back_meanwhile_is_back(self):
        before = engine(policy(limit=60, window="1m"), clock=clock(50, wall=0))
        before.check(ANN, 60)
        after = engine(policy(limit=60, window="1m"), clock=clock(0, wall=30))
        after.restore(before.snapshot())
        assert after.peek(ANN).remaining == 30
        late = engine(policy(limit=60, window="1m"), clock=clock(0, wall=60))
        assert late.restore(before.snapshot()) == 0

    def test_overrides_and_former_settings_are_in_it(self):
        overrides = [{"match": {"key": "ann"}, "limit": 50}]
        before = engine(policy(overrides=overrides))
        before.check(ANN, 9)
        before.check({"key": "ben"}, 9)
        before.set_policy(policy(limit=11, overrides=overrides))
        after = engine(policy(limit=11, overrides=overrides))
        assert after.restore(before.snapshot()) == 2
        assert after.usage({"key": "ben"})[0].used == 9
        assert after.usage(ANN)[0].remaining == 41

    def test_limits_that_changed_or_went_are_passed_over(self):
        before = engine(policy("a"), policy("b"))
        before.check(ANN)
        after = engine(policy("a", limit=11))
        assert after.restore(before.snapshot()) == 0

    def test_what_was_used_since_is_left_as_it_is(self):
        before = engine(policy())
        before.check(ANN, 9)
        after = engine(policy())
        after.check(ANN, 1)
        assert after.restore(before.snapshot()) == 0
        assert after.usage(ANN)[0].used == 1

    def test_open_holds_stay_spent(self):
        before = engine(policy())
        before.reserve(ANN, 4, SECOND)
        after = engine(policy())
        after.restore(before.snapshot())
        assert after.usage(ANN)[0].used == 4

    def test_the_cap_holds(self):
        before = engine(policy(limit=1, window="1h"))
        for n in range(100):
            before.check({"key": f"key {n}"})
        after = engine(policy(limit=1, window="1h"), max_keys=10)
        assert after.restore(before.snapshot()) == 10
        assert after.stats().table.keys == 10

    def test_keys_that_look_like_settings_stay_keys(self):
        settings = policy().levels[0].spec.fingerprint()
        odd = f"x {settings}"
        both = policy(
            overrides=[
                {"match": {"key": key}, "limit": limit}
                for key, limit in ((odd, 20), ("x", 20), (f'x test ["key"]={odd}', 20))
            ]
        )
        before = engine(both)
        before.check({"key": odd}, 1)
        before.check({"key": "x"}, 2)
        after = engine(both)
        assert after.restore(before.snapshot()) == 2
        assert after.usage({"key": odd})[0].used == 1
        assert after.usage({"key": "x"})[0].used == 2


def of(values: object) -> dict[str, object]:
    """A snapshot whose one limit is known, and has these values for a state."""
    made = engine(policy())
    made.check(ANN)
    snapshot = made.snapshot()
    (identity,) = snapshot["limits"]
    snapshot["limits"][identity] = {"ben": [START + 6 * SECOND, 0], "ann": values}
    return snapshot


HOSTILE = [
    None,
    [],
    "text",
    7,
    {},
    {"version": 1},
    {"version": 2, "limits": {}},
    {"version": True, "limits": []},
    {"version": 1, "limits": None},
    {"version": 1, "limits": []},
    {"version": 1, "limits": {"x": None}},
    {"version": 1, "limits": {"x": [1]}},
    {"version": 1, "limits": {3: {}}},
    of(None),
    of([]),
    of([1]),
    of([1, 2, 3]),
    of("12"),
    of({"0": 1}),
    of([True, False]),
    of([1.5, 0]),
    of([None, 0]),
    of(["1", 0]),
    of([10**40, 0]),
    of([-(10**40), 0]),
    of([0, 10**40]),
    of([0, -1]),
    of([2**63 - 1, 0]),
    of([-(2**63), 0]),
    of([2**61, 0]),
]


class TestHostile:
    @pytest.mark.parametrize("snapshot", HOSTILE, ids=lambda each: repr(each)[:60])
    def test_it_is_refused_as_a_whole(self, snapshot):
        one = engine(policy())
        one.check({"key": "cid"}, 5)
        before = one.snapshot()
        with pytest.raises(InvalidInput, match="start without it") as caught:
            one.restore(copy.deepcopy(snapshot))
        assert isinstance(caught.value, ValueError)
        assert one.snapshot() == before

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("moment", [0, 1, START, 2**61 - 1, -(2**61) + 1, 2**58])
    def test_no_state_that_is_taken_locks_a_key_for_longer_than_two_windows(self, name, moment):
        one = engine(policy(algorithm=name), clock=ManualClock())
        one.check(ANN, 4)
        snapshot = one.snapshot()
        (states,) = snapshot["limits"].values()
        whole = states["ann"]
        for place in range(len(whole)):
            states["ann"] = [moment if n == place else value for n, value in enumerate(whole)]
            fresh = engine(policy(algorithm=name), clock=ManualClock())
            try:
                fresh.restore(snapshot)
            except InvalidInput:
                continue
            decision = fresh.check(ANN, 10)
            assert decision.allowed or 0 < decision.retry_after <= 120
            fresh.clock.advance(120)
            assert fresh.check(ANN, 10).allowed
