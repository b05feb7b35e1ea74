"""The keyed table against a reference that remembers everything for ever."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from headgate.decision import Decision
from headgate.engine.table import KeyedTable
from headgate.testing import ManualClock
from tests.support.limits import NAMES, algorithm, assert_in_step, keyspace, tracked

RATES = ("3/second", "5/7s", "2/hour", "1/ms")
KEYS = st.sampled_from([f"key {n}" for n in range(12)])
COSTS = st.integers(0, 6)
# Most looks that keeping one new key may take: two to tidy up, sixteen to find room.
LOOKS = 18


class Reference:
    """One limit with unbounded memory."""

    def __init__(self, rate: str, name: str) -> None:
        self.algorithm = algorithm(rate, name)
        self.states: dict[str, object] = {}

    def decide(self, key: str, cost: int, now: int, *, spend: bool) -> Decision:
        state = self.states.get(key)
        wait = self.algorithm.wait(state, cost, now)
        delay = 0 if wait else self.algorithm.delay(state, cost, now)
        if spend and wait == 0 and cost > 0:
            state = self.states[key] = self.algorithm.consume(state, cost, now)
        elif spend:
            delay = 0
        remaining = self.algorithm.remaining(state, now)
        reset = self.algorithm.reset(state, now)
        limit, window = self.algorithm.limit, self.algorithm.window_ns
        return Decision(wait == 0, limit, remaining, wait, reset, delay, "test", window)

    def refund(self, key: str, cost: int, now: int) -> None:
        state = self.states.get(key)
        if state is not None:
            self.states[key] = self.algorithm.refund(state, cost, now, now)


class Machine(RuleBasedStateMachine):
    max_keys = 200

    @initialize(
        limits=st.lists(
            st.tuples(st.sampled_from(RATES), st.sampled_from(NAMES)), min_size=1, max_size=3
        )
    )
    def build(self, limits):
        self.clock = ManualClock()
        self.table = KeyedTable(self.max_keys)
        self.spaces = [keyspace(self.table, rate, name) for rate, name in limits]
        self.references = [Reference(rate, name) for rate, name in limits]

    def pick(self, number: int) -> tuple:
        place = number % len(self.spaces)
        return self.spaces[place], self.references[place]

    @rule(nanoseconds=st.sampled_from([0, 1, 10**6, 10**8, 10**9, 7 * 10**9, 4000 * 10**9]))
    def wait(self, nanoseconds):
        self.clock.advance_ns(nanoseconds)

    @rule(number=st.integers(0, 2), key=KEYS, cost=COSTS)
    def check(self, number, key, cost):
        space, reference = self.pick(number)
        now = self.clock.now_ns()
        before = self.table.looks
        answer = space.check(key, cost, now)
        assert self.table.looks - before <= LOOKS
        self.same(answer, reference.decide(key, cost, now, spend=True))

    @rule(number=st.integers(0, 2), key=KEYS, cost=COSTS)
    def peek(self, number, key, cost):
        space, reference = self.pick(number)
        now = self.clock.now_ns()
        self.same(space.peek(key, cost, now), reference.decide(key, cost, now, spend=False))

    @rule(number=st.integers(0, 2), key=KEYS, cost=COSTS)
    def refund(self, number, key, cost):
        space, reference = self.pick(number)
        now = self.clock.now_ns()
        space.refund(key, cost, now, now)
        reference.refund(key, cost, now)

    @rule(number=st.integers(0, 2), key=KEYS)
    def clear(self, number, key):
        space, reference = self.pick(number)
        space.clear(key)
        reference.states.pop(key, None)

    def same(self, answer: Decision, expected: Decision) -> None:
        assert answer == expected

    @invariant()
    def books_are_in_step(self):
        if hasattr(self, "table"):
            assert_in_step(self.table, self.spaces)


class AtTheCap(Machine):
    """Too small a table: answers may differ, and the bounds may not."""

    max_keys = 9

    def same(self, answer: Decision, expected: Decision) -> None:
        assert answer.limit == expected.limit

    @rule(number=st.integers(0, 2), seed=st.integers(0, 10**6), cost=st.integers(1, 3))
    def flood(self, number, seed, cost):
        space, _ = self.pick(number)
        now = self.clock.now_ns()
        limited = [
            (each, key)
            for each in self.spaces
            for key in tracked(each)
            if each.remaining_of(key, now) == 0 < each.reset_of(key, now)
        ]
        for n in range(30):
            space.check(f"random {seed} {n}", cost, now)
        for each, key in limited:
            assert key in tracked(each)
            assert each.remaining_of(key, now) == 0

    @rule(back=st.sampled_from([1, 10**9, 10**11]))
    @precondition(lambda self: self.clock.now_ns() > 0)
    def go_back(self, back):
        self.clock.set_ns(max(0, self.clock.now_ns() - back))

    @invariant()
    def it_is_bounded(self):
        if hasattr(self, "table"):
            assert len(self.table) <= self.max_keys


Machine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
AtTheCap.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestBelowTheCap = pytest.mark.slow(Machine.TestCase)
TestAtTheCap = pytest.mark.slow(AtTheCap.TestCase)
