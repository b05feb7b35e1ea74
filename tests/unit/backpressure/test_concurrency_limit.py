"""What holds of every rule for calls in flight."""

from __future__ import annotations

import pytest

from headgate.backpressure.aimd_limit import AimdLimit
from headgate.backpressure.concurrency_limit import ConcurrencyLimit, FixedLimit
from headgate.backpressure.gradient_limit import GradientLimit
from headgate.backpressure.vegas_limit import VegasLimit
from headgate.errors import InvalidInput
from tests.support.limits_in_flight import SECOND, Bench

RULES = [FixedLimit, GradientLimit, VegasLimit, AimdLimit]
LEARNING = [GradientLimit, VegasLimit]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "bounds",
    [
        (4, 5, 10),
        (11, 4, 10),
        (0, 0, 10),
        (5, 1, 1_000_001),
        (True, 1, 10),
        (5.0, 1, 10),
        (5, "1", 10),
        (float("nan"), 1, 10),
        (-1, -1, 10),
        (10**30, 1, 10**30),
    ],
)
def test_impossible_bounds_are_refused(rule, bounds):
    with pytest.raises(InvalidInput, match="1 <= min <= initial <= max"):
        rule(*bounds)


def test_the_base_decides_nothing():
    rule = ConcurrencyLimit(5)
    with pytest.raises(NotImplementedError):
        rule.observe(0, 0, 1, False)
    assert rule.baseline_ns() == 0


def test_a_fixed_limit_is_never_moved():
    rule = FixedLimit(7, 1, 100)
    for now in range(100):
        rule.observe(now * SECOND, 10**9, 7, now % 2 == 0)
    assert rule.limit == 7


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_an_overload_ends_near_what_the_service_can_do(rule):
    bench = Bench(rule(16), seats=16, load=2.0).run(40)
    assert all(18 <= limit <= 30 for limit in bench.limits[20:])
    assert sum(bench.done[5:]) / 35 > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_a_modest_overload_does_not_make_it_creep_up(rule):
    bench = Bench(rule(16), seats=16, load=1.05).run(120)
    early = sum(bench.limits[20:60]) / 40
    late = sum(bench.limits[-40:]) / 40
    assert late <= 1.25 * early


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_one_that_starts_far_too_high_comes_down(rule):
    bench = Bench(rule(200), seats=16, load=1.05).run(60)
    assert bench.limits[-1] < 80


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_one_that_starts_far_too_low_comes_up(rule):
    bench = Bench(rule(4), seats=64, load=2.0).run(20)
    assert 64 <= bench.limits[-1] <= 130


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_a_start_in_the_middle_of_an_overload(rule):
    bench = Bench(rule(200), seats=16, load=4.0).run(40)
    assert bench.limits[-1] <= 70


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_a_service_that_becomes_ten_times_slower_is_used_to_the_full_again(rule):
    bench = Bench(rule(16), seats=16, load=lambda second: 2.0 if second < 30 else 0.2)
    bench.at(30, lambda: setattr(bench.server, "speed", 0.1)).run(100)
    assert sum(bench.done[60:]) / 40 > 0.097
    assert 16 <= bench.limits[-1] <= 40


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_a_service_that_becomes_ten_times_faster_gets_no_long_queue(rule):
    bench = Bench(rule(4), seats=4, load=lambda second: 2.0 if second < 10 else 20.0)
    bench.at(10, lambda: setattr(bench.server, "speed", 10.0)).run(40)
    assert bench.limits[-1] <= 40


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_two_kinds_of_latency_do_not_shake_it(rule):
    def hit_or_miss(rng):
        return 1_000_000 if rng.random() < 0.5 else 100_000_000

    bench = Bench(rule(16), seats=16, load=2.0, mean=0.0505, service=hit_or_miss).run(120)
    assert all(12 <= limit <= 40 for limit in bench.limits[20:])
    assert sum(bench.done[20:]) / 100 > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEARNING)
def test_a_few_slow_seats_that_answer_seldom(rule):
    bench = Bench(rule(4), seats=4, load=2.0, mean=0.1).run(300)
    assert sum(bench.done[20:]) / 280 > 0.9


def after(rule, latencies, *, in_flight=None, start=0, drops=0):
    """Tell a rule of one window per latency."""
    now = start
    for latency in latencies:
        for call in range(20):
            now += SECOND // 20
            rule.observe(now, latency, in_flight or rule.limit, call < drops)
    return now


@pytest.mark.parametrize("rule", LEARNING)
def test_an_idle_night_changes_nothing(rule):
    limit = rule(10)
    now = after(limit, [10_000_000] * 10)
    now = after(limit, [10_000_000], start=now + 8 * 3600 * SECOND, in_flight=1)
    before = limit.limit
    after(limit, [10_000_000] * 2, start=now, in_flight=1)
    assert limit.limit == before


@pytest.mark.parametrize("rule", LEARNING)
def test_what_is_below_a_millisecond_is_no_queue(rule):
    limit = rule(10)
    now = after(limit, [20_000] * 4)
    before = limit.limit
    after(limit, [900_000] * 10, start=now)
    assert limit.limit > before


@pytest.mark.parametrize("rule", LEARNING)
def test_latencies_of_nothing(rule):
    limit = rule(10)
    after(limit, [0] * 10)
    assert limit.limit > 10


@pytest.mark.parametrize("rule", [*LEARNING, AimdLimit])
@pytest.mark.parametrize("jump", [365 * 86_400 * SECOND, -365 * 86_400 * SECOND])
def test_a_clock_that_jumps_by_a_year_is_forgotten_soon(rule, jump):
    limit = rule(20, 4, 50)
    now = after(limit, [10_000_000] * 10)
    before = limit.limit
    now += jump
    for _ in range(limit.limit):  # all in flight at the jump are off by a year
        now += SECOND // 1_000
        limit.observe(now, 10_000_000 + jump, before, False)
    after(limit, [10_000_000] * 20, start=now)
    assert limit.limit >= before - 1
    assert limit.baseline_ns() < 20_000_000


@pytest.mark.parametrize("rule", [*LEARNING, AimdLimit])
def test_drops_make_it_give_way_although_none_has_a_latency(rule):
    limit = rule(100)
    after(limit, [10_000_000] * 20, drops=20)
    assert limit.limit < 90


@pytest.mark.parametrize("rule", LEARNING)
def test_a_stray_drop_is_no_reason(rule):
    limit = rule(20)
    after(limit, [10_000_000] * 10, drops=1)
    assert limit.limit > 20
