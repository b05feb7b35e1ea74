"""The bounded loop against a list, under every overflow policy and with handlers that fail."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.gates.bounded_loop import BoundedLoop
from headgate.gates.loop_budget import LoopBudget
from headgate.testing import ManualClock

CAPACITY = 3
LIMIT = 4


class LoopMachine(RuleBasedStateMachine):
    """The model is a list and plain counts; the budget is asked of the budget's own machine."""

    @initialize(policy=st.sampled_from(["drop_oldest", "drop_newest", "custom"]))
    def make(self, policy):
        self.policy = policy
        self.clock = ManualClock()
        self.budget = LoopBudget(LIMIT, clock=self.clock)
        self.handled: list[int] = []
        self.spilled: list[int] = []
        overflow = self.spilled.append if policy == "custom" else policy
        self.loop = BoundedLoop(self.handle, self.budget, capacity=CAPACITY, overflow=overflow)
        self.model: list[int] = []
        self.expected: list[int] = []
        self.expected_spills: list[int] = []
        self.put_count = self.dropped = self.failed = self.pauses = 0

    def handle(self, item):
        self.handled.append(item)
        if item % 3 == 0:
            raise ValueError(item)
        if item % 7 == 0:
            self.put(item + 1)  # a handler may feed its own loop

    def put(self, item):
        self.put_count += 1
        full = len(self.model) == CAPACITY
        if not full or self.policy == "drop_oldest":
            del self.model[: int(full)]
            self.model.append(item)
        elif self.policy == "custom":
            self.expected_spills.append(item)
        self.dropped += full and self.policy != "custom"
        assert self.loop.put(item) == (not full or self.policy == "drop_oldest")

    @rule(item=st.integers(1, 1_000))
    def an_item_comes(self, item):
        self.put(item)

    @rule()
    def it_polls(self):
        may = self.budget.can_proceed()
        if self.model and may:
            item = self.model.pop(0)
            self.expected.append(item)
            self.failed += item % 3 == 0
            assert self.loop.poll()
        else:
            self.pauses += bool(self.model)
            assert not self.loop.poll()

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.02, -5, 1e8]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def both_agree(self):
        if not hasattr(self, "loop"):
            return
        stats = self.loop.stats()
        assert self.handled == self.expected
        assert self.spilled == self.expected_spills
        assert stats.waiting == len(self.model)
        assert stats.received == self.put_count
        assert stats.dropped == self.dropped
        assert stats.diverted == len(self.expected_spills)
        assert stats.failed == self.failed
        assert stats.handled == len(self.expected) - self.failed
        assert stats.pauses == self.pauses
        assert stats.waiting <= stats.peak <= CAPACITY


TestLoopMachine = pytest.mark.slow(LoopMachine.TestCase)
