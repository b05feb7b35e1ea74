from __future__ import annotations

from array import array

import pytest

from headgate.algorithms.sliding_window_log import SlidingWindowLog
from headgate.decision import NEVER

SECOND = 10**9


def test_each_admission_counts_for_exactly_one_window() -> None:
    log = SlidingWindowLog(3, SECOND)
    state: object = None
    for now in (0, 100, 200):
        state = log.consume(state, 1, now)
    assert log.wait(state, 1, 300) == SECOND - 300
    assert log.wait(state, 2, 300) == SECOND - 200
    assert log.remaining(state, SECOND - 1) == 0
    assert log.remaining(state, SECOND) == 1
    assert log.reset(state, 300) == SECOND - 100


def test_a_cost_above_the_limit_never_passes() -> None:
    assert SlidingWindowLog(3, SECOND).wait(None, 4, 0) == NEVER


def test_a_cost_of_nothing_passes_and_leaves_no_entry() -> None:
    log = SlidingWindowLog(3, SECOND)
    state = log.consume(None, 3, 0)
    assert log.wait(state, 0, 0) == 0
    assert log.consume(state, 0, 5) == array("q", (0, 0, 3))
    assert log.consume(None, 0, 5) == array("q", (0,))


def test_admissions_of_one_moment_are_one_entry() -> None:
    log = SlidingWindowLog(1000, SECOND)
    state: object = None
    for _ in range(1000):
        state = log.consume(state, 1, 7)
    assert state == array("q", (0, 7, 1000))


def test_entries_that_are_too_old_are_dropped() -> None:
    log = SlidingWindowLog(10, SECOND)
    state: object = None
    longest = 0
    for step in range(1000):
        now = step * SECOND // 10
        assert log.wait(state, 1, now) == 0
        state = log.consume(state, 1, now)
        longest = max(longest, len(log.dump(state, 0)) // 2)
    assert longest <= 2 * 10


def test_a_refund_takes_what_was_spent_then() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.consume(None, 3, 0)
    state = log.consume(state, 4, 100)
    state = log.consume(state, 2, 200)
    state = log.refund(state, 4, 300, 100)
    assert log.dump(state, 0) == [0, 3, 200, 2]
    state = log.refund(state, 1, 300, 200)
    assert log.dump(state, 0) == [0, 3, 200, 1]
    assert log.remaining(state, 300) == 6


def test_a_refund_of_a_time_without_a_grant_takes_the_newest_before_it() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.consume(log.consume(None, 3, 0), 4, 100)
    assert log.dump(log.refund(state, 5, 300, 300), 0) == [0, 2]


def test_a_refund_after_the_window_takes_nothing() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.consume(log.consume(None, 3, 0), 4, SECOND)
    assert log.remaining(log.refund(state, 3, SECOND, 0), SECOND) == 6


def test_a_refund_leaves_alone_what_no_longer_counts() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.consume(log.consume(None, 3, 0), 4, 100)
    state = log.refund(state, 100, SECOND, SECOND)
    assert log.dump(state, 0) == [0, 3]
    assert log.remaining(state, SECOND) == 10


def test_a_log_above_the_limit_still_lets_nothing_pass_for_nothing() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.load([0, 9, 100, 9], 0)
    assert log.remaining(state, 100) == 0
    assert log.wait(state, 0, 100) == 0
    assert log.wait(state, 1, 100) == SECOND - 100


def test_a_refund_of_all_leaves_nothing_to_remember() -> None:
    log = SlidingWindowLog(10, SECOND)
    state = log.refund(log.consume(None, 3, 0), 100, 0, 0)
    assert log.reset(state, 0) == 0
    assert log.remaining(state, 0) == 10
    assert log.refund(None, 1, 0, 0) == array("q", (0,))


def test_a_step_back_waits_for_the_last_entry() -> None:
    log = SlidingWindowLog(2, SECOND)
    state = log.consume(None, 1, 2 * SECOND)
    state = log.consume(state, 1, SECOND + 5)  # counts as of the last entry
    assert log.dump(state, 0) == [2 * SECOND, 2]
    assert log.wait(state, 1, SECOND) == 2 * SECOND


def test_a_state_of_another_time_counts_as_never_seen() -> None:
    log = SlidingWindowLog(2, SECOND)
    state = log.consume(None, 2, 10 * SECOND)
    assert log.wait(state, 2, SECOND) == 0
    assert log.dump(log.consume(state, 2, SECOND), 0) == [SECOND, 2]


def test_what_is_no_dump_is_refused() -> None:
    log = SlidingWindowLog(2, SECOND)
    for values in ([1], [0, 0], [0, -1], [0, 3], [5, 1, 5, 1], [5, 1, 4, 1], [2**61, 1]):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts
            log.load(values, 0)
    with pytest.raises(ValueError, match="whole numbers"):
        log.load([0, 1.5], 0)  # type: ignore[list-item]
