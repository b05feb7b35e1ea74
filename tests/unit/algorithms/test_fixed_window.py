from __future__ import annotations

import pytest

from headgate.algorithms.fixed_window import FixedWindow
from headgate.decision import NEVER

SECOND = 10**9
MINUTE = 60 * SECOND


def test_the_count_starts_anew_at_the_full_minute_of_the_wall() -> None:
    window = FixedWindow(2, MINUTE, wall_offset_ns=45 * SECOND)  # the clock starts at hh:mm:45
    state = window.consume(None, 2, 0)
    assert window.wait(state, 1, 0) == 15 * SECOND
    assert window.reset(state, 0) == 15 * SECOND
    assert window.wait(state, 1, 15 * SECOND - 1) == 1
    assert window.wait(state, 2, 15 * SECOND) == 0
    assert window.reset(state, 15 * SECOND) == 0


def test_around_a_boundary_two_quotas_may_pass() -> None:
    window = FixedWindow(2, MINUTE)
    state = window.consume(None, 2, MINUTE - 1)
    assert window.wait(state, 2, MINUTE) == 0


def test_a_cost_above_the_limit_never_passes() -> None:
    assert FixedWindow(2, MINUTE).wait(None, 3, 0) == NEVER


def test_only_the_window_that_paid_is_paid_back() -> None:
    window = FixedWindow(5, MINUTE)
    state = window.consume(None, 3, 0)
    state = window.refund(state, 1, 1, 0)
    assert window.used(state, 1) == 2
    state = window.consume(state, 3, MINUTE)
    state = window.refund(state, 3, MINUTE, 0)
    assert window.used(state, MINUTE) == 3


def test_a_refund_stops_at_nothing_used() -> None:
    window = FixedWindow(5, MINUTE)
    state = window.refund(window.consume(None, 3, 0), 100, 0, 0)
    assert window.remaining(state, 0) == 5


def test_a_step_back_into_the_window_before_does_not_open_a_new_one() -> None:
    window = FixedWindow(2, MINUTE)
    state = window.consume(None, 2, MINUTE)
    assert window.wait(state, 1, MINUTE - SECOND) == MINUTE + SECOND
    assert window.wait(state, 1, 0) == 2 * MINUTE


def test_a_state_of_another_time_counts_as_never_seen() -> None:
    window = FixedWindow(2, MINUTE)
    state = window.consume(None, 2, 10 * MINUTE)
    assert window.remaining(state, 0) == 2


def test_what_is_no_dump_is_refused() -> None:
    window = FixedWindow(2, MINUTE)
    for values in ([], [1], [0, -1], [0, 3], [0, 1, 2], [2**62, 0], [2**60, 0]):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts
            window.load(values, 0)


def test_a_window_from_before_the_clock_is_forgotten() -> None:
    window = FixedWindow(2, MINUTE)
    state = window.load([0, 2], wall_offset_ns=100 * MINUTE)
    assert window.remaining(state, 0) == 2
