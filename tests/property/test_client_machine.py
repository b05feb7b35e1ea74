"""The client's gates against models that keep everything: throttle, holds, retry budget, attempts."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from headgate.errors import RateLimited
from headgate.gates.answers import Answer
from headgate.gates.client_throttle import HOLD, ClientThrottle
from headgate.gates.retry import RetryBudget, RetryRules
from headgate.testing import ManualClock

S = 1_000_000_000
UPSTREAMS = ("search", "mail")
upstreams = st.sampled_from(UPSTREAMS)
tiers = st.integers(0, 3)


class ThrottleMachine(RuleBasedStateMachine):
    """The model logs every outcome, and looks through all of the log each time."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock(start_ns=5 * S)
        self.draw = 0.0
        self.throttle = ClientThrottle(clock=self.clock, uniform=lambda: self.draw, min_rate=0)
        self.log: list[tuple[int, str, int, bool]] = []
        self.holds = dict.fromkeys(UPSTREAMS, 0)

    def share(self, upstream, tier, window):
        since = self.clock.now_ns() - window
        mine = [entry for entry in self.log if entry[0] > since and entry[1:3] == (upstream, tier)]
        accepts = sum(accepted for *_, accepted in mine)
        return min(max((len(mine) - 2 * accepts) / (len(mine) + 1), 0), 0.9)

    @rule(ms=st.integers(0, 40_000))
    def time_passes(self, ms):
        self.clock.advance_ns(ms * 1_000_000)

    @rule(upstream=upstreams, tier=tiers, count=st.integers(1, 40), accepted=st.booleans())
    def outcomes_come(self, upstream, tier, count, accepted):
        for _ in range(count):
            self.throttle.record(upstream, tier, overloaded=not accepted)
            self.log.append((self.clock.now_ns(), upstream, tier, accepted))

    @rule(upstream=upstreams, seconds=st.integers(1, 90))
    def a_limit_is_used_up(self, upstream, seconds):
        self.throttle.hold(upstream, seconds)
        until = self.clock.now_ns() + min(seconds, 60) * S
        self.holds[upstream] = max(self.holds[upstream], until)

    @rule(upstream=upstreams, tier=tiers, draw=st.floats(0, 1, exclude_max=True))
    def a_call_is_to_be_made(self, upstream, tier, draw):
        self.draw = draw
        known = self.throttle.refusal_share(upstream, tier)
        decision = self.throttle.allow(upstream, tier)
        held = self.holds[upstream] - self.clock.now_ns()
        if held > 0:
            assert decision.policy == HOLD
            assert decision.retry_after_ns == held
            return
        assert decision.allowed == (draw >= known)
        if not decision.allowed:
            self.log.append((self.clock.now_ns(), upstream, tier, False))

    @invariant()
    def the_share_is_that_of_the_log(self):
        for upstream, tier in {entry[1:3] for entry in self.log}:
            share = self.throttle.refusal_share(upstream, tier)
            assert 0.0 <= share <= 0.9
            # What is up to a slot older than the window may count still.
            now = self.clock.now_ns()
            old = [entry for entry in self.log if now - 31 * S <= entry[0] <= now - 30 * S]
            if not any(entry[1:3] == (upstream, tier) for entry in old):
                assert share == self.share(upstream, tier, 30 * S)


class CallsMachine(RuleBasedStateMachine):
    """Any number of calls under way at a time, with one budget; the model counts in tenths."""

    calls = Bundle("calls")
    waiting = Bundle("waiting")

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.rules = RetryRules(
            clock=self.clock,
            uniform=lambda: 0.999,
            attempts=3,
            timeout=5.0,
            budget=RetryBudget(start=2, most=4),
        )
        self.tenths = 20
        self.sent: dict[int, int] = {}
        self.begun: dict[int, int] = {}

    @rule(target=calls)
    def a_call_begins(self):
        number = len(self.sent)
        attempts = self.rules.begin("search", 0)
        try:
            attempts.enter()
            self.sent[number] = 1
        except RateLimited:
            self.sent[number] = 0
        self.begun[number] = self.clock.now_ns()
        return number, attempts

    @rule(call=consumes(calls))
    def it_goes_well(self, call):
        if self.sent[call[0]]:
            assert call[1].ended(Answer(200), well=True, retryable=False) is None
            self.tenths = min(self.tenths + 1, 40)

    @rule(target=waiting, call=consumes(calls), retry_after=st.sampled_from([0, 0, 1, 6]))
    def it_fails(self, call, retry_after):
        number, attempts = call
        if not self.sent[number]:
            return call, None
        answer = Answer(502, retry_after * S)
        wait = attempts.ended(answer, well=False, retryable=True)
        left = 5 - (self.clock.now_ns() - self.begun[number]) / S
        if self.sent[number] == 3 or self.tenths < 10 or retry_after >= left:
            assert wait is None
        if wait is not None:
            assert retry_after < wait < left
        return call, wait

    @rule(target=calls, waiter=consumes(waiting))
    def its_wait_is_over(self, waiter):
        (number, attempts), wait = waiter
        if wait is None:
            self.sent[number] = 0
            return number, attempts
        self.clock.advance(wait)
        in_time = self.clock.now_ns() - self.begun[number] < 5 * S
        assert attempts.resume() == (in_time and self.tenths >= 10)
        if in_time and self.tenths >= 10:
            self.tenths -= 10
            self.sent[number] += 1
        else:
            self.sent[number] = 0
        return number, attempts

    @rule(waiter=consumes(waiting))
    def it_gives_up_while_it_waits(self, waiter):
        pass

    @invariant()
    def the_budget_is_what_was_paid_and_no_call_has_too_many_attempts(self):
        assert self.rules.budget.left("search") == self.tenths / 10
        assert all(sent <= 3 for sent in self.sent.values())


# Each step looks through the whole log.
ThrottleMachine.TestCase.settings = settings(deadline=None, max_examples=50)
TestThrottleMachine = pytest.mark.slow(ThrottleMachine.TestCase)
TestCallsMachine = pytest.mark.slow(CallsMachine.TestCase)
