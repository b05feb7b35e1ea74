"""Nodes that get no work for now, over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.ejection import Ejector

SECOND = 10**9
MID = 0.5
WELL = {"a": 0.4, "b": 0.4, "c": 0.4, "d": 0.4}
SICK = WELL | {"c": 1.6}


def step(ejector, pressures, seconds):
    return ejector.update(pressures, round(seconds * SECOND), MID)


def test_a_node_stays_out_for_a_second_after_its_pressure_fell():
    ejector = Ejector()
    assert step(ejector, SICK, 0) == ["c"]
    assert step(ejector, SICK, 5) == ["c"]
    assert step(ejector, WELL, 5.9) == ["c"]
    assert step(ejector, WELL, 6) == []


def test_each_time_it_falls_sick_again_it_stays_out_for_twice_as_long():
    ejector = Ejector()
    now, waits = 0, []
    for _ in range(8):
        assert step(ejector, SICK, now) == ["c"]
        start = now
        while step(ejector, WELL, now):
            now += 1
        waits.append(now - start)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_after_a_minute_of_health_its_past_is_forgotten():
    ejector = Ejector()
    for now in (0, 1, 1.5, 3.5):
        step(ejector, SICK if now in {0, 1.5} else WELL, now)
    assert step(ejector, WELL, 64) == []
    assert ejector._switches == {}


def test_one_of_which_nothing_is_heard_any_more_is_tried_again():
    ejector = Ejector()
    step(ejector, SICK, 0)
    silent = {node: pressure for node, pressure in WELL.items() if node != "c"}
    assert step(ejector, silent, 0.5) == ["c"]
    assert step(ejector, silent, 1) == []


def test_while_one_is_out_or_on_trial_no_other_of_four_is_left_out():
    ejector = Ejector()
    burst = {"a": 1.2, "b": 0.4, "c": 0.1, "d": 0.4}
    assert step(ejector, SICK, 0) == ["c"]
    assert step(ejector, burst, 0.5) == ["c"]
    assert step(ejector, burst, 1) == []  # c is back, on trial
    assert step(ejector, SICK, 1.9) == ["c"]  # and fails it
    assert step(ejector, WELL, 4) == []
    assert step(ejector, burst, 5.9) == []
    assert step(ejector, burst, 6) == ["a"]  # its trial is over


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 2), max_size=6),
            st.integers(-(10**18), 10**18),
        ),
        max_size=40,
    )
)
def test_whatever_is_told_all_come_back_when_all_is_calm(steps):
    ejector = Ejector()
    now = 0
    for pressures, moment in steps:
        now = moment
        assert len(set(ejector.update(pressures, now, MID))) <= 6
    for _ in range(3):
        now += 73 * SECOND
        out = ejector.update(dict.fromkeys("abcdef", 0.1), now, MID)
    assert out == []


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 2), min_size=6), max_size=60)
)
def test_never_more_than_a_third_are_out(steps):
    ejector = Ejector()
    for tick, pressures in enumerate(steps):
        assert len(ejector.update(pressures, tick * SECOND // 10, MID)) <= 2
