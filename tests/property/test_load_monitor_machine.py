"""`LoadMonitor` against a naive model that keeps every sample and adds them all up anew each time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.readings import Reading
from headgate.testing import ManualClock

INTERVAL = 100_000_000
SHARES = st.none() | st.floats(0, 1.2) | st.sampled_from([0.8, 0.85, 0.9, 0.95, 1.0])


class NaiveMonitor:
    """All samples so far: (moment, cpu, psi, memory, delays, in flight)."""

    def __init__(self):
        self.samples = []
        self.delays = []
        self.in_flight = (0.0, None)

    def is_due(self, now):
        return not self.samples or not 0 <= now - self.samples[-1][0] < INTERVAL

    def sample(self, now, reading):
        self.samples.append((now, reading, list(self.delays), self.in_flight))
        self.delays = []

    def raw(self, sample):
        _, reading, delays, (count, limit) = sample
        parts = [0.0]
        if reading.cpu is not None:
            parts.append((reading.cpu - 0.80) / 0.15)
        if reading.psi_some is not None:
            parts.append((reading.psi_some - 0.2) / 0.4)
        if reading.memory is not None:
            parts.append((reading.memory - 0.85) / 0.10)
        if delays:
            parts.append(sum(delays) / len(delays) / 0.020)
        if limit is not None:
            parts.append(count / limit)
        return min(2.0, *[max(parts)] * 2)

    def pressure(self):
        """(pressure, overloaded), from the first sample on, 100 ms at a time and the rest of one."""
        value, on, before = 0.0, False, None
        for sample in self.samples:
            elapsed = INTERVAL if before is None or sample[0] < before else sample[0] - before
            before = sample[0]
            raw = self.raw(sample)
            factor = 0.5 if raw > value else 0.1
            whole, rest = divmod(elapsed, INTERVAL)
            for _ in range(min(whole, 2_000)):
                value += factor * (raw - value)
            value += (1 - (1 - factor) ** (rest / INTERVAL)) * (raw - value)
            on = value >= 1.0 or (on and value >= 0.7)
        return value, on


class Monitors(RuleBasedStateMachine):
    """Readings, delays, requests in flight, time that passes or jumps, and whoever asks."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.reading = Reading()
        self.monitor = LoadMonitor(readings=self, clock=self.clock)
        self.naive = NaiveMonitor()
        self.asked = 0

    def read(self, now_ns):
        self.naive.sample(now_ns, self.reading)
        return self.reading

    @rule(cpu=SHARES, psi=SHARES, memory=SHARES)
    def machine_changes(self, cpu, psi, memory):
        self.reading = Reading(cpu=cpu, psi_some=psi, memory=memory)

    @rule(seconds=st.floats(0, 0.1))
    def work_waited(self, seconds):
        self.monitor.observe_queue_delay(seconds)
        self.naive.delays.append(seconds)

    @rule(count=st.integers(0, 40), limit=st.none() | st.integers(1, 20))
    def in_flight(self, count, limit):
        self.monitor.observe_in_flight(count, limit)
        self.naive.in_flight = (count, limit)

    @rule(nanoseconds=st.sampled_from([1, 50_000_000, INTERVAL - 1, INTERVAL, 3 * 10**8, 10**10]))
    def time_passes(self, nanoseconds):
        self.clock.advance_ns(nanoseconds)

    @rule(seconds=st.sampled_from([-(10**9), -1, 10**9]))
    def time_jumps(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def sample(self):
        self.monitor.sample()

    @rule()
    def ask(self):
        due = self.naive.is_due(self.clock.now_ns())
        before = len(self.naive.samples)
        self.monitor.pressure()
        assert len(self.naive.samples) - before == due

    @invariant()
    def they_agree(self):
        if not self.naive.samples:
            return
        value, on = self.naive.pressure()
        assert self.monitor._meter.value == pytest.approx(value, abs=1e-6)
        if abs(value - 1.0) > 1e-6 and abs(value - 0.7) > 1e-6:
            assert self.monitor._meter.overloaded == on


TestMonitors = Monitors.TestCase
TestMonitors.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
