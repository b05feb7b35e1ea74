"""The pressure of others, with plain numbers."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.global_pressure import (
    FRESH_NS,
    Publisher,
    Reports,
    effective_pressure,
    outliers,
    told_pressure,
)

SECOND = 10**9
STEP = SECOND // 10
YEAR = 366 * 86_400 * SECOND
PRESSURES = st.floats(0, 2)


@pytest.mark.parametrize(
    ("stale", "told"), [(-1, 1.0), (0, 1.0), (SECOND, 0.6), (2 * SECOND, 0.4), (100 * SECOND, 0.2)]
)
def test_what_is_stale_decays_to_the_local_value_by_half_a_second(stale, told):
    assert told_pressure(1.0, 0.2, stale) == pytest.approx(told)
    assert told_pressure(0.2, 1.0, stale) == pytest.approx(1.2 - told)


def test_one_sick_node_of_four_makes_nobody_shed():
    nodes = [(2.0, 1.0), (0.6, 1.0), (0.6, 1.0), (0.7, 1.0)]
    assert effective_pressure(0.6, nodes) == 0.6


def test_from_three_in_five_the_mean_counts():
    high, low = (1.2, 1.0), (0.2, 1.0)
    assert effective_pressure(0.2, [high, high, low, low, low]) == 0.2
    assert effective_pressure(0.2, [high, high, high, low, low]) == pytest.approx(0.8)


def test_the_mean_is_weighted_by_capacity_and_never_lowers():
    assert effective_pressure(0.8, [(0.8, 1.0), (1.6, 3.0)]) == pytest.approx(1.4)
    assert effective_pressure(1.6, [(1.6, 1.0), (0.8, 3.0)]) == 1.6


def test_alone_it_is_the_local_one():
    assert effective_pressure(0.9, []) == 0.9
    assert effective_pressure(0.9, [(0.9, 2.0)]) == 0.9


@given(PRESSURES, st.lists(st.tuples(PRESSURES, st.floats(0.01, 1e6)), max_size=20))
def test_it_is_never_below_the_local_nor_above_the_worst(local, nodes):
    found = effective_pressure(local, [(local, 1.0), *nodes])
    assert local <= found <= max([local, *(p for p, _ in nodes)]) + 1e-9


@pytest.mark.parametrize(
    ("pressures", "sick"),
    [
        ({}, []),
        ({"a": 2.0}, []),
        ({"a": 2.0, "b": 0.3}, ["a"]),
        ({"a": 0.9, "b": 0.3, "c": 0.3}, []),
        ({"a": 1.0, "b": 0.3, "c": 0.3, "d": 0.3}, ["a"]),
        ({"a": 1.0, "b": 1.5, "c": 0.3, "d": 0.3}, ["b"]),  # at most one of four
        ({"a": 1.5, "b": 0.8, "c": 0.8, "d": 0.8}, []),  # the others have no room
        (dict.fromkeys("abcd", 1.5), []),
        (dict.fromkeys("abc", 1.5) | dict.fromkeys("defghi", 0.3), ["a", "b", "c"]),
    ],
)
def test_outliers_are_few_and_the_others_can_take_their_work(pressures, sick):
    assert outliers(pressures) == sick


@given(st.dictionaries(st.text(max_size=3), PRESSURES, max_size=12))
def test_outliers_are_overloaded_and_never_the_majority(pressures):
    sick = outliers(pressures)
    assert len(sick) <= max(1, len(pressures) // 3)
    assert len(sick) < max(1, len(pressures))
    assert all(pressures[name] >= 1.0 for name in sick)


# --- when to tell -----------------------------------------------------------------------------------------


def test_it_is_told_at_a_change_or_every_half_second():
    publisher = Publisher()
    assert publisher.due(0.90, 0)
    assert not publisher.due(0.94, STEP)
    assert publisher.due(0.95, 2 * STEP)
    assert publisher.due(0.90, 3 * STEP)
    assert not publisher.due(0.90, 8 * STEP - 1)
    assert publisher.due(0.90, 8 * STEP)


def test_slow_drift_is_held_against_what_was_told():
    publisher = Publisher()
    told = [publisher.due(0.5 + 0.01 * tick, tick) for tick in range(11)]
    assert told == [True, *[False] * 4, True, *[False] * 4, True]


def test_what_could_not_be_told_is_due_again():
    publisher = Publisher()
    publisher.due(0.5, 0)
    publisher.failed()
    assert publisher.due(0.5, 1)


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_clock_that_jumps_does_not_silence_it(jump):
    publisher = Publisher()
    publisher.due(0.5, 0)
    assert publisher.due(0.5, jump)
    assert not publisher.due(0.5, jump + 1)


# --- what was told ----------------------------------------------------------------------------------------


def test_a_report_holds_while_fresh_and_fades_after():
    reports = Reports()
    assert reports.take("b", 1.0, 1, 0)
    assert reports.told("b", 0.2, FRESH_NS) == 1.0
    assert reports.told("b", 0.2, FRESH_NS + SECOND) == pytest.approx(0.6)
    assert reports.told("nobody", 0.2, 0) == 0.2


def test_late_reports_and_those_known_are_not_taken():
    reports = Reports()
    reports.take("b", 1.0, 5, 0)
    assert not reports.take("b", 0.1, 4, 1)
    assert not reports.take("b", 0.1, 5, 1)
    assert reports.told("b", 0.0, 1) == 1.0
    assert reports.take("b", 0.1, 6, 1)


def test_an_old_note_that_lies_about_does_not_come_to_life_again():
    reports = Reports()
    reports.take("dead", 1.0, 5, 0)
    for now in range(0, 60 * SECOND, STEP):
        reports.take("dead", 1.0, 5, now)
    assert reports.all(0.2, 60 * SECOND) == {}


def test_a_sender_that_started_anew_is_heard_once_its_past_is_gone():
    reports = Reports()
    reports.take("b", 1.0, 5, 0)
    assert not reports.take("b", 0.3, 1, FRESH_NS + 9 * SECOND)
    assert reports.take("b", 0.3, 1, FRESH_NS + 10 * SECOND)


def test_the_gone_make_room_and_else_newcomers_are_not_taken():
    reports = Reports(most=2)
    assert reports.take("a", 1.0, 1, 0)
    assert reports.take("b", 1.0, 1, 20 * SECOND)
    assert reports.take("c", 1.0, 1, 20 * SECOND)
    assert not reports.take("d", 1.0, 1, 20 * SECOND)
    assert set(reports.all(0.0, 20 * SECOND)) == {"b", "c"}
    assert len(reports) == 2


def test_one_that_says_goodbye_is_forgotten():
    reports = Reports()
    reports.take("a", 1.0, 1, 0)
    assert reports.remove("a")
    assert not reports.remove("a")
    assert reports.all(0.0, 0) == {}


@pytest.mark.parametrize(("pressure", "held"), [(7.0, 2.0), (-3.0, 0.0)])
def test_pressures_are_held_within_bounds(pressure, held):
    reports = Reports()
    assert reports.take("a", pressure, 1, 0)
    assert reports.told("a", 0.5, 0) == held


@pytest.mark.parametrize(
    ("pressure", "capacity"),
    [(nan, 1.0), (inf, 1.0), (1.0, nan), (1.0, 0.0), (1.0, -1.0), (1.0, inf)],
)
def test_what_is_no_number_is_not_taken(pressure, capacity):
    reports = Reports()
    assert not reports.take("a", pressure, 1, 0, capacity)
    assert len(reports) == 0


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_clock_that_jumps_keeps_nothing_for_ever(jump):
    reports = Reports()
    reports.take("a", 1.0, 1, 0)
    reports.all(0.0, jump)
    assert reports.all(0.0, jump + FRESH_NS + 10 * SECOND) == {}
    assert reports.take("a", 0.5, 2, jump + 20 * SECOND)
    assert reports.told("a", 0.0, jump + 20 * SECOND) == 0.5
