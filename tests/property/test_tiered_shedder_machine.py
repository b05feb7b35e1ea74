"""The tiered shedder against a naive model that keeps every level and computes with fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.errors import Overloaded
from headgate.gates.load_shedder import LoadShedder
from headgate.testing import ManualClock

PERIOD = 100_000_000
CAPACITY = 50
# 20 ms of work, or three times what chance makes of 100 ms, whichever is more.
TARGET = max(Fraction(CAPACITY, 50), 3 * Fraction((CAPACITY / 10) ** 0.5))


class Naive:
    """The definition, as slow and as plainly right as possible."""

    def __init__(self) -> None:
        self.weights: dict[int, Fraction] = {}
        self.arrivals: list[int] = []
        self.passed = 0
        self.ratio = Fraction(0)

    def admits(self, level: int, queue: int, chance: Fraction) -> bool:
        self.arrivals.append(level)
        if not self.lets_pass(level, chance):
            return False
        self.passed += 1
        return queue < 5

    def lets_pass(self, level: int, chance: Fraction) -> bool:
        wanted = (1 - self.ratio) * sum(self.weights.values())
        below = sum((w for each, w in self.weights.items() if each < level), Fraction(0))
        own = self.weights.get(level, Fraction(0))
        lowest_1_percent = level >= 384 and chance < Fraction(1, 100)
        if self.ratio == 0 or below + own <= wanted:
            return True
        if below > wanted:
            return lowest_1_percent
        return chance < (wanted - below) / own or lowest_1_percent

    def correct(self, queue: int, completed: int) -> None:
        count = len(self.arrivals)
        if count == 0:
            if queue <= TARGET:
                self.ratio = Fraction(0)
        else:
            error = Fraction(self.passed - completed) + (queue - TARGET) / 2
            error = min(max(error / count, Fraction(-1)), Fraction(1))
            self.ratio = min(max(self.ratio + error / 2, Fraction(0)), Fraction(99, 100))
            for level in self.arrivals:
                self.weights[level] = self.weights.get(level, Fraction(0)) + 1
            whole = sum(self.weights.values())
            kept = min(whole, max(1000, 10 * count))
            self.weights = {level: w * kept / whole for level, w in self.weights.items()}
        self.arrivals = []
        self.passed = 0


class TieredMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_ns=10**15)
        self.chance = 0.0
        self.shedder = LoadShedder(
            capacity=float(CAPACITY),
            max_queue=5,
            seats=2,
            clock=self.clock,
            uniform=lambda: self.chance,
        )
        self.naive = Naive()
        self.inside: list[object] = []
        self.let_in = 0
        self.inside_then = 0
        with self.shedder.guard(0):  # the first call starts the first period
            pass
        self.let_in = 1
        self.naive.admits(0, 0, Fraction(0))

    @rule(
        tier=st.integers(0, 3),
        count=st.integers(1, 30),
        percent=st.integers(0, 99),
    )
    def arrive(self, tier, count, percent):
        self.chance = percent / 100 + 0.003
        for _ in range(count):
            queue = max(0, len(self.inside) - 2)
            expected = self.naive.admits(128 * tier, queue, Fraction(self.chance))
            guard = self.shedder.guard(tier)
            try:
                guard.__enter__()
            except Overloaded:
                assert not expected
            else:
                assert expected
                self.inside.append(guard)
                self.let_in += 1

    @precondition(lambda self: self.inside)
    @rule(count=st.integers(1, 10))
    def leave(self, count):
        for _ in range(min(count, len(self.inside))):
            self.inside.pop().__exit__(None, None, None)

    @rule(periods=st.integers(1, 3))
    def time_passes(self, periods):
        for _ in range(periods):
            self.clock.advance_ns(PERIOD)
            self.shedder.refresh()
            completed = max(0, self.let_in - (len(self.inside) - self.inside_then))
            self.naive.correct(max(0, len(self.inside) - 2), completed)
            self.let_in = 0
            self.inside_then = len(self.inside)

    @invariant()
    def agrees(self):
        stats = self.shedder.stats()
        assert abs(Fraction(stats.part_shed) - self.naive.ratio) < Fraction(1, 10**9)
        assert stats.in_guards == len(self.inside)


TestTieredMachine = TieredMachine.TestCase
TestTieredMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
