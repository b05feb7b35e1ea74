from __future__ import annotations

from headgate.algorithms.token_bucket import TokenBucket
from headgate.decision import NEVER

SECOND = 10**9


def test_a_new_key_has_the_whole_burst() -> None:
    bucket = TokenBucket(10, SECOND, 20)
    assert bucket.remaining(None, 5) == 20
    assert bucket.wait(None, 20, 5) == 0
    assert bucket.reset(None, 5) == 0


def test_tokens_come_back_one_by_one() -> None:
    bucket = TokenBucket(10, SECOND, 20)
    state = bucket.consume(None, 20, 0)
    assert bucket.remaining(state, 0) == 0
    assert bucket.wait(state, 1, 0) == SECOND // 10
    assert bucket.remaining(state, SECOND // 10 - 1) == 0
    assert bucket.remaining(state, SECOND // 10) == 1
    assert bucket.reset(state, 0) == 2 * SECOND


def test_a_cost_above_the_capacity_never_passes() -> None:
    bucket = TokenBucket(10, SECOND, 20)
    assert bucket.wait(None, 21, 0) == NEVER


def test_a_cost_of_nothing_always_passes() -> None:
    bucket = TokenBucket(10, SECOND, 1)
    state = bucket.consume(None, 1, 0)
    assert bucket.wait(state, 0, 0) == 0


def test_sevenths_of_a_second_are_exact() -> None:
    bucket = TokenBucket(7, SECOND, 7)
    state: object = None
    now = 0
    for _ in range(7 + 7 * 1000):
        now += bucket.wait(state, 1, now)
        state = bucket.consume(state, 1, now)
    assert now == 1000 * SECOND


def test_a_refund_fills_at_most_to_the_brim() -> None:
    bucket = TokenBucket(10, SECOND, 20)
    state = bucket.consume(None, 5, 0)
    state = bucket.refund(state, 2, 0, 0)
    assert bucket.remaining(state, 0) == 17
    state = bucket.refund(state, 10**12, 0, 0)
    assert bucket.remaining(state, 0) == 20
    assert bucket.reset(state, 0) == 0


def test_a_refund_long_after_the_grant_gives_nothing() -> None:
    bucket = TokenBucket(10, SECOND, 20)
    state = bucket.consume(None, 5, 0)
    state = bucket.consume(state, 5, 2 * SECOND)
    state = bucket.refund(state, 5, 2 * SECOND, 0)
    assert bucket.remaining(state, 2 * SECOND) == 15


def test_a_step_back_within_a_window_keeps_the_bucket_as_it_is() -> None:
    bucket = TokenBucket(10, SECOND, 10)
    state = bucket.consume(None, 10, 5 * SECOND)
    assert bucket.wait(state, 1, 4 * SECOND) == SECOND + SECOND // 10
    assert bucket.remaining(state, 4 * SECOND) == 0


def test_a_state_of_another_time_counts_as_never_seen() -> None:
    bucket = TokenBucket(10, SECOND, 10)
    state = bucket.consume(None, 10, 100 * SECOND)
    assert bucket.wait(state, 10, 50 * SECOND) == 0
    assert bucket.reset(state, 50 * SECOND) == 0


def test_a_small_burst_is_not_had_twice_by_a_step_of_less_than_a_window() -> None:
    bucket = TokenBucket(1000, SECOND, 1)  # a refill takes a millisecond
    state = bucket.consume(None, 1, SECOND)
    assert bucket.wait(state, 1, SECOND // 2) > 0
