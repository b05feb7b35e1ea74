"""The client throttle's rule, by plain numbers and against a log that forgets nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.client_throttle import AcceptWindow, ThrottleRule

S = 1_000_000_000
WINDOW = 30 * S
RULE = ThrottleRule(2.0, 10.0, 0.9)


def refusal(window, now):
    return RULE.refusal(window, now, 2.0)


def test_nothing_is_refused_while_half_is_accepted():
    window = AcceptWindow(WINDOW)
    window.add(100, 50, 0)
    assert refusal(window, 0) == 0.0


def test_the_formula():
    window = AcceptWindow(WINDOW)
    window.add(999, 100, 0)
    assert refusal(window, 0) == pytest.approx((999 - 200) / 1_000)


def test_some_always_ask():
    window = AcceptWindow(WINDOW)
    window.add(100_000, 0, 0)
    assert refusal(window, 0) == 0.9


def test_a_lower_multiplier_refuses_more():
    window = AcceptWindow(WINDOW)
    window.add(999, 500, 0)
    assert RULE.refusal(window, 0, 1.0) == pytest.approx(0.499)


def test_below_ten_a_second_nothing_is_refused():
    window = AcceptWindow(WINDOW)
    for second in range(30):
        window.add(9, 0, second * S)
    assert refusal(window, 29 * S + S // 2) == 0.0
    window.add(100, 0, 29 * S + S // 2)
    assert refusal(window, 29 * S + S // 2) > 0.8


def test_a_burst_in_the_first_second_is_judged_at_once():
    window = AcceptWindow(WINDOW)
    window.add(9, 0, 5 * S)
    assert refusal(window, 5 * S) == 0.0
    window.add(1, 0, 5 * S)
    assert refusal(window, 5 * S) == 0.9


def test_what_is_older_than_the_window_is_forgotten():
    window = AcceptWindow(WINDOW)
    window.add(1_000, 0, 0)
    assert refusal(window, 29 * S) > 0
    assert refusal(window, 31 * S) == 0.0
    assert window.requests == 0


@pytest.mark.parametrize("years", [-200, -1, 1, 200])
def test_a_clock_that_jumps_never_sticks_it(years):
    window = AcceptWindow(WINDOW)
    window.add(1_000, 0, 0)
    now = years * 366 * 86_400 * S
    assert refusal(window, now) in ({0.0} if years > 0 else {0.9})
    assert refusal(window, now + 31 * S) == 0.0


@given(
    st.lists(
        st.tuples(st.integers(0, 12 * S), st.integers(0, 9), st.booleans()), min_size=1, max_size=60
    )
)
def test_the_counts_are_those_of_a_log(steps):
    window = AcceptWindow(WINDOW)
    log: list[tuple[int, int, int]] = []
    now = 77 * S
    for passed, requests, accepted in steps:
        now += passed
        accepts = requests if accepted else 0
        window.add(requests, accepts, now)
        log.append((now, requests, accepts))
        surely = [entry for entry in log if entry[0] > now - WINDOW]
        possibly = [entry for entry in log if entry[0] > now - WINDOW - S]
        for column, counted in ((1, window.requests), (2, window.accepts)):
            assert sum(entry[column] for entry in surely) <= counted
            assert counted <= sum(entry[column] for entry in possibly)
        assert 0.0 <= refusal(window, now) <= 0.9
