"""A clock that stands still or goes back does no harm."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER
from tests.property.setups import NAMES, Setup, costs, pauses, setups

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_after_a_step_back_nothing_passes_that_a_new_key_would_not_have(
    name: str, data: st.DataObject
) -> None:
    """The model starts as new with each step back: what it admits is the definition in the new time."""
    setup = data.draw(setups(name, small=True))
    algorithm, model = setup.algorithm(), setup.model()
    state: object = None
    now = data.draw(st.integers(0, 20 * setup.longest_ns))
    for _ in range(data.draw(st.integers(5, 30))):
        back = data.draw(st.integers(0, 3)) == 0
        pause = data.draw(pauses(setup.longest_ns))
        if back and 0 < pause <= now:
            now -= pause
            model = setup.model()
        else:
            now += pause
        cost = data.draw(costs(algorithm.capacity))
        wait = algorithm.wait(state, cost, now)
        check_wait(setup, state, cost, now, wait)
        if wait == 0:
            assert model.passes(cost, now)
            state = algorithm.consume(state, cost, now)
            model.spend(cost, now)


def check_wait(setup: Setup, state: object, cost: int, now: int, wait: int) -> None:
    """Exact as ever, and bounded, whatever the clock did before."""
    algorithm = setup.algorithm()
    state = copy.deepcopy(state)
    if cost > algorithm.capacity:
        assert wait == NEVER
        return
    # Of a pair, one part may come to believe its state when the other has just waited for its own.
    windows = 4 if "dual" in setup.name else 2
    assert 0 <= wait <= windows * setup.longest_ns
    assert algorithm.wait(state, cost, now + wait) == 0
    assert wait == 0 or algorithm.wait(state, cost, now + wait - 1) > 0
    remaining = algorithm.remaining(state, now)
    assert 0 <= remaining <= algorithm.capacity
    assert algorithm.wait(state, remaining, now) == 0
    assert algorithm.wait(state, remaining + 1, now) != 0
    reset = algorithm.reset(state, now)
    assert 0 <= reset <= 2 * setup.longest_ns
    assert algorithm.remaining(state, now + reset) == algorithm.capacity or windows == 4


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_reading_that_comes_late_gains_nothing(name: str, data: st.DataObject) -> None:
    """Two threads read the clock, and the later reading decides first."""
    setup = data.draw(setups(name, small=True))
    algorithm = setup.algorithm()
    now = data.draw(st.integers(setup.window_ns, 20 * setup.window_ns))
    state = algorithm.consume(None, algorithm.capacity, now)
    late = now - data.draw(st.integers(0, min(setup.window_ns, algorithm.reset(state, now)) - 1))
    assert algorithm.wait(state, 1, late) > 0
    assert algorithm.remaining(state, late) == 0


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_clock_that_stands_still_admits_the_capacity_once(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name, small=True))
    algorithm = setup.algorithm()
    now = data.draw(st.integers(0, 20 * setup.window_ns))
    state: object = None
    total = 0
    for _ in range(100):
        cost = data.draw(st.integers(1, algorithm.capacity))
        if algorithm.wait(state, cost, now) == 0:
            state = algorithm.consume(state, cost, now)
            total += cost
        if total == algorithm.capacity:
            break
    assert total <= algorithm.capacity
    assert algorithm.remaining(state, now) == algorithm.capacity - total
