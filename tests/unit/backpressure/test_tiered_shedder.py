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
