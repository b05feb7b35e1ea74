"""The loop budget: what it takes, what it refuses, how it pauses, and that it is never stuck."""

from __future__ import annotations

import sys
import threading

import pytest

from headgate.errors import InvalidInput
from headgate.gates.loop_budget import LoopBudget
from headgate.testing import ManualClock

YEAR = 366 * 86_400


@pytest.fixture
def clock():
    return ManualClock()


@pytest.mark.parametrize(
    ("preset", "limit"),
    [
        (LoopBudget.network, 1_000),
        (LoopBudget.consensus, 500),
        (LoopBudget.discovery, 200),
        (LoopBudget.maintenance, 100),
    ],
)
def test_presets_per_second(clock, preset, limit):
    budget = preset(clock)
    assert sum(budget.consume() for _ in range(2_000)) == limit
    clock.advance(1.02)
    assert budget.can_proceed()


def test_asking_takes_nothing(clock):
    budget = LoopBudget(1, clock=clock)
    assert all(budget.can_proceed() for _ in range(10))
    assert budget.consume()
    assert not budget.can_proceed()


def test_utilization_is_the_share_that_is_taken(clock):
    budget = LoopBudget(8, clock=clock)
    assert budget.utilization == 0.0
    budget.consume(6)
    assert budget.utilization == 0.75
    clock.advance(2)
    assert budget.utilization == 0.0


def test_the_wait_is_told_and_is_the_least(clock):
    budget = LoopBudget(2, window=0.64, clock=clock)
    assert budget.retry_after() == 0.0
    budget.consume(2)
    wait = budget.retry_after(2)
    assert wait == pytest.approx(0.65)
    clock.advance(wait - 1e-6)
    assert not budget.consume(2)
    clock.advance(1e-6)
    assert budget.consume(2)


def test_pauses_grow_with_jitter_and_are_short_again_after_progress(clock):
    draws = iter([0.0, 0.0, 0.5, 0.0])
    budget = LoopBudget(1, clock=clock, uniform=lambda: next(draws))
    assert budget.backoff_sync() == 0.010
    assert budget.backoff_sync() == 0.015
    assert budget.backoff_sync() == pytest.approx(0.0225 * 0.75)
    budget.progress()
    assert budget.backoff_sync() == 0.010
    assert clock.now_ns() == pytest.approx(51_875_000, abs=2)


async def test_tasks_pause_alike(clock):
    budget = LoopBudget(1, clock=clock, uniform=lambda: 0.0)
    assert await budget.backoff() == 0.010
    assert await budget.backoff() == 0.015
    assert clock.now_ns() == 25_000_000


def test_taking_is_no_progress(clock):
    budget = LoopBudget(100, clock=clock, uniform=lambda: 0.0)
    budget.backoff_sync()
    budget.consume()
    assert budget.backoff_sync() == 0.015


def test_pauses_never_exceed_their_most(clock):
    budget = LoopBudget(1, max_backoff=0.2, clock=clock, uniform=lambda: 0.0)
    assert max(budget.next_pause() for _ in range(200)) == 0.2


@pytest.mark.parametrize("limit", [0, -1, 10**9 + 1, 10**30, 1.5, True, None, "5", float("nan")])
def test_impossible_limits(limit):
    with pytest.raises(InvalidInput, match="limit must be"):
        LoopBudget(limit)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e10, True, "1", None])
@pytest.mark.parametrize("name", ["window", "first_backoff", "max_backoff"])
def test_impossible_lengths(name, seconds):
    with pytest.raises(InvalidInput, match=f"{name} must be"):
        LoopBudget(5, **{name: seconds})


@pytest.mark.parametrize("factor", [0.99, float("nan"), float("inf"), 1001, True, "2"])
def test_impossible_factors(factor):
    with pytest.raises(InvalidInput, match="backoff_factor must be"):
        LoopBudget(5, backoff_factor=factor)


def test_the_first_pause_is_not_above_the_most():
    with pytest.raises(InvalidInput, match="first_backoff must be at most max_backoff"):
        LoopBudget(5, first_backoff=2, max_backoff=1)


def test_jitter_must_be_callable():
    with pytest.raises(InvalidInput, match="uniform must be callable"):
        LoopBudget(5, uniform=0.5)


@pytest.mark.parametrize("n", [0, -1, 6, 10**30, 1.0, True, None, "1"])
def test_batches_that_could_never_pass(clock, n):
    budget = LoopBudget(5, clock=clock)
    with pytest.raises(InvalidInput, match="n must be"):
        budget.consume(n)
    with pytest.raises(InvalidInput, match="n must be"):
        budget.retry_after(n)
    assert budget.utilization == 0.0


@pytest.mark.parametrize("years", [-200, -1, 1, 200])
def test_a_clock_that_jumps_never_sticks_it(clock, years):
    clock.set_ns(0)
    budget = LoopBudget(5, clock=clock)
    budget.consume(5)
    clock.advance(years * YEAR)
    if years < 0:
        assert not budget.can_proceed()
        assert budget.retry_after() <= 1.02
    clock.advance(1.02)
    assert budget.consume(5)


def test_threads_together_take_no_more_than_the_limit():
    clock = ManualClock()
    budget = LoopBudget(5_000, clock=clock)
    taken = []
    start = threading.Barrier(4)

    def work():
        start.wait()
        taken.append(sum(budget.consume() for _ in range(2_500)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sum(taken) == 5_000
    assert budget.utilization == 1.0
