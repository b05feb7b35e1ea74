"""The simple rules of shedding, with plain numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.shedding import (
    MOST_SHED,
    AddedShedding,
    load_probability,
    queue_probability,
)

STEP = 100_000_000
LEVELS = (0.1, 0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("queue", "part"), [(0, 0.0), (99, 0.0), (100, 0.0), (125, 0.25), (200, 1.0), (10**9, 1.0)]
)
def test_by_queue(queue, part):
    assert queue_probability(queue, 100) == part


@pytest.mark.parametrize(
    ("load", "multiplier", "part"),
    [
        (0.0, 1.0, 0.0),
        (0.8, 1.0, 0.0),
        (1.8, 1.0, 0.1),
        (1.8, 0.5, 0.05),
        (1000.0, 1.0, 1.0),
        (1000.0, 0.0, 0.0),
        (math.nan, 1.0, 0.0),
        (-math.inf, 1.0, 0.0),
    ],
)
def test_by_load(load, multiplier, part):
    assert load_probability(load, 0.8, 0.1, multiplier) == pytest.approx(part)


def added(loads: list[float], rate: float = 0.1) -> AddedShedding:
    rule = AddedShedding(0.8, rate, LEVELS)
    for number, load in enumerate(loads):
        rule.update(load, number * STEP)
    return rule


def test_it_adds_up_while_the_load_stays_above_the_threshold():
    assert added([0.8]).parts == [0.0] * 4
    assert added([1.8]).parts == pytest.approx([0.01, 0.05, 0.1, 0.1])
    assert added([1.8] * 5).parts == pytest.approx([0.05, 0.25, 0.5, 0.5])


def test_a_multiplier_is_also_the_most_that_is_shed():
    assert added([2.0] * 500).parts == pytest.approx([0.1, 0.5, MOST_SHED, MOST_SHED])


def test_a_multiplier_above_1_is_ahead_of_the_others():
    rule = AddedShedding(0.8, 0.1, (1.0, 2.0, 4.0))
    for number in range(4):
        rule.update(1.8, number * STEP)
    assert rule.parts == pytest.approx([0.4, 0.8, MOST_SHED])


def test_it_eases_off_within_a_second_however_far_it_went():
    assert added([2.0] * 500 + [0.0] * 10).parts == [0.0] * 4


def test_at_the_threshold_it_stays_where_it_is():
    assert added([1.8] * 5 + [0.8] * 100).parts == pytest.approx([0.05, 0.25, 0.5, 0.5])


def test_a_late_update_adds_once_and_eases_off_for_all_the_time_that_passed():
    rule = added([1.8] * 5)
    rule.update(1.8, 9 * STEP)
    assert rule.level == pytest.approx(0.6)
    rule.update(0.0, 19 * STEP)
    assert rule.level == 0.0


def test_updates_that_come_too_often_add_up_to_the_same():
    rule = AddedShedding(0.8, 0.1, LEVELS)
    for number in range(51):
        rule.update(1.8, number * STEP // 10)
    assert rule.level == pytest.approx(0.6)  # the first counts as a whole one


def test_a_load_that_is_not_known_changes_nothing():
    rule = added([1.8] * 5)
    rule.update(math.nan, 5 * STEP)
    assert rule.level == pytest.approx(0.5)


def test_a_tier_with_multiplier_0_is_never_shed():
    rule = AddedShedding(0.8, 0.1, (0.0, 1.0))
    for number in range(500):
        rule.update(2.0, number * STEP)
    assert rule.parts == [0.0, MOST_SHED]
    nobody = AddedShedding(0.8, 0.1, (0.0, 0.0))
    nobody.update(2.0, 0)
    assert nobody.parts == [0.0, 0.0]


@given(
    st.lists(
        st.tuples(st.floats(allow_infinity=False) | st.floats(0, 2), st.integers(-(2**60), 2**60)),
        max_size=50,
    )
)
def test_whatever_the_loads_and_the_clock_do_it_comes_back_in_a_second(steps):
    rule = AddedShedding(0.8, 0.1, LEVELS)
    for load, moment in steps:
        rule.update(load, moment)
        assert all(0.0 <= part <= MOST_SHED for part in rule.parts)
        assert rule.parts == sorted(rule.parts)
    rule.update(0.0, 0)
    for number in range(11):
        rule.update(0.0, number * STEP)
    assert rule.parts == [0.0] * 4
