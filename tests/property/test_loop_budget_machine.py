"""The loop budget against a model that remembers every iteration."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.clock import NS_PER_SECOND
from headgate.gates.loop_budget import LoopBudget
from headgate.testing import ManualClock

LIMIT = 7
WINDOW = 640
SLOT = 10


class BudgetMachine(RuleBasedStateMachine):
    """The model keeps (earliest, latest, count) for ever, and looks at all of it each time.

    The two moments differ only for what was taken before the clock went back: it counts at least as long
    as its age says, and at most as if it were taken when the clock went back.
    """

    def __init__(self):
        super().__init__()
        self.clock = ManualClock(start_ns=12_345)
        self.budget = LoopBudget(LIMIT, WINDOW / NS_PER_SECOND, clock=self.clock)
        self.taken: list[tuple[int, int, int]] = []

    def surely_held(self, now: int) -> int:
        return sum(count for earliest, _, count in self.taken if earliest > now - WINDOW)

    def possibly_held(self, now: int) -> int:
        return sum(count for _, latest, count in self.taken if latest > now - WINDOW - SLOT)

    @rule(ns=st.integers(0, 3 * SLOT) | st.integers(0, 2 * WINDOW) | st.just(10**16))
    def time_passes(self, ns):
        self.clock.advance_ns(ns)

    @rule(ns=st.sampled_from([1, SLOT, WINDOW, 10**16]))
    def the_clock_goes_back(self, ns):
        self.clock.advance_ns(-ns)
        now = self.clock.now_ns()
        self.taken = [
            (earliest - ns, max(latest - ns, now), count) for earliest, latest, count in self.taken
        ]

    @rule(count=st.integers(1, LIMIT))
    def take(self, count):
        now = self.clock.now_ns()
        surely = self.possibly_held(now) + count <= LIMIT
        possibly = self.surely_held(now) + count <= LIMIT
        passed = self.budget.consume(count)
        assert surely <= passed <= possibly
        if passed:
            self.taken.append((now, now, count))

    @rule(count=st.integers(1, LIMIT))
    def waiting_as_told_is_enough_and_not_too_much(self, count):
        wait = round(self.budget.retry_after(count) * NS_PER_SECOND)
        assert wait <= WINDOW + SLOT
        if wait > 0:
            self.clock.advance_ns(wait - 1)
            assert not self.budget.consume(count)
            self.clock.advance_ns(1)
        self.take(count)
        assert self.taken[-1] == (self.clock.now_ns(), self.clock.now_ns(), count)

    @invariant()
    def no_window_holds_more_than_the_limit(self):
        assert self.surely_held(self.clock.now_ns()) <= LIMIT

    @invariant()
    def utilization_is_a_share(self):
        assert 0.0 <= self.budget.utilization <= 1.0
        assert self.budget.can_proceed() == (self.budget.utilization < 1.0)


TestBudgetMachine = pytest.mark.slow(BudgetMachine.TestCase)
