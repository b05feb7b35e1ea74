from __future__ import annotations

import sys

import pytest

from headgate.algorithms.sliding_window_counter import SlidingWindowCounter
from headgate.decision import NEVER

SECOND = 10**9
MINUTE = 60 * SECOND


def test_the_classic_two_counters() -> None:
    window = SlidingWindowCounter(100, MINUTE)
    state = window.consume(None, 80, 30 * SECOND)
    # A quarter into the next minute, three quarters of the last one still count.
    now = MINUTE + 15 * SECOND
    assert window.used(state, now) == 60
    assert window.remaining(state, now) == 40
    state = window.consume(state, 40, now)
    # The next token is free as soon as 80 * (60 - e) / 60 <= 59.
    assert window.wait(state, 1, now) == 750_000_000


def test_granularity_narrows_the_part_that_is_guessed() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 10, 9 * SECOND)
    assert window.wait(state, 1, 9 * SECOND) == 51 * SECOND + SECOND  # a tenth of the oldest slot
    assert window.remaining(state, 60 * SECOND) == 0
    assert window.remaining(state, 65 * SECOND) == 5
    assert window.remaining(state, 70 * SECOND) == 10
    assert window.reset(state, 9 * SECOND) == 61 * SECOND


def test_a_wait_may_end_several_slots_ahead() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state: object = None
    for slot in range(5):
        state = window.consume(state, 2, slot * 10 * SECOND)
    now = 40 * SECOND
    assert window.wait(state, 4, now) == 40 * SECOND
    assert window.wait(state, 10, now) == 70 * SECOND


def test_a_cost_above_the_limit_never_passes() -> None:
    assert SlidingWindowCounter(10, MINUTE).wait(None, 11, 0) == NEVER


def test_a_refund_comes_out_of_the_slot_that_paid() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 3, 0)
    state = window.consume(state, 4, 10 * SECOND)
    state = window.refund(state, 2, 20 * SECOND, 0)
    assert window.used(state, 20 * SECOND) == 5
    assert window.used(state, 70 * SECOND) == 4  # the one that was left of the three is gone


def test_a_refund_takes_older_slots_too_and_stops_at_nothing() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 3, 0)
    state = window.consume(state, 4, 10 * SECOND)
    assert window.used(window.refund(state, 6, 20 * SECOND, 20 * SECOND), 20 * SECOND) == 1
    state = window.refund(state, 100, 20 * SECOND, 20 * SECOND)
    assert window.reset(state, 20 * SECOND) == 0


def test_reset_looks_for_the_newest_slot_that_counts() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 3, 0)
    state = window.consume(state, 4, 30 * SECOND)
    state = window.refund(state, 4, 30 * SECOND, 30 * SECOND)
    assert window.reset(state, 30 * SECOND) == 40 * SECOND


def test_many_slots_still_make_a_small_state() -> None:
    window = SlidingWindowCounter(1000, MINUTE, granularity=60)
    state: object = None
    for second in range(120):
        state = window.consume(state, 3, second * SECOND)
    assert sys.getsizeof(state) <= 128
    assert sys.getsizeof(SlidingWindowCounter(1000, MINUTE).consume(None, 1, MINUTE)) <= 32


def test_a_window_that_slots_do_not_divide_is_longer_by_nanoseconds() -> None:
    window = SlidingWindowCounter(1, 1000, granularity=7)  # slots of 143 ns
    state = window.consume(None, 1, 0)
    assert window.reset(state, 0) == 8 * 143


def test_the_largest_numbers_stay_exact() -> None:
    five_years = 5 * 365 * 86_400 * SECOND
    window = SlidingWindowCounter(10**12, five_years, granularity=60)
    state = window.consume(None, 10**12, 0)
    slot = five_years // 60
    assert window.wait(state, 1, 0) == 60 * slot + slot // 10**12
    assert window.reset(state, 0) == 61 * slot


def test_a_step_back_keeps_the_slot() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 10, 60 * SECOND)
    assert window.remaining(state, 50 * SECOND) == 0
    assert window.wait(state, 10, 5 * SECOND) == 125 * SECOND
    assert window.wait(state, 10, 0) == 130 * SECOND


def test_a_state_of_another_time_counts_as_never_seen() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=6)
    state = window.consume(None, 10, 100 * MINUTE)
    assert window.remaining(state, 50 * MINUTE) == 10


def test_what_is_no_dump_is_refused() -> None:
    window = SlidingWindowCounter(10, MINUTE, granularity=2)
    for values in (
        [],
        [0, 1],
        [0, 1, 2],
        [0, 1, -1, 1],
        [0, 11, 0, 0],
        [0, 6, 6, 0],
        [2**61, 0, 0, 0],
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts
            window.load(values, 0)
