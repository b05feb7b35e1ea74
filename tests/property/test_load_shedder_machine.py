"""The simple rules of the load shedder, as a program meets them, against naive models of each."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.gates.load_shedder import LoadShedder
from headgate.priority import PRIORITIES
from headgate.testing import ManualClock

MULTIPLIERS = (0.25, 0.5, 1.0, 1.0)
THRESHOLD, RATE, MOST = 0.75, 0.5, 50


class ShedderMachine(RuleBasedStateMachine):
    """All modes at once, before the same arrivals."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_ns=10**15)
        self.chance = 0.5
        self.waiting = 0
        self.load = 0.0
        self.seen_load = 0.0
        self.level = 0.0
        self.looked_at: int | None = None
        self.shed = {mode: dict.fromkeys(PRIORITIES, 0) for mode in ("queue", "load", "pressure")}
        common = {"clock": self.clock, "uniform": lambda: self.chance}
        by_load = {
            "load": lambda: self.load,
            "threshold": THRESHOLD,
            "rate": RATE,
            "multipliers": MULTIPLIERS,
        }
        self.shedders = {
            "queue": LoadShedder("queue", queue=lambda: self.waiting, max_queue=MOST, **common),
            "load": LoadShedder("load", **by_load, **common),
            "pressure": LoadShedder("pressure", **by_load, **common),
        }

    @initialize()
    def begin(self):
        self.ask(0, 0.5)

    @rule(waiting=st.integers(0, 3 * MOST))
    def queue_changes(self, waiting):
        self.waiting = waiting

    @rule(load=st.floats(0.0, 2.0))
    def load_changes(self, load):
        self.load = load

    @rule(milliseconds=st.integers(0, 400))
    def time_passes(self, milliseconds):
        self.clock.advance_ns(milliseconds * 1_000_000)

    @rule(milliseconds=st.integers(1, 10**12))
    def the_clock_goes_back(self, milliseconds):
        self.clock.advance_ns(-milliseconds * 1_000_000)

    @rule(tier=st.integers(0, 3), chance=st.floats(0.0, 1.0, exclude_max=True))
    def ask(self, tier, chance):
        self.chance = chance
        self.look()
        parts = {
            "queue": min(max(self.waiting / MOST - 1.0, 0.0), 1.0),
            "load": min(max((self.seen_load - THRESHOLD) * RATE * MULTIPLIERS[tier], 0.0), 1.0),
            "pressure": min(self.level * MULTIPLIERS[tier], 0.99),
        }
        for mode, part in parts.items():
            decision = self.shedders[mode].allow(tier)
            if abs(chance - part) > 1e-9 or part == 0.0:
                assert decision.allowed == (chance >= part), (mode, part)
            if decision.allowed:
                assert decision.retry_after_ns == 0
            else:
                self.shed[mode][PRIORITIES[tier]] += 1
                assert decision.retry_after == pytest.approx(0.5 + chance)

    def look(self) -> None:
        """What the shedders do when a call finds that their last look is 100 ms old."""
        now = self.clock.now_ns()
        elapsed = 100_000_000 if self.looked_at is None else now - self.looked_at
        if 0 <= elapsed < 100_000_000:
            return
        self.seen_load = self.load
        # The first look, and one after the clock went back, count as one period.
        steps = 1.0 if elapsed < 0 else min(elapsed / 100_000_000, 10.0)
        excess = self.load - THRESHOLD
        if excess >= 0.0:
            self.level += excess * RATE
        else:
            self.level = (self.level + steps * excess * RATE) * 0.9**steps
        self.level = min(max(self.level, 0.0), 1.0)
        self.looked_at = now

    @invariant()
    def counts_agree(self):
        for mode, shedder in self.shedders.items():
            assert shedder.stats().shed == self.shed[mode]
            assert shedder.stats().in_guards == 0


TestShedderMachine = ShedderMachine.TestCase
TestShedderMachine.settings = settings(deadline=None, max_examples=50, stateful_step_count=40)
