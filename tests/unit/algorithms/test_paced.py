"""Limits at another pace than that of the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.algorithms import build
from headgate.algorithms.paced import Paced
from headgate.decision import NEVER
from headgate.rate import Rate

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
NAMES = [
    "token_bucket",
    "leaky_bucket",
    "leaky_bucket_queue",
    "sliding_window_log",
    "sliding_window_counter",
    "fixed_window",
    "dual",
]


def paced(rate="10/second", name="token_bucket", *, pace=1000, now=0):
    algorithm = Paced(build(name, Rate.parse(rate)), now)
    algorithm.set_pace(pace, now)
    return algorithm


def spend(algorithm, state, now, most=10**6):
    """As much as passes at this moment: how much, and the state."""
    count = 0
    while count < most and algorithm.wait(state, 1, now) == 0:
        state = algorithm.consume(state, 1, now)
        count += 1
    return count, state


@pytest.mark.parametrize(("pace", "wait"), [(1000, 100), (500, 200), (2000, 50), (250, 400)])
def test_a_token_takes_longer_at_a_lower_pace(pace, wait):
    algorithm = paced(pace=pace)
    _, state = spend(algorithm, None, 0)
    assert algorithm.wait(state, 1, 0) == wait * 1_000_000
    assert algorithm.limit == 10 * pace // 1000
    assert algorithm.reset(state, 0) == 10 * wait * 1_000_000


def test_what_can_never_pass_never_can():
    assert paced(pace=2000).wait(None, 11, 0) == NEVER


def test_a_limit_is_never_zero():
    assert paced("2/second", pace=250).limit == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_change_neither_gives_nor_takes(name):
    algorithm = paced("10/second", name)
    state = None
    for now in (0, SECOND // 3, SECOND // 2):
        for _ in range(2):
            state = algorithm.consume(state, 1, now)
    before = [f(state, now) for f in (algorithm.remaining, algorithm.used)]
    for pace in (250, 2000, 999, 1000, 1, 250):
        algorithm.set_pace(pace, now)
        assert [f(state, now) for f in (algorithm.remaining, algorithm.used)] == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pace", [250, 333, 1000, 1999])
def test_over_a_long_time_it_admits_at_its_rate(name, pace):
    def admitted(algorithm, seconds):
        state = None
        total = 0
        for step in range(int(50 * seconds)):
            count, state = spend(algorithm, state, step * SECOND // 50)
            total += count
        return total

    # A sliding-window counter that is asked all the time admits a tenth less than its limit.
    own = admitted(build(name, Rate.parse("10/second")), 60 * pace / 1000)
    assert admitted(paced("10/second", name, pace=pace), 60) == pytest.approx(own, rel=0.05, abs=3)


steps = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 2000), st.integers(0, 4), st.booleans()),
    max_size=25,
)


@given(name=st.sampled_from(NAMES), history=steps, start=st.integers(0, 2**57))
def test_a_wait_is_the_least_that_works_and_the_rate_is_never_exceeded(name, history, start):
    algorithm = paced("7/second", name, now=start)
    state: object = None
    now = start
    own = 0.0
    admitted = 0
    for pause, pace, cost, changes in history:
        own += pause * algorithm.pace / 1000
        now += pause
        if changes:
            algorithm.set_pace(pace, now)
        wait = algorithm.wait(state, cost, now)
        if wait == 0:
            state = algorithm.consume(state, cost, now)
            admitted += cost
        elif wait != NEVER:
            assert algorithm.wait(state, cost, now + wait) == 0
            assert algorithm.wait(state, cost, now + wait - 1) > 0
        reset = algorithm.reset(state, now)
        assert algorithm.reset(state, now + reset) == 0
        # No algorithm admits more than two windows' worth beside what its own time brings.
        assert admitted <= 14 + 2 * 7 * own / SECOND


@pytest.mark.parametrize("name", NAMES)
def test_a_clock_that_went_back_makes_nobody_wait_for_ever(name):
    algorithm = paced("10/second", name, now=10 * HOUR)
    algorithm.set_pace(250, 10 * HOUR)
    _, state = spend(algorithm, None, 10 * HOUR)
    for now in (9 * HOUR, 0):
        assert algorithm.wait(state, 1, now) <= 9 * SECOND
        assert algorithm.wait(state, 1, now + 9 * SECOND) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_is_in_real_time(name):
    algorithm = paced("10/second", name)
    for hour in range(10):  # slow for ten hours, and looked at now and then
        algorithm.set_pace(250, hour * HOUR)
    now = 9 * HOUR
    _, state = spend(algorithm, None, now)
    values = algorithm.dump(state, 0)
    fresh = paced("10/second", name)
    assert fresh.remaining(fresh.load(values, 0), now) == 0
    assert fresh.remaining(fresh.load(values, 0), now + 2 * SECOND) > 8
    again = algorithm.load(algorithm.dump(state, 0), 0)
    assert algorithm.remaining(again, now) == 0


def test_a_refund_of_what_was_spent_before_the_change():
    algorithm = paced("10/second", pace=500)
    _, state = spend(algorithm, None, 0)
    algorithm.set_pace(1500, SECOND // 10)
    state = algorithm.refund(state, 5, SECOND // 10, 0)
    assert algorithm.remaining(state, SECOND // 10) == 5


def test_a_refund_looks_for_the_window_in_own_time():
    algorithm = paced(name="fixed_window", pace=500)
    state = algorithm.consume(None, 7, 10 * SECOND + 1)
    state = algorithm.refund(state, 7, 10 * SECOND + 2, 10 * SECOND + 1)
    assert algorithm.remaining(state, 10 * SECOND + 3) == 10


def test_what_cannot_be_paced():
    assert not build("concurrency", Rate.parse("5/second")).can_be_paced()
    assert not build("fixed_window", Rate.parse("5/day tz=Europe/Paris")).can_be_paced()
    assert all(build(name, Rate.parse("5/second")).can_be_paced() for name in NAMES)
