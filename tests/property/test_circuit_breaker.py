"""`CircuitBreaker` against a naive model: lists that forget nothing, sums taken anew, no cleverness."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.backpressure.outcome_window import FAILED, SLOW, CountWindow, TimeWindow
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.testing import ManualClock

SECOND = 10**9
START = 10**18
STEPS = (0.1, 0.5, 1.0)

SETTINGS = st.fixed_dictionaries(
    {
        "failure_threshold": st.sampled_from([None, 2, 3]),
        "failure_rate": st.sampled_from([None, 0.5, 1.0]),
        "slow_call": st.sampled_from([None, 1.0]),
        "window_calls": st.sampled_from([None, 5]),
        "min_calls": st.sampled_from([1, 4]),
        "max_probes": st.sampled_from([1, 2]),
        "recovery_threshold": st.sampled_from([1, 3]),
        "ramp": st.sampled_from([(), STEPS]),
    }
)


class Naive:
    """What the page about breakers says, as slowly and as plainly as possible."""

    def __init__(self, chosen):
        self.rate = chosen["failure_rate"]
        self.row = chosen["failure_threshold"]
        if self.rate is None and self.row is None:
            self.rate = 0.5
        self.slow_rate = None if chosen["slow_call"] is None else 0.8
        self.chosen = chosen
        self.state, self.epoch, self.opened = "closed", 0, 0
        self.history, self.closed_at, self.until = [], 0, 0
        self.leases, self.successes = {}, 0
        self.step, self.step_at, self.last_pass = 0, 0, None

    def enter(self, state, now):
        self.state = state
        self.epoch += 1
        self.history, self.leases, self.successes = [], {}, 0
        self.step, self.step_at, self.last_pass = 0, now, None
        if state == "closed":
            self.closed_at = now

    def open(self, now):
        if self.state == "closed" and now - self.closed_at >= 60 * SECOND:
            self.opened = 0
        self.opened += 1
        self.enter("open", now)
        self.until = now + min(5 * 2 ** (self.opened - 1), 60) * SECOND

    def admits(self, call, draw, now):
        if self.state == "open" and now >= self.until:
            self.enter("half_open", now)
        if self.state == "half_open":
            live = {one: until for one, until in self.leases.items() if now < until}
            if len(live) >= self.chosen["max_probes"]:
                return False
            self.leases = live
            self.leases[call] = now + 30 * SECOND
            return True
        if self.state == "ramp":
            due = self.last_pass is None or now - self.last_pass >= SECOND // 2
            if draw >= STEPS[self.step] and not due:
                return False
            self.last_pass = now
            return True
        return self.state == "closed"

    def window(self, now):
        if self.chosen["window_calls"]:
            return self.history[-5:]
        return [one for one in self.history if now // SECOND - one[0] // SECOND < 10]

    def run(self):
        """The failures in a row at the end."""
        count = 0
        for _, failed, _ in reversed(self.history):
            if not failed:
                break
            count += 1
        return count

    def longest(self, calls):
        best = run = 0
        for _, failed, _ in calls:
            run = run + 1 if failed else 0
            best = max(best, run)
        return best

    def level(self, calls, least, share, row):
        """Whether the calls reach this share of what opens."""
        if self.row is not None and row >= self.row:
            return True
        if len(calls) < least:
            return False
        failures, slow = sum(one[1] for one in calls), sum(one[2] for one in calls)
        if self.rate is not None and failures >= self.rate * share * len(calls):
            return True
        return self.slow_rate is not None and 10 * slow >= 8 * share * len(calls)

    def over_half(self, calls):
        failures, slow = sum(one[1] for one in calls), sum(one[2] for one in calls)
        return (
            (self.row is not None and 2 * self.longest(calls) > self.row)
            or (self.rate is not None and 2 * failures > self.rate * len(calls))
            or (self.slow_rate is not None and 20 * slow > 8 * len(calls))
        )

    def ends(self, call, epoch, outcome, now):
        if epoch != self.epoch:
            return
        if outcome is None:
            self.leases.pop(call, None)
            return
        failed, slow = outcome
        if self.state == "half_open":
            self.probe_ends(call, failed or slow, now)
            return
        self.history.append((now, failed, slow))
        if self.state == "closed":
            if self.level(self.window(now), self.chosen["min_calls"], 1, self.run()):
                self.open(now)
        else:
            self.climb(now)

    def probe_ends(self, call, bad, now):
        until = self.leases.pop(call, None)
        if bad:
            self.open(now)
        elif until is not None and now < until:
            self.successes += 1
            if self.successes >= self.chosen["recovery_threshold"]:
                self.enter("ramp" if self.chosen["ramp"] else "closed", now)

    def climb(self, now):
        calls = self.history[self.history_begin() :]
        if self.level(calls, 10, 1, self.run()):
            self.open(now)
        elif now - self.step_at >= 5 * SECOND and len(calls) >= 10:
            if self.over_half(calls):
                self.step = max(0, self.step - 1)
            elif self.step + 1 < len(STEPS):
                self.step += 1
            else:
                self.enter("closed", now)
                return
            self.step_at = now
            self.begins = (self.epoch, len(self.history))

    def history_begin(self):
        epoch, begin = getattr(self, "begins", (0, 0))
        return begin if epoch == self.epoch else 0

    def state_at(self, now):
        return "half_open" if self.state == "open" and now >= self.until else self.state


class Breakers(RuleBasedStateMachine):
    """Any mixture of calls, which end in any order and any way, and of time passing."""

    @initialize(chosen=SETTINGS)
    def make(self, chosen):
        self.clock = ManualClock(START)
        self.draw = 0.5
        self.breaker = CircuitBreaker(
            "db", clock=self.clock, jitter=0.0, uniform=lambda: self.draw, **chosen
        )
        self.naive = Naive(chosen)
        self.slow_ns = SECOND if chosen["slow_call"] else None
        self.flying = []
        self.calls = 0

    @rule(draw=st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.99]))
    def call(self, draw):
        now = self.clock.now_ns()
        self.calls += 1
        self.draw = draw
        expected = self.naive.admits(self.calls, draw, now)
        permit = self.breaker.allow()
        assert bool(permit) is expected
        if permit:
            self.flying.append((self.calls, self.naive.epoch, now, permit))
        else:
            assert permit.retry_after_ns > 0

    def finish(self, which, outcome):
        call, epoch, began, permit = self.flying.pop(which % len(self.flying))
        now = self.clock.now_ns()
        self.breaker.record(permit, outcome)
        slow = self.slow_ns is not None and now - began > self.slow_ns
        told = None if outcome is None else (outcome is False, slow)
        self.naive.ends(call, epoch, told, now)
        assert not self.breaker.record(permit, outcome)

    @rule(which=st.integers(0, 30), outcome=st.sampled_from([True, True, False, None]))
    def end(self, which, outcome):
        if self.flying:
            self.finish(which, outcome)

    @rule(outcomes=st.lists(st.sampled_from([True, True, True, False, "slow"]), max_size=12))
    def several(self, outcomes):
        for outcome in outcomes:
            before = len(self.flying)
            self.call(0.0)
            if len(self.flying) > before:
                self.clock.advance_ns(SECOND + 1 if outcome == "slow" else 0)
                self.finish(-1, outcome is not False)

    @rule(outcomes=st.lists(st.sampled_from([True, True, True, False, "slow"]), max_size=2))
    def come_back(self, outcomes):
        """To the ramp, or to closed, unless a probe goes wrong."""
        if self.naive.state == "open":
            self.clock.advance_ns(max(0, self.naive.until - self.clock.now_ns()))
            self.several([*outcomes, True, True, True])

    @rule()
    def crowd(self):
        for _ in range(4):
            self.call(0.99)

    @rule(failures=st.integers(0, 4), pause=st.sampled_from([4 * SECOND, 5 * SECOND]))
    def step(self, failures, pause):
        """A step of the ramp, with some failures spread over it."""
        if self.naive.state == "ramp":
            self.clock.advance_ns(pause)
            self.several([number % 3 != 2 or number // 3 >= failures for number in range(12)])

    @rule(
        nanoseconds=st.sampled_from(
            [1, SECOND // 2, SECOND, SECOND + 1, 5 * SECOND, 10 * SECOND, 30 * SECOND, 60 * SECOND]
        )
    )
    def wait(self, nanoseconds):
        self.clock.advance_ns(nanoseconds)

    @rule()
    def wait_as_told(self):
        """After its open time a call passes, and a nanosecond earlier none does."""
        report = self.breaker.report()
        if report.state != "open":
            return
        self.clock.advance_ns(round(report.retry_after * SECOND) - 1)
        assert not self.breaker.allow()
        self.clock.advance_ns(1)
        assert self.breaker.state == "half_open"

    @invariant()
    def reads_agree(self):
        now = self.clock.now_ns()
        report = self.breaker.report()
        assert report.state == self.naive.state_at(now)
        assert report.openings == self.naive.opened
        if self.naive.state == "closed":
            seen = self.naive.window(now)
            assert report.calls == len(seen)
            assert report.failures == sum(one[1] for one in seen)
            assert report.slow == sum(one[2] for one in seen)
            assert report.failures_in_row == self.naive.run()
        if self.naive.state == "ramp":
            assert report.share == STEPS[self.naive.step]


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class Windows(RuleBasedStateMachine):
    """Both windows against a list of all that was ever added; the clock only goes forward."""

    @initialize(slots=st.integers(1, 4), slot_ns=st.integers(1, 5), size=st.integers(1, 6))
    def make(self, slots, slot_ns, size):
        self.slots, self.slot_ns, self.size, self.now = slots, slot_ns, size, START
        self.by_time, self.by_count = TimeWindow(slots, slot_ns), CountWindow(size)
        self.all = []

    @rule(outcome=st.integers(0, 3))
    def add(self, outcome):
        self.by_time.add(outcome, self.now)
        self.by_count.add(outcome, self.now)
        self.all.append((self.now // self.slot_ns, outcome))

    @rule(step=st.integers(0, 30))
    def wait(self, step):
        self.now += step

    @rule()
    def clear(self):
        self.by_time.clear()
        self.by_count.clear()
        self.all.clear()

    @invariant()
    def totals_are_those_of_the_list(self):
        self.by_time.roll(self.now)
        newest = self.now // self.slot_ns
        recent = [outcome for slot, outcome in self.all if newest - slot < self.slots]
        last = [outcome for _, outcome in self.all[-self.size :]]
        for window, kept in ((self.by_time, recent), (self.by_count, last)):
            assert window.calls == len(kept)
            assert window.failures == sum(outcome & FAILED for outcome in kept)
            assert window.slow == sum(bool(outcome & SLOW) for outcome in kept)


TestWindows = Windows.TestCase
TestWindows.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
