"""Pressure from signals, and the meter that smooths it, with plain numbers."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.pressure import (
    CEILING,
    SIGNAL_NAMES,
    PressureMeter,
    Signals,
    raw_pressure,
)

STEP = 100_000_000
YEAR = 366 * 86_400 * 10**9


@pytest.mark.parametrize(
    ("signals", "pressure", "cause"),
    [
        (Signals(), 0.0, ""),
        (Signals(loop_lag_ns=100_000_000), 1.0, "loop_lag"),
        (Signals(loop_lag_ns=25_000_000), 0.25, "loop_lag"),
        (Signals(queue_delay_ns=20_000_000), 1.0, "queue_delay"),
        (Signals(queue_delay_ns=30_000_000), 1.5, "queue_delay"),
        (Signals(cpu=0.80), 0.0, ""),
        (Signals(cpu=0.875), 0.5, "cpu"),
        (Signals(cpu=0.95), 1.0, "cpu"),
        (Signals(psi_some=0.2), 0.0, ""),
        (Signals(psi_some=0.4), 0.5, "psi"),
        (Signals(psi_some=0.6), 1.0, "psi"),
        (Signals(memory=0.85), 0.0, ""),
        (Signals(memory=0.90), 0.5, "memory"),
        (Signals(memory=0.95), 1.0, "memory"),
        (Signals(in_flight=0.6), 0.6, "in_flight"),
        (Signals(in_flight=1.0), 1.0, "in_flight"),
        (Signals(in_flight=0.6, loop_lag_ns=70_000_000, cpu=0.5), 0.7, "loop_lag"),
    ],
)
def test_each_signal_has_its_scale_and_the_worst_counts(signals, pressure, cause):
    found, which = raw_pressure(signals)
    assert found == pytest.approx(pressure)
    assert which == cause


@pytest.mark.parametrize("name", SIGNAL_NAMES)
def test_what_is_no_number_is_not_known(name):
    argument = {"loop_lag": "loop_lag_ns", "queue_delay": "queue_delay_ns", "psi": "psi_some"}
    field = argument.get(name, name)
    assert raw_pressure(Signals(**{field: nan})) == (0.0, "")
    assert raw_pressure(Signals(**{field: -1.0})) == (0.0, "")
    assert raw_pressure(Signals(**{field: -inf})) == (0.0, "")
    assert raw_pressure(Signals(**{field: inf})) == (CEILING, name)


def test_it_rises_by_half_and_falls_by_a_tenth():
    meter = PressureMeter()
    assert meter.update(1.0, 0) == pytest.approx(0.5)
    assert meter.update(1.0, STEP) == pytest.approx(0.75)
    assert meter.update(0.0, 2 * STEP) == pytest.approx(0.675)
    assert meter.update(0.0, 3 * STEP) == pytest.approx(0.6075)


@pytest.mark.parametrize("raw", [0.0, 2.0])
def test_few_long_steps_go_as_far_as_many_short_ones(raw):
    seldom, often = PressureMeter(), PressureMeter()
    for meter in (seldom, often):
        meter.update(1.0, 0)
    seldom.update(raw, 10 * STEP)
    for tick in range(1, 101):
        often.update(raw, tick * STEP // 10)
    assert seldom.value == pytest.approx(often.value)


def test_the_same_moment_twice_changes_nothing():
    meter = PressureMeter()
    meter.update(1.0, 0)
    assert meter.update(2.0, 0) == pytest.approx(0.5)
    assert meter.update(0.0, 0) == pytest.approx(0.5)


def test_overload_is_on_at_1_and_off_below_seven_tenths():
    meter = PressureMeter()
    meter.update(CEILING, 0)
    assert meter.value == pytest.approx(1.0)
    assert meter.overloaded
    meter.update(0.71, 100 * STEP)
    assert meter.value == pytest.approx(0.71, abs=1e-3)
    assert meter.overloaded
    meter.update(0.6, 200 * STEP)
    assert not meter.overloaded
    meter.update(0.99, 300 * STEP)
    assert not meter.overloaded


@pytest.mark.parametrize(("elapsed", "steps"), [(0, 4), (50, 10)])
def test_a_huge_stall_is_forgotten_in_a_second(elapsed, steps):
    meter = PressureMeter()
    meter.update(0.0, 0)
    start = (elapsed + 1) * STEP
    meter.update(1e9, start)
    for tick in range(1, steps + 1):
        assert meter.overloaded
        meter.update(0.0, start + tick * STEP)
    assert not meter.overloaded


@pytest.mark.parametrize("jump", [-YEAR, YEAR, -1])
def test_a_clock_that_jumps_neither_sticks_nor_overflows_it(jump):
    meter = PressureMeter()
    for tick in range(20):
        meter.update(2.0, tick * STEP)
    now = 19 * STEP + jump
    for tick in range(40):
        meter.update(0.0, now + tick * STEP)
    assert meter.value < 0.1
    assert not meter.overloaded


def test_after_a_clock_that_went_back_time_is_counted_from_there():
    meter = PressureMeter()
    meter.update(1.0, YEAR)
    assert meter.update(1.0, 0) == pytest.approx(0.75)
    assert meter.update(1.0, 0) == pytest.approx(0.75)


@pytest.mark.parametrize("raw", [nan, -5.0, -inf])
def test_nonsense_counts_as_idle(raw):
    meter = PressureMeter()
    meter.update(1.0, 0)
    assert meter.update(raw, STEP) == pytest.approx(0.45)


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True), st.integers(-YEAR, YEAR)), min_size=1, max_size=50
    )
)
def test_whatever_comes_it_stays_within_bounds_and_between_old_and_new(samples):
    meter = PressureMeter()
    overloaded = False
    for raw, now in samples:
        before = meter.value
        after = meter.update(raw, now)
        target = raw_pressure(Signals(in_flight=raw))[0]
        assert 0.0 <= after <= CEILING
        assert min(before, target) - 1e-12 <= after <= max(before, target) + 1e-12
        overloaded = after >= 1.0 or (overloaded and after >= 0.7)
        assert meter.overloaded == overloaded
