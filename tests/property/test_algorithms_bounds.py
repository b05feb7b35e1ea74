"""What each definition promises over any stretch of time, counted out for every stretch there is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.algorithms.token_bucket import TokenBucket
from tests.property.setups import SECOND, Setup, setups, starts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


class Admitted:
    """One admission: its time, its cost and the delay that it was told."""

    def __init__(self, at: int, cost: int, delay: int) -> None:
        self.at = at
        self.cost = cost
        self.delay = delay


def greedy(data: st.DataObject, setup: Setup) -> list[Admitted]:
    """Traffic that presses against the limit: most asks come just when they may pass."""
    algorithm = setup.algorithm()
    state: object = None
    now = data.draw(starts())
    admitted = []
    for _ in range(data.draw(st.integers(5, 40))):
        cost = data.draw(st.integers(1, max(1, algorithm.capacity // 2)))
        wait = algorithm.wait(state, cost, now)
        if data.draw(st.integers(0, 4)) > 0:
            now += wait  # the least wait
        else:
            now += data.draw(st.integers(0, setup.window_ns))
        if algorithm.wait(state, cost, now) == 0:
            admitted.append(Admitted(now, cost, algorithm.delay(state, cost, now)))
            state = algorithm.consume(state, cost, now)
    return admitted


def stretches(admitted: list[Admitted]) -> Iterator[tuple[int, int]]:
    """For every stretch from one admission to another: how long it is, and what it admitted."""
    for place, first in enumerate(admitted):
        total = 0
        for last in admitted[place:]:
            total += last.cost
            yield last.at - first.at, total


@pytest.mark.parametrize("name", ["token_bucket", "leaky_bucket", "leaky_bucket_queue", "dual"])
@given(data=st.data())
def test_a_bucket_admits_its_capacity_and_what_flows_in(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name, small=True))
    capacity = Fraction(setup.capacity)
    if setup.max_delay_ns is not None:
        capacity = 1 + Fraction(setup.max_delay_ns * setup.limit, setup.window_ns)
    for length, total in stretches(greedy(data, setup)):
        assert total <= capacity + Fraction(length * setup.limit, setup.window_ns)


@pytest.mark.parametrize("name", ["sliding_window_log", "concurrency", "dual"])
@given(data=st.data())
def test_no_window_holds_more_than_the_limit(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name, small=True))
    for length, total in stretches(greedy(data, setup)):
        if length < setup.window_ns:
            assert total <= setup.limit


@given(data=st.data())
def test_a_counter_holds_its_two_promises(data: st.DataObject) -> None:
    setup = data.draw(setups("sliding_window_counter", small=True))
    slot_ns = -(-setup.window_ns // setup.granularity)
    for length, total in stretches(greedy(data, setup)):
        if length < slot_ns * (setup.granularity - 1):
            assert total <= setup.limit
        if length < slot_ns * setup.granularity:
            assert total <= 2 * setup.limit


@given(data=st.data())
def test_a_fixed_window_holds_its_limit(data: st.DataObject) -> None:
    setup = data.draw(setups("fixed_window", small=True))
    totals: dict[int, int] = {}
    for admitted in greedy(data, setup):
        window = (admitted.at + setup.wall_offset_ns) // setup.window_ns
        totals[window] = totals.get(window, 0) + admitted.cost
    assert all(total <= setup.limit for total in totals.values())


@given(data=st.data())
def test_a_queue_lets_out_one_token_every_interval(data: st.DataObject) -> None:
    setup = data.draw(setups("leaky_bucket_queue", small=True))
    interval = Fraction(setup.window_ns, setup.limit)
    admitted = greedy(data, setup)
    for one, following in pairwise(admitted):
        # Delays are rounded up to whole nanoseconds, so a gap may be short of that rounding.
        gap = (following.at + following.delay) - (one.at + one.delay)
        assert gap > one.cost * interval - 1
    if setup.max_delay_ns is not None:
        assert all(one.delay <= setup.max_delay_ns for one in admitted)


@pytest.mark.parametrize("limit", [997, 999_983, 17, 31, 10**9 - 1])
@pytest.mark.parametrize("hours", [1, 24])
def test_awkward_rates_are_a_little_slow_and_never_fast(limit: int, hours: int) -> None:
    """T is rounded up by less than 1/16 ns per token."""
    algorithm = TokenBucket(limit, SECOND, limit)
    state = algorithm.consume(None, limit, 0)
    tokens = limit * 3600 * hours
    exact = Fraction(tokens * SECOND, limit)
    # Spend all, as fast as it comes back, in as few steps as the capacity allows.
    now = 0
    for _ in range(100):
        now += algorithm.wait(state, limit, now)
        state = algorithm.consume(state, limit, now)
    exact = Fraction(100 * limit * SECOND, limit)
    assert exact <= now < exact + Fraction(100 * limit, 16) + 100
