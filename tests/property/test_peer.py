"""`PeerLimiter` against a naive model: one small object per peer, exact fractions, no cleverness."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.errors import RateLimited
from headgate.gates.peer import PeerGuard, PeerLimiter
from headgate.testing import ManualClock

RATE, BURST, THRESHOLD, RECOVERY, PROBE = 4, 6, 3, 2_000_000_000, 500_000_000
PEERS = st.sampled_from(["a", "b", "c"])


@dataclass
class NaivePeer:
    tokens: Fraction = Fraction(BURST)
    at: int = 0
    failures: int = 0
    open_until: int | None = None
    probe: object = None
    probe_until: int = 0
    calls: set[int] = field(default_factory=set)

    def refill(self, now: int) -> None:
        gained = Fraction((now - self.at) * RATE, 10**9)
        self.tokens = min(Fraction(BURST), self.tokens + gained)
        self.at = now

    def state(self, now: int) -> str:
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def may_call(self, cost: int, now: int) -> bool:
        self.refill(now)
        circuit = self.state(now)
        busy = circuit == "half_open" and self.probe is not None and now < self.probe_until
        return circuit != "open" and not busy and self.tokens >= cost

    def called(self, call: int, cost: int, now: int) -> None:
        self.tokens -= cost
        if self.state(now) == "half_open":
            self.calls.clear()
            self.probe, self.probe_until = call, now + PROBE
        self.calls.add(call)

    def ended(self, call: int, verdict: str, now: int) -> None:
        if call not in self.calls:
            return
        self.calls.discard(call)
        probing = self.open_until is not None
        if verdict == "ok":
            self.failures, self.open_until, self.probe = 0, None, None
        elif verdict == "failed":
            self.failures += 1
            if probing or self.failures >= THRESHOLD:
                self.failures, self.probe = 0, None
                self.open_until = now + RECOVERY
                self.calls.clear()
        elif probing:
            self.probe = None


class Peers(RuleBasedStateMachine):
    """Any mixture of guarded calls, which end in any order, and of time passing."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.limiter = PeerLimiter(
            RATE,
            BURST,
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY / 1e9,
            probe_timeout=PROBE / 1e9,
            clock=self.clock,
        )
        self.naive = {peer: NaivePeer() for peer in ("a", "b", "c")}
        self.flying: list[tuple[int, str, PeerGuard]] = []
        self.calls = 0

    @rule(peer=PEERS, cost=st.integers(1, BURST))
    def call(self, peer: str, cost: int) -> None:
        now = self.clock.now_ns()
        naive = self.naive[peer]
        expected = naive.may_call(cost, now)
        guard = self.limiter.guard(peer, cost)
        try:
            guard.__enter__()
        except RateLimited:
            assert not expected
            return
        assert expected
        self.calls += 1
        naive.called(self.calls, cost, now)
        self.flying.append((self.calls, peer, guard))

    @rule(which=st.integers(0, 30), verdict=st.sampled_from(["ok", "failed", "cancelled"]))
    def end(self, which: int, verdict: str) -> None:
        if not self.flying:
            return
        call, peer, guard = self.flying.pop(which % len(self.flying))
        kind = {"ok": None, "failed": OSError, "cancelled": KeyboardInterrupt}[verdict]
        guard.__exit__(kind, kind and kind(), None)
        self.naive[peer].ended(call, verdict, self.clock.now_ns())

    @rule(nanoseconds=st.sampled_from([1, 10**8, 250_000_000, PROBE, 10**9, RECOVERY]))
    def wait(self, nanoseconds: int) -> None:
        self.clock.advance_ns(nanoseconds)

    @rule(peer=PEERS, cost=st.integers(1, BURST))
    def promised_wait_is_the_least(self, peer: str, cost: int) -> None:
        """After `retry_after` the call passes, and a nanosecond earlier it does not."""
        decision = self.limiter.check(peer, 0)
        if decision.allowed and self.limiter.available_tokens(peer) >= cost:
            return
        refused = self.limiter.check(peer, cost)
        if refused.allowed or refused.policy == "circuit":
            return
        naive = self.naive[peer]
        now = self.clock.now_ns()
        assert not naive.may_call(cost, now + refused.retry_after_ns - 1)
        self.clock.advance_ns(refused.retry_after_ns)
        assert naive.may_call(cost, self.clock.now_ns())

    @invariant()
    def reads_agree(self) -> None:
        now = self.clock.now_ns()
        for peer, naive in self.naive.items():
            naive.refill(now)
            assert self.limiter.circuit_state(peer) == naive.state(now)
            assert self.limiter.available_tokens(peer) == int(naive.tokens)


TestPeers = Peers.TestCase
TestPeers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
