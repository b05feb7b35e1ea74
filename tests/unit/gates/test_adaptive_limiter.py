"""The limiter of calls in flight: permits, outcomes, leases, bad input."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest
from anyio.lowlevel import checkpoint

from headgate.backpressure.aimd_limit import AimdLimit
from headgate.errors import CircuitOpen, InvalidInput, Overloaded
from headgate.gates.adaptive_limiter import AdaptiveLimiter
from headgate.gates.permits import Permit, PermitsOut
from headgate.testing import ManualClock

MS = 0.001


def fixed(limit=2, **settings):
    settings.setdefault("clock", ManualClock(start_ns=10**15))
    return AdaptiveLimiter("fixed", initial=limit, min=1, **settings)


def learning(algorithm="gradient", **settings):
    clock = ManualClock(start_ns=10**15)
    return AdaptiveLimiter(algorithm, clock=clock, **settings), clock


def calls(limiter, clock, count, seconds=10 * MS, outcome="succeeded"):
    """So many calls, one after the other, two windows' worth of time apart at the end."""
    for _ in range(count):
        permit = limiter.acquire_nowait()
        clock.advance(seconds)
        getattr(permit, outcome)()
    clock.advance(0.6)


# Permits ----------------------------------------------------------------------------------------


def test_as_many_as_the_limit_and_no_more():
    limiter = fixed(3)
    permits = [limiter.acquire_nowait() for _ in range(3)]
    with pytest.raises(Overloaded) as caught:
        limiter.acquire_nowait()
    decision = caught.value.decision
    assert (decision.allowed, decision.limit, decision.remaining) == (False, 3, 0)
    assert decision.policy == "concurrency"
    permits[1].succeeded()
    limiter.acquire_nowait()
    assert limiter.in_flight == 3


@pytest.mark.parametrize("end", ["succeeded", "ignored", "dropped"])
def test_a_permit_ends_once(end):
    limiter = fixed(2)
    permit = limiter.acquire_nowait()
    other = limiter.acquire_nowait()
    assert getattr(permit, end)()
    for again in ("succeeded", "ignored", "dropped"):
        assert not getattr(permit, again)()
    assert limiter.in_flight == 1
    assert other.held


def test_refusals_do_not_all_come_back_at_one_moment():
    chances = iter([0.0, 0.5, 0.999])
    limiter = fixed(1, uniform=lambda: next(chances))
    limiter.acquire_nowait()
    waits = []
    for _ in range(3):
        with pytest.raises(Overloaded) as caught:
            limiter.acquire_nowait()
        waits.append(caught.value.decision.retry_after)
    assert waits == pytest.approx([0.05, 0.1, 0.1499])


def test_after_long_calls_a_refusal_names_a_longer_wait():
    limiter, clock = learning(initial=4, max=4, uniform=lambda: 0.5)
    calls(limiter, clock, 40, seconds=2.0)
    for _ in range(4):
        limiter.acquire_nowait()
    with pytest.raises(Overloaded) as caught:
        limiter.acquire_nowait()
    assert caught.value.decision.retry_after == pytest.approx(2.0)


def test_stats():
    limiter = fixed(2, lease=5.0)
    limiter.acquire_nowait().dropped()
    limiter.acquire_nowait()
    limiter.clock.advance(5.0)
    limiter.acquire_nowait()
    limiter.acquire_nowait()
    with pytest.raises(Overloaded):
        limiter.acquire_nowait()
    assert repr(limiter.stats()) == (
        "LimiterStats(limit=2, in_flight=2, waiting=0, admitted=4, refused=1, dropped=1, expired=1, "
        "baseline=0)"
    )


# What is learnt from ----------------------------------------------------------------------------


def test_successes_make_it_grow_and_ignored_calls_do_not():
    limiter, clock = learning()
    calls(limiter, clock, 300, outcome="ignored")
    assert (limiter.limit, limiter.stats().baseline) == (16, 0.0)
    busy(limiter, clock)
    assert limiter.limit > 16
    assert limiter.stats().baseline == pytest.approx(0.01)


def busy(limiter, clock, rounds=250):
    for _ in range(rounds):
        permits = [limiter.acquire_nowait() for _ in range(limiter.limit)]
        clock.advance(10 * MS)
        for permit in permits:
            permit.succeeded()


def test_dropped_calls_make_it_shrink():
    limiter, clock = learning("aimd", initial=50)
    calls(limiter, clock, 40, outcome="dropped")
    assert limiter.limit < 50


