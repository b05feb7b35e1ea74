"""Adaptive policies in the engine."""

from __future__ import annotations

import pytest

from headgate.engine.engine import Engine
from headgate.errors import InvalidPolicy
from headgate.policy.model import Policy
from headgate.testing import ManualClock


def policy(**fields):
    return Policy.from_dict(
        {"name": "api", "limit": 100, "window": "1s", "adaptive": "aimd"} | fields
    )


class Bench:
    def __init__(self, *policies):
        self.clock = ManualClock(start_ns=10**15)
        self.engine = Engine(self.clock)
        for each in policies or (policy(),):
            self.engine.set_policy(each)

    def look(self, pressure, times=1):
        for _ in range(times):
            self.clock.advance(0.25)
            self.engine.adapt(pressure)
        return self.engine.factors()["api"]

    def check(self, key="k"):
        return self.engine.check({"key": key})

    def drain(self, key="k"):
        count = 0
        while self.check(key):
            count += 1
        return count


def test_pressure_lowers_the_limit_and_use_brings_it_back():
    bench = Bench()
    assert bench.look(2.0) == 0.5
    assert bench.check().limit == 50
    for _ in range(20):
        bench.drain()
        bench.look(0.1)
    assert bench.look(0.9) == pytest.approx(1.0)
    assert bench.check().limit == 100


def test_other_policies_stay_as_they_are():
    bench = Bench(policy(), policy(name="fixed", adaptive=None, dimensions=["user"]))
    bench.look(5.0)
    assert list(bench.engine.factors()) == ["api"]
    assert bench.engine.check({"user": "u"}).limit == 100


def test_looks_that_come_too_soon_change_nothing():
    bench = Bench()
    bench.look(2.0)
    for _ in range(50):
        bench.engine.adapt(2.0)
    assert bench.engine.factors()["api"] == 0.5


def test_nobody_gains_a_fresh_quota_by_a_change():
    bench = Bench()
    bench.drain()
    for pressure in (5.0, 0.0, 5.0, 0.0):
        bench.engine.adapt(pressure)
        bench.clock.advance_ns(1)
        assert bench.drain() == 0


def test_a_policy_that_is_set_again_goes_on_at_its_rate():
    bench = Bench()
    bench.look(2.0)
    bench.engine.set_policy(policy(description="the same"))
    assert bench.engine.factors()["api"] == 0.5
    assert bench.check().limit == 50
    bench.engine.set_policy(policy(limit=200))
    assert bench.check().limit == 100
    bench.engine.set_policy(policy(limit=200, adaptive="stepwise"))
    assert bench.engine.factors()["api"] == 1.0
    assert bench.check().limit == 200


def test_a_policy_that_is_no_longer_adaptive_runs_at_its_own_rate():
    bench = Bench()
    bench.look(2.0)
    bench.engine.set_policy(policy(adaptive=None))
    assert bench.engine.factors() == {}
    bench.drain()
    bench.clock.advance(0.5)
    assert bench.drain() == 50


def test_a_change_of_the_limit_that_is_undone_finds_the_keys_as_they_were():
    bench = Bench()
    for _ in range(100):
        bench.look(5.0)  # own time falls far behind
    bench.drain()
    bench.engine.set_policy(policy(limit=50))
    bench.engine.set_policy(policy())
    assert bench.check().allowed is False
    bench.clock.advance(2.0)
    assert bench.drain() == 50  # at a quarter of 100 a second


def test_levels_and_overrides_run_at_one_pace():
    bench = Bench(
        policy(
            limit=None,
            window=None,
            levels=[
                {"name": "user", "limit": 10, "window": "1s", "dimensions": ["key"]},
                {
                    "name": "all",
                    "limit": 100,
                    "window": "1s",
                    "dimensions": [],
                },
            ],
        )
    )
    bench.look(2.0)
    assert [level.limit for level in bench.check().levels] == [5, 50]
    bench = Bench(policy(overrides=[{"match": {"key": "vip"}, "limit": 1_000}]))
    bench.look(2.0)
    assert bench.check("vip").limit == 500


def test_a_snapshot_of_a_slow_policy_is_taken_over_by_a_new_engine():
    bench = Bench()
    for _ in range(4 * 600):
        bench.look(5.0)
    bench.drain()
    snapshot = bench.engine.snapshot()
    after = Bench()
    after.clock.set_ns(bench.clock.now_ns())
    assert after.engine.restore(snapshot) == 1
    assert not after.check()
    after.clock.advance(0.5)
    assert after.drain() in range(45, 56)


def test_reservations_are_settled_across_a_change():
    bench = Bench()
    hold = bench.engine.reserve({"key": "k"}, 80, 60 * 10**9)
    bench.look(2.0)
    bench.engine.commit(hold.id, 10)
    assert bench.engine.peek({"key": "k"}).remaining in range(85, 101)


@pytest.mark.parametrize("pressure", [float("nan"), float("inf"), -1.0])
def test_strange_pressures(pressure):
    bench = Bench()
    bench.look(pressure, 3)
    assert 0.25 <= bench.engine.factors()["api"] <= 1.0
    assert bench.check()


@pytest.mark.parametrize("jump", [365 * 86_400.0, -86_400.0])
def test_a_clock_that_jumps(jump):
    bench = Bench()
    bench.clock.advance(10 * 86_400.0)
    bench.look(5.0, 4)
    bench.drain()
    bench.clock.advance(jump)
    bench.look(5.0, 4)
    bench.clock.advance(9.0)
    assert bench.drain() > 0


# The document -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        ("aimd", ("aimd", None, None)),
        ("stepwise", ("stepwise", None, None)),
        ({"rule": "aimd"}, ("aimd", None, None)),
        ({"rule": "stepwise", "threshold": 0.7}, ("stepwise", 0.7, None)),
        ({"rule": "stepwise", "threshold": 2, "adjustment": 0.2}, ("stepwise", 2, 0.2)),
    ],
)
def test_what_the_field_may_say(value, settings):
    read = policy(adaptive=value)
    spec = read.adaptive
    assert (spec.rule, spec.threshold, spec.adjustment) == settings
    assert Policy.from_dict(read.to_dict()) == read
    assert read.to_dict()["adaptive"] == value


def test_left_out_or_null_it_is_not_adaptive():
    assert policy(adaptive=None).adaptive is None


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"adaptive": "aimed"}, "adaptive"),
        ({"adaptive": True}, "adaptive"),
        ({"adaptive": []}, "adaptive"),
        ({"adaptive": {}}, "adaptive.rule"),
        ({"adaptive": {"rule": 5}}, "adaptive.rule"),
        ({"adaptive": {"rule": "aimd", "speed": 5}}, "adaptive.speed"),
        ({"adaptive": {"rule": "aimd", "threshold": 0.5}}, "adaptive"),
        ({"adaptive": {"rule": "stepwise", "threshold": -1}}, "adaptive"),
        ({"adaptive": {"rule": "stepwise", "adjustment": "0.1"}}, "adaptive"),
        ({"adaptive": {"rule": "stepwise", "adjustment": 10**6000}}, "adaptive"),
        ({"algorithm": "concurrency"}, "adaptive"),
        ({"algorithm": "fixed_window", "window": "1d", "timezone": "Europe/Paris"}, "adaptive"),
    ],
)
def test_what_it_may_not_say(fields, place):
    with pytest.raises(InvalidPolicy) as caught:
        policy(**fields)
    assert caught.value.field == place
