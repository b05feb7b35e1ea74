from __future__ import annotations

import pytest

from headgate.backpressure.baseline import Baseline
from headgate.backpressure.concurrency_limit import FixedLimit


def started(ns=100.0):
    baseline = Baseline()
    baseline.start(ns)
    return baseline


def learn(baseline, sample, times=1, *, limit=10, least=4, peak=10, tolerated=True):
    rule = FixedLimit(limit, least, 100)
    return [baseline.learn(sample, rule, peak, tolerated=tolerated) for _ in range(times)]


def test_it_never_learns_upward_while_many_are_in_flight():
    baseline = started()
    learn(baseline, 150.0, 10_000, peak=9)
    assert baseline.ns == 100.0


def test_it_follows_a_tenth_of_the_way_while_few_are():
    baseline = started()
    learn(baseline, 140.0, peak=8)
    assert baseline.ns == pytest.approx(104.0)
    learn(baseline, 54.0, peak=8)
    assert baseline.ns == pytest.approx(99.0)


def test_it_is_wary_of_what_is_not_tolerated():
    baseline = started()
    learn(baseline, 200.0, peak=8, tolerated=False)
    assert baseline.ns == pytest.approx(101.0)


def test_it_falls_to_the_average_of_the_recent_ones_at_any_time():
    baseline = started()
    learn(baseline, 80.0, 100)
    assert baseline.ns == pytest.approx(80.0, rel=0.01)


def test_one_lucky_window_hardly_counts():
    baseline = started()
    learn(baseline, 50.0)
    assert baseline.ns == pytest.approx(97.5)
    learn(baseline, 100.0, 100)
    assert baseline.ns == pytest.approx(97.5)


def test_one_sample_from_another_world_does_no_harm():
    baseline = started()
    learn(baseline, 1e18, peak=1)
    assert baseline.ns == pytest.approx(110.0)
    learn(baseline, 100.0, 60)
    assert baseline.ns == pytest.approx(100.0, rel=0.06)


def test_five_slow_windows_at_the_least_limit():
    baseline = started()
    slow = {"limit": 4, "peak": 4, "tolerated": False}
    assert not any(learn(baseline, 900.0, 4, **slow))
    learn(baseline, 100.0, limit=4, peak=4)
    assert not any(learn(baseline, 900.0, 4, **slow)), "four, one that was fast, and four again"
    assert learn(baseline, 900.0, **slow) == [True]
    assert baseline.ns == 900.0


def test_slow_windows_above_the_least_limit_say_nothing():
    baseline = started()
    assert not any(learn(baseline, 900.0, 100, limit=5, peak=5, tolerated=False))


def test_a_sample_of_nothing_is_a_nanosecond():
    baseline = started(0.0)
    assert baseline.ns == 1.0
