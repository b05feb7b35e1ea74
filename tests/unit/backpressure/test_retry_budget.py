"""Retry tokens, by plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.retry_budget import NO_RETRY, RetryTokens, retry_wait


def test_ten_retries_and_then_none_until_something_succeeds():
    tokens = RetryTokens()
    assert sum(tokens.take() for _ in range(50)) == 10
    assert not tokens.has_one()
    for _ in range(9):
        tokens.succeeded()
    assert not tokens.take()
    tokens.succeeded()
    assert tokens.take()


def test_successes_fill_it_up_to_a_hundred():
    tokens = RetryTokens()
    for _ in range(5_000):
        tokens.succeeded()
    assert tokens.left == 100.0


def test_a_start_above_the_most_is_the_most():
    assert RetryTokens(start=10, most=3).left == 3.0


@given(st.lists(st.booleans(), max_size=300))
def test_retries_never_exceed_ten_and_a_tenth_of_the_successes(steps):
    tokens = RetryTokens()
    taken = successes = 0
    for success in steps:
        if success:
            tokens.succeeded()
            successes += 1
        else:
            assert tokens.has_one() == (taken * 10 + 10 <= 100 + successes)
            taken += tokens.take()
    assert taken * 10 <= 100 + successes
    assert tokens.left == pytest.approx(10 + successes / 10 - taken)


def test_our_wait_comes_after_the_upstreams_and_none_ends_past_the_deadline():
    assert retry_wait(100, 0, 0, None) == 100
    assert retry_wait(100, 500, 0, None) == 600
    assert retry_wait(100, 0, 0, 101) == 100
    assert retry_wait(100, 0, 0, 100) == NO_RETRY
    assert retry_wait(0, 0, 10, 5) == NO_RETRY
