"""A limiter whose rate follows the pressure, against buckets that are filled by hand, in fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.gates.adaptive_rate import AdaptiveRate
from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock

MS = 1_000_000
LIMIT, BURST = 40, 10  # per second
KEYS = ("a", "b", "c")


class RateMachine(RuleBasedStateMachine):
    """All moments are whole milliseconds, so that no nanosecond is ever rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_ns=10**15)
        self.limiter = Limiter(f"{LIMIT}/second", burst=BURST, clock=self.clock)
        self.pressure = 0.0
        self.rate = AdaptiveRate(self.limiter, lambda: self.pressure)
        self.tokens = dict.fromkeys(KEYS, Fraction(BURST))
        self.factor = 1.0
        self.peak = 1.0
        self.looked: int | None = None
        self.asked = self.denied = 0

    @rule(milliseconds=st.integers(0, 700))
    def pass_time(self, milliseconds) -> None:
        self.clock.advance_ns(milliseconds * MS)
        came = Fraction(LIMIT * milliseconds, 1_000) * Fraction(round(self.factor * 1_000), 1_000)
        self.tokens = {key: min(Fraction(BURST), had + came) for key, had in self.tokens.items()}

    @rule(key=st.sampled_from(KEYS), cost=st.integers(0, BURST + 1))
    def check(self, key, cost) -> None:
        passes = cost <= self.tokens[key]
        assert self.limiter.check(key, cost).allowed == passes
        if passes:
            self.tokens[key] -= cost
            self.asked += 1
        else:
            self.denied += 1

    @rule(pressure=st.sampled_from([0.0, 0.5, 0.8, 0.99, 1.0, 1.3, 5.0, float("nan")]))
    def look(self, pressure) -> None:
        self.pressure = pressure
        now = self.clock.now_ns()
        due = self.looked is None or now - self.looked >= 250 * MS
        if due:
            used = self.denied > 0 or self.asked >= max(1.0, LIMIT / 8 * self.factor)
            self.asked = self.denied = 0
            if pressure == pressure:  # noqa: PLR0124 - only NaN differs from itself
                self.looked = now
                self.adapt(pressure, used)
        assert self.rate.update() == self.factor

    def adapt(self, pressure, used) -> None:
        wanted = self.factor
        if pressure >= 1.0:
            wanted *= min(max(1.0 / pressure, 0.5), 0.9)
        elif pressure < 0.8 and used:
            wanted += 0.025 * self.peak
            self.peak = max(self.peak, min(wanted, 2.0))
        self.factor = min(max(wanted, 0.25), 2.0)

    @invariant()
    def the_same_as_by_hand(self) -> None:
        pace = round(self.factor * 1_000)
        for key in KEYS:
            seen = self.limiter.peek(key, BURST)
            assert seen.remaining == int(self.tokens[key])
            assert seen.limit == max(1, LIMIT * pace // 1_000)
            missing = (BURST - self.tokens[key]) * 10**12 / (LIMIT * pace)
            assert missing <= seen.retry_after_ns < missing + 1 or seen.allowed


TestRateMachine = RateMachine.TestCase
TestRateMachine.settings = settings(max_examples=50, stateful_step_count=40)
