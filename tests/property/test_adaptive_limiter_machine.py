"""The limiter of calls in flight against a naive model: a list of who is in, and a list of who waits."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.errors import LineFull, Overloaded
from headgate.gates.adaptive_limiter import AdaptiveLimiter
from headgate.testing import ManualClock

LEASE = 10.0
MOST_WAITING = 3
START = 10**17


class Waiter:
    def wake(self):
        pass

    def is_gone(self):
        return False


class Held:
    """One in flight, as the model has it."""

    def __init__(self, permit, since):
        self.permit = permit
        self.since = since


class LimiterMachine(RuleBasedStateMachine):
    """AIMD, because its limit can be reckoned in the head: it moves with drops alone here."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(start_ns=START)
        self.limiter = AdaptiveLimiter(
            "aimd",
            initial=4,
            min=1,
            max=4,
            lease=LEASE,
            max_waiting=MOST_WAITING,
            clock=self.clock,
            uniform=lambda: 0.5,
        )
        self.held: list[Held] = []
        self.waiting: list[object] = []
        self.ended: list[object] = []

    def now(self) -> int:
        return self.clock.now_ns()

    def look(self) -> None:
        """What any look at the limiter settles: leases that are over, and who comes in for them.

        After a clock went back, nothing counts as begun later than now.
        """
        now = self.now()
        if self.held and self.held[0].since > now:
            for one in self.held:
                one.since = min(one.since, now)
        while self.held and now - self.held[0].since >= LEASE * 1e9:
            self.ended.append(self.held.pop(0).permit)
        self.serve()

    def serve(self) -> None:
        while self.waiting and len(self.held) < self.limiter.limit:
            place = self.waiting.pop(0)
            assert place.permit is not None, "first come, first served"
            self.held.append(Held(place.permit, self.now()))

    @rule()
    def acquire(self) -> None:
        if len(self.held) >= self.limiter.limit:
            self.look_and_expire()
        room = len(self.held) < self.limiter.limit
        try:
            permit = self.limiter.acquire_nowait()
        except Overloaded:
            assert not room
        else:
            assert room
            self.held.append(Held(permit, self.now()))

    def look_and_expire(self) -> None:
        self.limiter.stats()
        self.look()

    @rule()
    def join(self) -> None:
        self.look_and_expire()
        try:
            place = self.limiter._ask(5.0, lambda _: Waiter())
        except LineFull:
            assert len(self.waiting) == MOST_WAITING
            assert len(self.held) >= self.limiter.limit
            return
        if place.permit is not None:
            assert not self.waiting
            self.held.append(Held(place.permit, self.now()))
        else:
            assert len(self.held) >= self.limiter.limit
            self.waiting.append(place)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, MOST_WAITING))
    def leave(self, which) -> None:
        place = self.waiting.pop(which % len(self.waiting))
        self.limiter._leave(place)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 10), how=st.sampled_from(["succeeded", "ignored", "dropped"]))
    def end(self, which, how) -> None:
        one = self.held.pop(which % len(self.held))
        assert getattr(one.permit, how)()
        self.ended.append(one.permit)
        self.serve()

    @precondition(lambda self: self.ended)
    @rule(which=st.integers(0, 100), how=st.sampled_from(["succeeded", "ignored", "dropped"]))
    def end_again(self, which, how) -> None:
        before = repr(self.limiter.stats())
        self.look()
        assert not getattr(self.ended[which % len(self.ended)], how)()
        assert repr(self.limiter.stats()) == before

    @rule(seconds=st.sampled_from([0.001, 1.0, LEASE / 2, LEASE, 4e7]))
    def pass_time(self, seconds) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.001, LEASE / 2, LEASE, 4e7]))
    def go_back(self, seconds) -> None:
        self.clock.advance(-seconds)

    @invariant()
    def the_same_as_the_model(self) -> None:
        stats = self.limiter.stats()
        self.look()
        assert stats.in_flight == len(self.held)
        assert stats.waiting == len(self.waiting)
        assert all(one.permit.held for one in self.held)
        assert not any(permit.held for permit in self.ended)
        assert 1 <= stats.limit <= 4
        assert not self.waiting or stats.in_flight >= stats.limit, (
            "nobody waits beside a free place"
        )


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(max_examples=60, stateful_step_count=40)
