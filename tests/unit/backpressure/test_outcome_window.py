"""Windows of outcomes: what they count, and what they have forgotten."""

from __future__ import annotations

import pytest

from headgate.backpressure.outcome_window import FAILED, SLOW, CountWindow, TimeWindow

SECOND = 10**9


def totals(window):
    return window.calls, window.failures, window.slow


def test_the_last_calls_count_and_older_ones_do_not():
    window = CountWindow(3)
    for outcome in (FAILED, FAILED | SLOW, SLOW):
        window.add(outcome, 0)
    assert totals(window) == (3, 2, 2)
    window.add(0, 10**15)
    assert totals(window) == (3, 1, 2)
    for _ in range(3):
        window.add(0, 0)
    assert totals(window) == (3, 0, 0)


def test_calls_do_not_grow_old_in_a_window_of_calls():
    window = CountWindow(3)
    window.add(FAILED, 0)
    window.roll(10**18)
    assert totals(window) == (1, 1, 0)


def test_slots_are_dropped_as_they_grow_old():
    window = TimeWindow(10, SECOND)
    window.add(FAILED, 0)
    window.add(SLOW, 5 * SECOND)
    window.roll(10 * SECOND - 1)
    assert totals(window) == (2, 1, 1)
    window.roll(10 * SECOND)
    assert totals(window) == (1, 0, 1)
    window.roll(15 * SECOND)
    assert totals(window) == (0, 0, 0)


@pytest.mark.parametrize("jump", [10 * SECOND, 10**18, -10 * SECOND, -(10**18)])
def test_a_jump_by_a_window_forgets_all(jump):
    window = TimeWindow(10, SECOND)
    window.add(FAILED, 100 * SECOND)
    window.add(0, 100 * SECOND + jump)
    assert totals(window) == (1, 0, 0)


def test_a_clock_that_goes_back_a_little_counts_in_the_newest_slot():
    window = TimeWindow(10, SECOND)
    window.add(0, 100 * SECOND)
    window.add(FAILED, 95 * SECOND)
    assert totals(window) == (2, 1, 0)
    window.roll(109 * SECOND)
    assert totals(window) == (2, 1, 0)
    window.roll(110 * SECOND)
    assert totals(window) == (0, 0, 0)


@pytest.mark.parametrize("window", [CountWindow(3), TimeWindow(3, SECOND)])
def test_cleared_is_as_new(window):
    for _ in range(5):
        window.add(FAILED | SLOW, SECOND)
    window.clear()
    assert totals(window) == (0, 0, 0)
    window.add(0, SECOND)
    assert totals(window) == (1, 0, 0)
