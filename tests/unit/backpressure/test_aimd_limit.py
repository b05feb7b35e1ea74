from __future__ import annotations

import pytest

from headgate.backpressure.aimd_limit import AimdLimit
from headgate.errors import InvalidInput
from tests.unit.backpressure.test_gradient_limit import window


def test_one_more_per_window_without_a_loss():
    rule = AimdLimit(10)
    now = 0
    for _ in range(5):
        now = window(rule, now, 10, rule.limit)
    assert rule.limit == 15


def test_no_more_while_less_than_half_is_in_use():
    rule = AimdLimit(10)
    window(rule, 0, 10, 4)
    assert rule.limit == 10
    rule = AimdLimit(10)
    window(rule, 0, 10, 5)
    assert rule.limit == 11


def test_a_burst_of_losses_counts_once():
    rule = AimdLimit(100)
    for _ in range(500):
        rule.observe(1, 10, 100, True)
    assert rule.limit == 90


def test_it_gives_way_at_once_and_again_in_the_next_window():
    rule = AimdLimit(100)
    now = window(rule, 0, 10, 100, drops=3)
    assert rule.limit == 90
    rule.observe(now, 10, 90, True)
    assert rule.limit == 81


def test_what_takes_longer_than_the_timeout_is_lost():
    rule = AimdLimit(100, 4, 1_000, timeout_ns=1_000)
    rule.observe(1, 1_000, 100, False)
    assert rule.limit == 100
    rule.observe(1, 1_001, 100, False)
    assert rule.limit == 90


@pytest.mark.parametrize("timeout_ns", [0, -1])
def test_a_timeout_is_above_zero(timeout_ns):
    with pytest.raises(InvalidInput, match="timeout_ns must be above 0"):
        AimdLimit(10, timeout_ns=timeout_ns)