@pytest.mark.parametrize(
    ("raised", "limit"),
    [
        (None, 50),
        (ValueError, 50),
        (KeyboardInterrupt, 50),
        (asyncio.CancelledError, 50),
        (GeneratorExit, 50),
        (TimeoutError, 45),
        (ConnectionError, 45),
    ],
)
def test_how_a_guarded_call_ends_is_told_by_what_it_raises(raised, limit):
    limiter, _ = learning("aimd", initial=50, drops=(TimeoutError, ConnectionError))
    guard = limiter.guard()
    if raised is None:
        with guard as permit:
            assert permit.held
    else:
        with pytest.raises(raised), guard:
            raise raised
    assert limiter.limit == limit
    assert limiter.in_flight == 0


@pytest.mark.parametrize("kind", [Overloaded, CircuitOpen])
def test_refusals_of_our_own_inside_of_a_guard_are_no_drops(kind):
    limiter, _ = learning("aimd", initial=50, drops=Exception)
    refused = fixed(1)
    refused.acquire_nowait()
    with pytest.raises(Overloaded) as caught:
        refused.acquire_nowait()
    with pytest.raises(kind), limiter.guard():
        raise kind(caught.value.decision, "x")
    assert limiter.limit == 50


def test_a_permit_that_was_ended_inside_of_its_guard_is_left_at_that():
    limiter, _ = learning("aimd", initial=50)
    with limiter.guard() as permit:
        permit.dropped()
    assert limiter.limit == 45
    with limiter.acquire_nowait() as permit:
        permit.ignored()
    assert limiter.in_flight == 0


def test_a_guard_is_for_one_call_at_a_time():
    limiter = fixed(5)
    guard = limiter.guard()
    with guard, pytest.raises(InvalidInput, match="one call at a time"), guard:
        pass
    assert limiter.in_flight == 0
    with guard:
        assert limiter.in_flight == 1


# Decorated --------------------------------------------------------------------------------------


def test_a_decorated_function_holds_a_permit_while_it_runs():
    limiter = fixed(1)

    @limiter
    def work(depth):
        assert limiter.in_flight == 1
        return work(depth - 1) if depth else "done"

    assert work(0) == "done"
    with pytest.raises(Overloaded):
        work(1)
    assert limiter.in_flight == 0
    assert work.__name__ == "work"


def test_what_cannot_be_called_cannot_be_decorated():
    with pytest.raises(InvalidInput, match="must be callable"):
        fixed(1)("work")


async def test_a_decorated_coroutine_function():
    limiter = fixed(1)

    @limiter.guard(timeout=1.0)
    async def work():
        await checkpoint()
        return limiter.in_flight

    assert await asyncio.gather(work(), work(), work()) == [1, 1, 1]
    assert limiter.in_flight == 0


async def test_a_decorated_generator_holds_it_from_its_first_value_to_its_end():
    limiter = fixed(2)

    @limiter
    def count():
        yield limiter.in_flight

    @limiter
    async def count_async():
        yield limiter.in_flight

    values = count()
    later = count_async()
    assert limiter.in_flight == 0
    assert next(values) == 1
    assert await anext(later) == 2
    values.close()
    await later.aclose()
    assert limiter.in_flight == 0


# Leases and clocks ------------------------------------------------------------------------------


def test_a_permit_that_nobody_ends_comes_back_after_its_lease():
    limiter = fixed(2, lease=10.0)
    lost = limiter.acquire_nowait()
    limiter.clock.advance(4.0)
    limiter.acquire_nowait()
    limiter.clock.advance(5.999)
    with pytest.raises(Overloaded):
        limiter.acquire_nowait()
    limiter.clock.advance(0.001)
    limiter.acquire_nowait()
    assert not lost.succeeded(), "its place is taken"
    assert limiter.in_flight == 2


def test_what_ends_after_its_lease_is_not_learnt_from():
    limiter, clock = learning("aimd", initial=4, min=1, lease=1.0)
    lost = limiter.acquire_nowait()
    clock.advance(1.0)
    assert limiter.in_flight == 0
    lost.dropped()
    assert limiter.limit == 4


YEAR = 365 * 86_400.0


@pytest.mark.parametrize("jump", [YEAR, -YEAR, 9 * YEAR, -9 * YEAR])
def test_a_clock_that_jumps_does_not_stick_it(jump):
    clock = ManualClock(start_ns=10 * 365 * 86_400 * 10**9)
    limiter = AdaptiveLimiter(initial=4, min=1, lease=10.0, clock=clock)
    lost = [limiter.acquire_nowait() for _ in range(limiter.limit)]
    clock.advance(jump)
    with_luck = 0
    for _ in range(3):
        clock.advance(10.0)
        permits = []
        while limiter.in_flight < limiter.limit:
            permits.append(limiter.acquire_nowait())
        with_luck += len(permits)
        for permit in permits:
            assert permit.succeeded()
    assert with_luck >= 3
    assert not any(permit.succeeded() for permit in lost)


