"""When a feature goes off and comes back, with plain numbers."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.degradation import CLEAN_NS, DegradationLevel, FeatureSwitch

SECOND = 10**9
HOLD = 5 * SECOND
YEAR = 366 * 86_400 * SECOND
MID = 0.5  # a draw that leaves the wait as it is


@pytest.fixture
def switch():
    return FeatureSwitch(0.8, 0.6, HOLD)


def back(switch, now):
    """Wait out what there is to wait, and switch on; returns when."""
    now += switch.left(now)
    assert switch.update(0.0, now, MID)
    switch.tried(now, MID, healthy=True)
    return now


@pytest.mark.parametrize(
    ("pressure", "on"), [(0.79, True), (0.8, False), (inf, False), (nan, True)]
)
def test_it_goes_off_at_once_when_the_pressure_is_reached(switch, pressure, on):
    assert not switch.update(pressure, 0, MID)
    assert switch.on is on


def test_it_may_be_tried_when_the_pressure_was_low_for_the_hold(switch):
    switch.update(0.8, 0, MID)
    assert not switch.update(0.59, HOLD - 1, MID)
    assert switch.update(0.59, HOLD, MID)


def test_between_the_thresholds_it_stays_as_it_is(switch):
    assert not switch.update(0.7, 0, MID)
    assert switch.on
    switch.update(0.8, 0, MID)
    for second in range(100):
        assert not switch.update(0.6, second * SECOND, MID)
    assert not switch.on


def test_the_hold_begins_anew_whenever_the_pressure_is_back(switch):
    switch.update(0.8, 0, MID)
    switch.update(0.6, 4 * SECOND, MID)
    assert not switch.update(0.1, 9 * SECOND - 1, MID)
    assert switch.update(0.1, 9 * SECOND, MID)


def test_each_time_it_does_not_last_the_wait_doubles_up_to_a_minute(switch):
    now, waits = 0, []
    for _ in range(6):
        switch.update(1.0, now, MID)
        waits.append(switch.left(now) // SECOND)
        now = back(switch, now)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_long_hold_is_its_own_longest_wait():
    switch = FeatureSwitch(0.8, 0.6, 600 * SECOND)
    switch.update(1.0, 0, MID)
    switch.update(1.0, back(switch, 0), MID)
    assert switch.left(600 * SECOND) == 600 * SECOND


def test_after_a_minute_on_it_starts_over(switch):
    switch.update(1.0, 0, MID)
    now = back(switch, 0)
    switch.update(1.0, now + CLEAN_NS - 1, MID)
    assert switch.left(now + CLEAN_NS - 1) == 2 * HOLD
    now = back(switch, now + CLEAN_NS)
    switch.update(1.0, now + CLEAN_NS, MID)
    assert switch.left(now + CLEAN_NS) == HOLD


def test_a_health_check_that_says_no_doubles_the_wait_too(switch):
    switch.update(1.0, 0, MID)
    assert switch.update(0.0, HOLD, MID)
    switch.tried(HOLD, MID, healthy=False)
    assert not switch.on
    assert switch.left(HOLD) == 2 * HOLD


@pytest.mark.parametrize(("uniform", "wait"), [(0.0, 4 * SECOND), (0.999999, 6 * SECOND)])
def test_the_wait_is_spread_by_a_fifth(switch, uniform, wait):
    switch.update(1.0, 0, uniform)
    assert switch.left(0) == pytest.approx(wait, rel=1e-5)


def test_an_answer_that_comes_when_it_is_on_already_is_nothing(switch):
    switch.tried(0, MID, healthy=False)
    assert switch.on


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_clock_that_jumps_never_keeps_it_off(switch, jump):
    switch.update(1.0, 0, MID)
    now = jump
    for _ in range(20):
        if switch.update(0.0, now, MID):
            switch.tried(now, MID, healthy=True)
        now += SECOND
    assert switch.on


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True),
            st.integers(-YEAR, YEAR),
            st.floats(0, 1, exclude_max=True),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_happens_calm_brings_it_back(steps):
    switch = FeatureSwitch(0.8, 0.6, HOLD)
    now = 0
    for pressure, moment, uniform, healthy in steps:
        now = moment
        if switch.update(pressure, now, uniform):
            switch.tried(now, uniform, healthy=healthy)
        assert 0 <= switch.left(now) <= 72 * SECOND
    for _ in range(3):
        now += 73 * SECOND
        if switch.update(0.0, now, MID):
            switch.tried(now, MID, healthy=True)
    assert switch.on


def test_levels_rise_at_once_and_fall_with_a_gap():
    level = DegradationLevel()
    assert [level.update(p) for p in (0.49, 0.5, 1.2, 0.76, 0.74, 0.61, 0.59, 0.38, 0.37)] == [
        "normal",
        "elevated",
        "critical",
        "critical",
        "high",
        "high",
        "elevated",
        "elevated",
        "normal",
    ]


def test_a_pressure_that_is_no_number_is_normal():
    assert DegradationLevel().update(nan) == "normal"
