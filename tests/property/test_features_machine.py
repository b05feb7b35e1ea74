"""`Features` against a naive model: for each feature, what happened to it, and arithmetic on that."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.gates.features import Features
from headgate.testing import ManualClock

SECOND = 10**9
RULES = {"low": (0.5, 0.3, 1), "high": (1.0, 0.7, 5), "same": (0.8, 0.8, 90)}
NAMES = st.sampled_from(sorted(RULES))


class NaiveFeature:
    """It is on, or it is off since some moment of pressure and has to wait so long."""

    def __init__(self, off_at, on_below, hold):
        self.off_at, self.on_below, self.hold = off_at, on_below, hold * SECOND
        self.healthy = True
        self.forced = None
        self.pressed_at = None  # while off: when the pressure was last too high to come back
        self.wait = 0
        self.in_a_row = 0
        self.on_since = 0

    def look(self, pressure, now):
        if self.pressed_at is None:
            if pressure >= self.off_at:
                if now - self.on_since >= 60 * SECOND:
                    self.in_a_row = 0
                self.fall(now)
        elif pressure >= self.on_below:
            self.pressed_at = now
        elif now - self.pressed_at >= self.wait:
            if self.healthy:
                self.pressed_at, self.on_since = None, now
            else:
                self.fall(now)

    def fall(self, now):
        longest = max(self.hold, 60 * SECOND)
        self.wait = min(self.hold * 2**self.in_a_row, longest)
        self.in_a_row += self.wait < longest
        self.pressed_at = now

    def is_on(self):
        return self.pressed_at is None if self.forced is None else self.forced


class FeatureMachine(RuleBasedStateMachine):
    """Pressure, health, hands, and time that passes."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.pressure = 0.0
        self.features = Features(lambda: self.pressure, clock=self.clock, uniform=lambda: 0.5)
        self.naive = {name: NaiveFeature(*numbers) for name, numbers in RULES.items()}
        self.heard = {}
        for name, (off_at, on_below, hold) in RULES.items():
            self.features.add(
                name,
                off_at=off_at,
                on_below=on_below,
                hold=hold,
                health=lambda name=name: self.naive[name].healthy,
            )
        self.features.subscribe(lambda state: self.heard.update({state.name: state.on}))

    @rule(pressure=st.sampled_from([0.0, 0.29, 0.3, 0.5, 0.7, 0.79, 0.8, 1.0, 2.0]))
    def pressure_moves(self, pressure):
        self.pressure = pressure

    @rule(name=NAMES, healthy=st.booleans())
    def health_changes(self, name, healthy):
        self.naive[name].healthy = healthy

    @rule(name=NAMES, on=st.sampled_from([True, False, None]))
    def force(self, name, on):
        self.naive[name].forced = on
        self.features.force(name, on)

    @rule(seconds=st.sampled_from([0.001, 0.999, 1, 2, 5, 10, 40, 60, 90]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(name=NAMES)
    def ask(self, name):
        self.naive[name].look(self.pressure, self.clock.now_ns())
        assert self.features.is_on(name) == self.naive[name].is_on()

    @rule()
    def ask_all(self):
        for naive in self.naive.values():
            naive.look(self.pressure, self.clock.now_ns())
        states = {state.name: state for state in self.features.states()}
        for name, naive in self.naive.items():
            assert states[name].on == naive.is_on()
            assert states[name].forced == naive.forced

    @invariant()
    def listeners_know(self):
        for name, naive in self.naive.items():
            assert self.heard.get(name, True) == naive.is_on()


TestFeatures = FeatureMachine.TestCase
TestFeatures.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
