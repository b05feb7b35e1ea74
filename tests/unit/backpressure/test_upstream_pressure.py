"""What an upstream said, and for how long it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.pressure_header import PressureReport
from headgate.backpressure.upstream_pressure import UpstreamPressure, held_back, tightened

S = 1_000_000_000


def report(p, seq=1, ttl_ms=1_000):
    return PressureReport(p, 1.0, ttl_ms, seq)


def test_without_a_report_there_is_no_pressure():
    assert UpstreamPressure().value(5 * S) == 0.0


def test_a_report_is_believed_for_its_ttl_and_then_half_as_much_each_second():
    upstream = UpstreamPressure()
    upstream.hear(report(0.8), 10 * S)
    assert upstream.value(10 * S) == upstream.value(11 * S) == 0.8
    assert upstream.value(12 * S) == pytest.approx(0.4)
    assert upstream.value(14 * S) == pytest.approx(0.1)
    assert upstream.value(100 * S) == 0.0


def test_an_answer_that_was_overtaken_is_not_heard():
    upstream = UpstreamPressure()
    upstream.hear(report(0.8, seq=7), 0)
    upstream.hear(report(0.1, seq=6), S // 2)
    assert upstream.value(S // 2) == 0.8
    upstream.hear(report(0.2, seq=7), S // 2)
    assert upstream.value(S // 2) == 0.2


def test_a_node_that_counts_anew_is_heard_when_the_last_report_is_stale():
    upstream = UpstreamPressure()
    upstream.hear(report(0.8, seq=9_999), 0)
    upstream.hear(report(0.1, seq=1), 2 * S)
    assert upstream.value(2 * S) == 0.1


@pytest.mark.parametrize("years", [-200, 200])
def test_a_clock_that_jumps_never_sticks_it(years):
    upstream = UpstreamPressure()
    upstream.hear(report(50.0), 0)
    now = years * 366 * 86_400 * S
    assert upstream.value(now) == (50.0 if years < 0 else 0.0)
    assert upstream.value(now + 50 * S) == 0.0


@given(st.floats(0, 100), st.floats(1, 10))
def test_k_tightens_with_pressure_and_never_below_one_or_above_itself(pressure, multiplier):
    k = tightened(multiplier, pressure)
    assert 1.0 <= k <= multiplier
    assert tightened(multiplier, pressure + 0.1) <= k


@given(st.floats(0, 100), st.integers(0, 3))
def test_the_less_it_matters_the_more_is_held_back(pressure, tier):
    share = held_back(pressure, tier)
    assert 0.0 <= share <= 0.5
    assert tier == 3 or share <= held_back(pressure, tier + 1)
    assert pressure > 1.0 or share == 0.0
