from __future__ import annotations

import pytest

from headgate.algorithms.dual import Dual
from headgate.algorithms.sliding_window_log import SlidingWindowLog
from headgate.algorithms.token_bucket import TokenBucket
from headgate.decision import NEVER

SECOND = 10**9


def dual() -> Dual:
    """Five at once, ten a second."""
    return Dual(TokenBucket(10, SECOND, 5), SlidingWindowLog(10, SECOND))


def test_the_bucket_bounds_the_burst() -> None:
    both = dual()
    assert both.capacity == 5
    assert both.wait(None, 6, 0) == NEVER
    state = both.consume(None, 5, 0)
    assert both.wait(state, 1, 0) == SECOND // 10


def test_the_window_bounds_the_count() -> None:
    both = dual()
    state = both.consume(None, 5, 0)
    state = both.consume(state, 5, SECOND // 2)
    now = SECOND - 1
    assert both.remaining(state, now) == 0  # the bucket has five again, the window none
    assert both.wait(state, 1, now) == 1
    assert both.used(state, now) == 10


def test_the_wait_is_the_longer_of_both() -> None:
    both = dual()
    state = both.consume(None, 5, 0)
    state = both.consume(state, 5, SECOND // 2)
    wait = both.wait(state, 5, SECOND // 2)
    assert wait == SECOND // 2
    assert both.wait(state, 5, SECOND // 2 + wait) == 0
    assert both.reset(state, SECOND // 2) == SECOND


def test_a_refund_goes_to_both() -> None:
    both = dual()
    state = both.refund(both.consume(None, 5, 0), 5, 0, 0)
    assert both.remaining(state, 0) == 5
    assert both.reset(state, 0) == 0


def test_a_dump_holds_both() -> None:
    both = dual()
    state = both.consume(None, 5, SECOND)
    dumped = both.dump(state, 7)
    loaded = both.load(dumped, SECOND)
    now = 7
    assert both.wait(loaded, 5, now) == both.wait(state, 5, SECOND)
    assert both.used(loaded, now) == 5


def test_what_is_no_dump_is_refused() -> None:
    for values in ([], [3, 1], [-1, 0], [0], [2, 0, 0, 1]):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts
            dual().load(values, 0)
