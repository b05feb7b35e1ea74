"""Every algorithm answers as its naive model does, whatever the history."""

from __future__ import annotations

import copy
import json
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER
from tests.property.setups import NAMES, Setup, costs, later, pauses, setups, starts

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from tests.property.models import Model

pytestmark = pytest.mark.slow

STEPS = 25


class History:
    """An algorithm and its model that live through the same, and are compared at every step."""

    def __init__(self, setup: Setup, now: int) -> None:
        self.setup = setup
        self.algorithm: Algorithm = setup.algorithm()
        self.model: Model = setup.model()
        self.state: object = None
        self.now = now
        self.grants: list[int] = []

    def spend(self, cost: int) -> None:
        wait = self.algorithm.wait(self.state, cost, self.now)
        self.check_wait(cost, wait)
        if wait == 0:
            delay = self.algorithm.delay(self.state, cost, self.now)
            assert delay == ceil(self.model.delay(self.now))
            self.state = self.algorithm.consume(self.state, cost, self.now)
            self.model.spend(cost, self.now)
            self.grants.append(self.now)

    def refund(self, cost: int, granted_at: int) -> None:
        self.state = self.algorithm.refund(self.state, cost, self.now, granted_at)
        self.model.refund(cost, self.now, granted_at)

    def check_wait(self, cost: int, wait: int) -> None:
        if cost > self.model.capacity:
            assert wait == NEVER
        elif self.model.passes(cost, self.now):
            assert wait == 0
        else:
            assert wait > 0
            assert self.model.passes(cost, self.now + wait)
            assert not self.model.passes(cost, self.now + wait - 1)

    def check(self) -> None:
        before = copy.deepcopy(self.state)
        assert self.algorithm.capacity == self.model.capacity
        remaining = self.algorithm.remaining(self.state, self.now)
        assert remaining == self.model.remaining(self.now)
        if not self.setup.name.startswith("dual"):
            assert self.algorithm.used(self.state, self.now) == self.model.capacity - remaining
        for cost in (0, 1, remaining, remaining + 1, self.model.capacity):
            self.check_wait(cost, self.algorithm.wait(self.state, cost, self.now))
        self.check_reset(self.algorithm.reset(self.state, self.now))
        assert self.state == before  # looking changes nothing

    def check_reset(self, reset: int) -> None:
        assert reset >= 0
        assert self.model.is_fresh(self.now + reset)
        if reset > 0:
            assert not self.model.is_fresh(self.now + reset - 1)
            return
        # Nothing tells this state from that of a key never seen.
        state, algorithm = copy.deepcopy(self.state), self.algorithm
        for pause in (0, 1, self.setup.window_ns):
            at = self.now + pause
            for cost in (1, self.model.capacity):
                assert algorithm.wait(state, cost, at) == algorithm.wait(None, cost, at)
            state = algorithm.consume(state, 1, at)
            assert self.answers(algorithm, state, at) == self.answers(
                algorithm, algorithm.consume(None, 1, at), at
            )
            state = algorithm.refund(state, 1, at, at)

    def check_snapshot(self, shift_ns: int) -> None:
        """The state goes through JSON onto a clock with another origin, and says the same there."""
        if self.state is None:
            return
        other = self.setup.algorithm(shift_ns)
        offset = self.setup.wall_offset_ns
        dumped = json.loads(json.dumps(self.algorithm.dump(self.state, offset)))
        loaded = other.load(dumped, offset + shift_ns)
        assert self.answers(other, loaded, self.now - shift_ns) == self.answers(
            self.algorithm, self.state, self.now
        )

    @staticmethod
    def answers(algorithm: Algorithm, state: object, now: int) -> tuple[int, ...]:
        capacity = algorithm.capacity
        return (
            algorithm.wait(state, 1, now),
            algorithm.wait(state, capacity, now),
            algorithm.delay(state, 1, now),
            algorithm.remaining(state, now),
            algorithm.used(state, now),
            algorithm.reset(state, now),
        )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_answers_as_the_model(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name))
    history = History(setup, data.draw(starts()))
    capacity = history.algorithm.capacity
    for _ in range(data.draw(st.integers(1, STEPS))):
        history.now = later(history.now, data.draw(pauses(setup.longest_ns)), setup)
        cost = data.draw(costs(capacity))
        if history.grants and data.draw(st.integers(0, 3)) == 0:
            history.refund(cost, data.draw(st.sampled_from([*history.grants[-4:], history.now])))
        else:
            history.spend(cost)
        history.check()
        history.check_snapshot(
            data.draw(st.sampled_from([0, min(1, history.now), history.now // 2, history.now]))
        )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_refund_never_yields_more_than_all(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name))
    algorithm = setup.algorithm()
    state: object = None
    now = data.draw(starts())
    for _ in range(data.draw(st.integers(1, 6))):
        cost = min(data.draw(costs(algorithm.capacity)), algorithm.remaining(state, now))
        state = algorithm.consume(state, cost, now)
        now = later(now, data.draw(pauses(setup.window_ns // 4)), setup)
        before = algorithm.remaining(state, now)
        cost = data.draw(st.one_of(costs(algorithm.capacity), st.just(10**12)))
        state = algorithm.refund(state, cost, now, now)
        assert before <= algorithm.remaining(state, now) <= min(algorithm.capacity, before + cost)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_an_old_grant_gives_nothing_back(name: str, data: st.DataObject) -> None:
    setup = data.draw(setups(name))
    algorithm = setup.algorithm()
    granted_at = data.draw(starts())
    now = granted_at + setup.longest_ns
    state = algorithm.consume(algorithm.consume(None, 1, granted_at), 1, now)
    reset = algorithm.reset(state, now)
    assert algorithm.reset(algorithm.refund(state, 1, now, granted_at), now) == reset
