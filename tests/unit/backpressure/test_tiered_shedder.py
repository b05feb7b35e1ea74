"""The tiered shedder, with plain numbers."""

from __future__ import annotations

import pytest

from headgate.backpressure.tiered_shedder import TieredShedder

PERIOD = 100_000_000


def offered(shedder: TieredShedder, tier: int, count: int, queue: int = 0) -> int:
    """How many of so many arrivals pass, spread evenly over users and chances."""
    passed = 0
    for number in range(count):
        level = shedder.level(tier, number)
        passed += shedder.admit(level, queue, (number * 61 % 1000) / 1000)
    return passed


def run(shedder: TieredShedder, arrivals: dict[int, int], done: int, periods: int) -> list[int]:
    """Periods of the same arrivals and completions, with the queue that comes of it."""
    queue = 0
    now = 0
    shedder.update(queue, now)
    passed = [0, 0, 0, 0]
    for _ in range(periods):
        passed = [0, 0, 0, 0]
        for tier, count in arrivals.items():
            passed[tier] = offered(shedder, tier, count, queue)
        finished = min(done, queue + sum(passed))
        queue += sum(passed) - finished
        shedder.completed(finished)
        now += PERIOD
        shedder.update(queue, now)
    return passed


def test_a_level_is_the_tier_and_then_the_user():
    shedder = TieredShedder()
    assert shedder.level(0, 0) == 0
    assert shedder.level(1, 5) == 133
    assert shedder.level(3, 127) == 511
    assert shedder.level(3, 128 + 127) == 511
    assert shedder.level(0, -1) == 127


def test_all_pass_while_all_can_be_done():
    shedder = TieredShedder()
    assert run(shedder, {0: 20, 3: 70}, done=100, periods=20) == [20, 0, 0, 70]
    assert shedder.rejection_ratio == 0
    assert shedder.threshold == 511


def test_the_least_important_go_first():
    shedder = TieredShedder()
    passed = run(shedder, {0: 60, 1: 60, 3: 200}, done=100, periods=50)
    assert passed[0] == 60
    assert 30 <= passed[1] <= 50
    assert 1 <= passed[3] <= 3
    assert 128 <= shedder.threshold < 256


def test_what_passes_is_what_can_be_done():
    shedder = TieredShedder()
    passed = run(shedder, {2: 1000}, done=100, periods=50)
    assert 90 <= sum(passed) <= 110
    assert shedder.capacity_per_second == pytest.approx(1000, rel=0.01)


def test_the_hard_bound_holds_for_everybody():
    shedder = TieredShedder(max_queue=10)
    assert shedder.admit(0, 9, 0.0)
    assert not shedder.admit(0, 10, 0.0)


def test_what_the_bound_turned_away_counts_against_the_threshold():
    """Else the threshold would hold still while the queue is full, and the full queue decide instead."""
    shedder = TieredShedder(capacity_per_second=100.0)
    shedder.update(0, 0)
    assert offered(shedder, 2, 1000, queue=300) == 0
    shedder.completed(10)
    shedder.update(300, PERIOD)
    assert shedder.rejection_ratio == 0.5


def test_ten_times_too_much_is_under_control_in_half_a_second():
    shedder = TieredShedder()
    passed = run(shedder, {1: 1000}, done=100, periods=6)
    assert sum(passed) < 150


def test_when_it_is_over_all_pass_again_within_a_second():
    shedder = TieredShedder()
    run(shedder, {2: 1000}, done=100, periods=50)
    for number in range(51, 61):
        shedder.completed(offered(shedder, 2, 50))
        shedder.update(0, number * PERIOD)
    assert shedder.rejection_ratio == 0


def test_after_a_period_without_arrivals_all_pass():
    shedder = TieredShedder()
    run(shedder, {2: 1000}, done=100, periods=50)
    shedder.update(0, 60 * PERIOD)
    shedder.update(0, 70 * PERIOD)
    assert shedder.rejection_ratio == 0
    assert shedder.threshold == 511


def test_while_a_queue_is_left_it_is_careful_though_nobody_comes():
    shedder = TieredShedder()
    run(shedder, {2: 1000}, done=100, periods=50)
    before = shedder.rejection_ratio
    shedder.update(300, 60 * PERIOD)
    shedder.update(300, 70 * PERIOD)
    assert shedder.rejection_ratio == before


def test_capacity_is_learnt_downwards_only_while_there_is_enough_to_do():
    shedder = TieredShedder()
    shedder.update(0, 0)
    for period, (done, queue, learnt) in enumerate(
        [(100, 0, 1000), (50, 0, 1000), (200, 0, 1200), (100, 5, 1160)], 1
    ):
        shedder.completed(done)
        shedder.update(queue, period * PERIOD)
        assert shedder.capacity_per_second == pytest.approx(learnt)


def test_a_capacity_that_is_given_is_not_learnt():
    shedder = TieredShedder(capacity_per_second=77.0)
    run(shedder, {2: 1000}, done=100, periods=10)
    assert shedder.capacity_per_second == 77.0


@pytest.mark.parametrize("jump", [-(10**18), 10**18])
def test_a_clock_that_jumps_leaves_it_working(jump):
    shedder = TieredShedder()
    run(shedder, {2: 1000}, done=100, periods=20)
    now = 20 * PERIOD + jump
    for number in range(20):
        offered(shedder, 2, 50)
        shedder.completed(50)
        shedder.update(0, now + number * PERIOD)
    assert shedder.rejection_ratio == 0
    assert 0 < shedder.capacity_per_second < 2000


def test_called_too_often_it_waits_for_the_period_to_end():
    shedder = TieredShedder()
    shedder.update(0, 0)
    offered(shedder, 2, 1000)
    for now in range(1, PERIOD, PERIOD // 10):
        shedder.update(300, now)
    assert shedder.rejection_ratio == 0
    shedder.update(300, PERIOD)
    assert shedder.rejection_ratio == 0.5


def test_levels_of_long_ago_do_not_count():
    """Only low ones came; now only high ones do, and the threshold has to fall among those."""
    shedder = TieredShedder()
    run(shedder, {3: 1000}, done=100, periods=30)
    assert shedder.threshold >= 384
    for number in range(31, 61):
        offered(shedder, 0, 1000)
        shedder.update(300, number * PERIOD)
    assert shedder.threshold < 128
