from __future__ import annotations

import pytest

from headgate.backpressure.vegas_limit import VegasLimit
from tests.unit.backpressure.test_gradient_limit import window


@pytest.mark.parametrize(
    ("latency_ms", "change"),
    [
        (10, 12),  # no queue: by 6 s, with s = log10(100)
        (10.5, 2),  # a queue of 4.8, below 3 s (below 2 it would be a jump)
        (11, 0),  # 9.1, between
        (11.3, 0),  # 11.5
        (12, -2),  # 16.7, above 6 s
        (1_000, -2),
    ],
)
def test_the_formula_by_hand(latency_ms, change):
    # All below is a millisecond and more above the baseline, or not above it at all.
    scale = 10.0
    rule = VegasLimit(100, 4, 1_000)
    now = window(rule, 0, 10 * scale, 49)  # too few in flight to grow
    assert rule.limit == 100
    window(rule, now, latency_ms * scale, 100)
    assert rule.limit == 100 + change


def test_small_limits_are_not_stuck():
    rule = VegasLimit(9, 4, 1_000)
    now = window(rule, 0, 10, 4)
    for _ in range(20):
        now = window(rule, now, 100, rule.limit)
    assert rule.baseline_ns() == 100_000_000


def test_it_stays_within_its_bounds():
    rule = VegasLimit(9, 8, 10)
    now = window(rule, 0, 10, 9)
    for _ in range(3):
        now = window(rule, now, 10, rule.limit)
    assert rule.limit == 10
    for _ in range(4):
        now = window(rule, now, 100, rule.limit)
    assert rule.limit == 8
