from __future__ import annotations

import pytest

from headgate.backpressure.gradient_limit import GradientLimit

MS = 1_000_000


def window(rule, now, latency_ms, in_flight, *, calls=10, drops=0):
    """One window's calls, or those of the first at moment 0; the moment of the last."""
    if now == 0:
        calls *= 4
    length = 2_000 if now == 0 else 500
    for call in range(calls):
        now += length * MS // (calls - 1) + 1
        rule.observe(now, int(latency_ms * MS), in_flight, call < drops)
    return now + MS


def started(limit=100, latency_ms=10):
    """A rule that has seen its first slow window, so that it grows by the root from now on."""
    rule = GradientLimit(limit, 4, 1_000)
    now = window(rule, 0, latency_ms, limit)
    return rule, window(rule, now, 2 * latency_ms, rule.limit)


def test_the_formula_by_hand():
    rule, now = started()
    exact = 140.0 * (0.8 + 0.2 * 0.75)  # 100 + .2 * 2 * 100, then g = 1.5 * 10 / 20
    assert rule.limit == int(exact)
    now = window(rule, now, 10, rule.limit)
    exact += 0.2 * exact**0.5
    assert rule.limit == int(exact)
    now = window(rule, now, 15, rule.limit)
    exact += 0.2 * exact**0.5
    assert rule.limit == int(exact)
    window(rule, now, 1_000, rule.limit)
    assert rule.limit == int(exact * 0.9)


def test_it_grows_to_five_times_what_is_in_flight():
    rule, now = started(20)
    before = rule.limit
    for _ in range(30):
        now = window(rule, now, 10, 3)
    assert rule.limit == before
    for _ in range(200):
        now = window(rule, now, 10, 8)
    assert rule.limit in {39, 40}


def test_nine_calls_are_not_enough_and_neither_is_half_a_window():
    rule, now = started()
    before = rule.limit
    for _ in range(9):
        rule.observe(now, 10 * MS, before, False)
        now += 1_000 * MS
    assert rule.limit == before
    rule.observe(now, 10 * MS, before, False)
    assert rule.limit > before
    before = rule.limit
    for _ in range(1_000):
        now += 499_000
        rule.observe(now, 10 * MS, before, False)
    assert rule.limit == before


def test_five_slow_windows_at_the_minimum_and_it_is_the_service():
    rule = GradientLimit(4, 4, 100)
    now = window(rule, 0, 10, 4)
    for _ in range(20):
        now = window(rule, now, 100, rule.limit)
        if rule.limit == 4:
            break
    for number in range(5):
        assert rule.baseline_ns() == 10 * MS, number
        now = window(rule, now, 100, 4)
    assert rule.baseline_ns() == 100 * MS


def test_it_goes_back_up_in_steps_of_two_fifths_to_where_it_was():
    rule, now = started(100)
    top = rule.limit
    while rule.baseline_ns() == 10 * MS:
        now = window(rule, now, 200, rule.limit)
    assert rule.limit <= 5
    sizes = []
    for _ in range(14):
        now = window(rule, now, 200, rule.limit)
        sizes.append(rule.limit)
    assert sizes[4] > 15
    assert 0.7 * top < sizes[-1] < 1.4 * top


@pytest.mark.parametrize(
    ("drops", "factor"), [(0, None), (1, None), (2, 0.96), (4, 0.92), (10, 0.9)]
)
def test_drops_count_when_they_are_more_than_a_tenth(drops, factor):
    rule, now = started()
    before = rule.limit
    exact = 140.0 * 0.95
    window(rule, now, 10, before, drops=drops)
    expected = exact + 0.2 * exact**0.5 if factor is None else exact * factor
    assert rule.limit == int(expected)