def test_time_that_goes_back_and_forth_makes_no_permit_last_for_ever():
    clock = ManualClock(start_ns=10**18)
    limiter = fixed(3, lease=10.0, clock=clock)
    limiter.acquire_nowait()
    for step in (YEAR, -2 * YEAR):
        clock.advance(step)
        limiter.acquire_nowait()
    with pytest.raises(Overloaded):
        limiter.acquire_nowait()
    for _ in range(3):
        clock.advance(10.0)
        assert limiter.in_flight >= 0
    assert limiter.in_flight == 0


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "gradiant"},
        {"algorithm": None},
        {"algorithm": AimdLimit},
        {"algorithm": AimdLimit(5), "initial": 5},
        {"initial": 0},
        {"initial": -1},
        {"initial": 2.5},
        {"initial": True},
        {"initial": "9"},
        {"initial": 10**30},
        {"min": 0},
        {"min": 17},
        {"max": 15},
        {"max": 1_000_001},
        {"min": 10, "max": 9, "initial": 10},
        {"lease": 0},
        {"lease": -1},
        {"lease": float("nan")},
        {"lease": float("inf")},
        {"lease": True},
        {"lease": "60"},
        {"lease": None},
        {"max_waiting": 0},
        {"max_waiting": 1.5},
        {"drops": "TimeoutError"},
        {"drops": (TimeoutError, 5)},
        {"drops": None},
        {"name": ""},
        {"name": 5},
        {"uniform": 0.5},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InvalidInput):
        AdaptiveLimiter(**settings)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), True, "1", object()])
def test_impossible_timeouts_are_refused(timeout):
    limiter = fixed(1)
    with pytest.raises(InvalidInput, match="timeout must be"):
        limiter.acquire(timeout)
    with pytest.raises(InvalidInput, match="timeout must be"):
        limiter.guard(timeout)
    assert limiter.in_flight == 0


async def test_impossible_timeouts_are_refused_to_tasks_too():
    limiter = fixed(1)
    with pytest.raises(InvalidInput, match="timeout must be"):
        await limiter.acquire_async(float("nan"))
    assert limiter.in_flight == 0


@pytest.mark.parametrize(
    ("settings", "bounds"),
    [
        ({}, (4, 16, 1_000)),
        ({"initial": 2}, (2, 2, 1_000)),
        ({"initial": 5_000}, (4, 5_000, 5_000)),
        ({"initial": 6, "min": 6, "max": 6}, (6, 6, 6)),
    ],
)
def test_bounds_that_are_left_out(settings, bounds):
    rule = AdaptiveLimiter(**settings)._rule
    assert (rule.least, rule.limit, rule.most) == bounds


@pytest.mark.parametrize("algorithm", ["gradient", "vegas", "aimd", "fixed"])
def test_the_algorithms_by_name(algorithm):
    assert type(AdaptiveLimiter(algorithm)._rule).__name__.lower() == f"{algorithm}limit"


def test_a_rule_made_by_hand():
    rule = AimdLimit(10, 1, 20, timeout_ns=1_000)
    limiter, clock = learning(rule)
    permit = limiter.acquire_nowait()
    clock.advance(1.0)
    permit.succeeded()
    assert limiter.limit == 9


# Threads ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_threads_never_exceed_the_limit():
    limiter = AdaptiveLimiter("fixed", initial=3, min=1)
    inside = [0]
    worst = [0]
    guard = threading.Lock()

    def work():
        for _ in range(200):
            with limiter.guard(timeout=None):
                with guard:
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                with guard:
                    inside[0] -= 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "somebody was never woken"
    finally:
        sys.setswitchinterval(before)
    assert worst[0] <= 3
    stats = limiter.stats()
    assert (stats.in_flight, stats.waiting, stats.admitted) == (0, 0, 1_600)


def test_a_finalizer_may_end_a_permit_in_the_middle_of_anything():
    limiter = AdaptiveLimiter(initial=400, max=400)

    class Owner:
        def __init__(self):
            self.permit = limiter.acquire_nowait()
            self.self = self

        def __del__(self):
            self.permit.ignored()

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(300):
            Owner()
            gc.collect(0)
            limiter.acquire_nowait().succeeded()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert limiter.in_flight == 0


def test_a_permit_that_is_not_out_is_not_taken_back():
    # As when a finalizer ends a permit in the very moment in which its lease is found to be over.
    out = PermitsOut()
    one, other = Permit(fixed(1)), Permit(fixed(1))
    out.add(one, 0)
    out.add(other, 0)
    out.remove(one)
    out.remove(one)
    assert out.count == 1
    assert out.oldest is other
