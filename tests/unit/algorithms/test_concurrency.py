from __future__ import annotations

from headgate.algorithms.concurrency import Concurrency

SECOND = 10**9


def test_a_released_permit_is_free_at_once() -> None:
    permits = Concurrency(2, 30 * SECOND)
    state = permits.consume(None, 1, 0)
    state = permits.consume(state, 1, 5)
    assert permits.wait(state, 1, 10) == 30 * SECOND - 10
    state = permits.refund(state, 1, 10, 0)
    assert permits.wait(state, 1, 10) == 0
    assert permits.used(state, 10) == 1


def test_a_permit_that_nobody_releases_expires() -> None:
    permits = Concurrency(1, 30 * SECOND)
    state = permits.consume(None, 1, 0)
    assert permits.wait(state, 1, 0) == 30 * SECOND
    assert permits.wait(state, 1, 30 * SECOND) == 0


def test_a_release_after_the_lease_frees_nobody_elses_permit() -> None:
    permits = Concurrency(1, 30 * SECOND)
    state = permits.consume(None, 1, 0)
    state = permits.consume(state, 1, 31 * SECOND)
    state = permits.refund(state, 1, 32 * SECOND, 0)
    assert permits.remaining(state, 32 * SECOND) == 0


def test_one_request_may_hold_several_permits() -> None:
    permits = Concurrency(5, 30 * SECOND)
    state = permits.consume(None, 3, 0)
    assert permits.remaining(state, 0) == 2
    state = permits.refund(state, 3, 1, 0)
    assert permits.remaining(state, 1) == 5
