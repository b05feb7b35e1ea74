"""Two nodes with leases on one key, whatever happens to their messages, against plain bookkeeping.

The window is an hour, so that nothing flows back: every token that the store ever debited is admitted, held
or on its way, and in the end all but the admitted ones are back.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.engine.counting import Counting
from headgate.engine.pending import Pending
from headgate.testing import ManualClock
from tests.support.shared_limits import MS, SECOND, Bench

NODES = st.sampled_from([0, 1])


class Leases(RuleBasedStateMachine):
    @initialize(
        algorithm=st.sampled_from(["fixed_window", "sliding_window_log", "token_bucket"]),
        limit=st.integers(1, 60),
        share=st.sampled_from([0.05, 0.3, 1.0]),
    )
    def begin(self, algorithm, limit, share):
        self.limit = limit
        self.bound = max(1, int(limit * share))
        clock, counting = ManualClock(SECOND), Counting()
        policy = {
            "name": "api",
            "algorithm": algorithm,
            "limit": limit,
            # A bucket gets back one token in ten hours or more: none, in the time that this takes.
            "window": "1h" if algorithm != "token_bucket" else "365d",
            "consistency": "leased",
            "failure_mode": "closed",
            # A bucket is leased no more than flows in during a ttl: none, so that all goes by need.
            "lease": {"share": share, "ttl": "1h"},
        }
        self.nodes = [
            Bench(policy, clock=clock, counting=counting, node=name) for name in ("a", "b")
        ]
        self.clock = clock
        self.late: list = []
        self.admitted = 0
        self.open = 0

    def _count(self, cost, result):
        def answered(decision):
            self.open -= 1
            if decision.allowed:
                self.admitted += cost

        self.open += 1
        if isinstance(result, Pending):
            result.then(answered)
        else:
            answered(result)

    @rule(node=NODES, cost=st.integers(1, 8), times=st.integers(1, 5))
    def ask(self, node, cost, times):
        for _ in range(times):
            self._count(cost, self.nodes[node].begin(cost))

    @rule(node=NODES)
    def deliver(self, node):
        self.nodes[node].post.deliver()

    @rule(node=NODES)
    def lose_questions(self, node):
        """Only those that may be repeated: of a refund that is lost nobody could tell."""
        if all(question.lease is not None for question, _ in self.nodes[node].post.waiting):
            self.nodes[node].post.lose()

    @rule(node=NODES)
    def lose_answers(self, node):
        post = self.nodes[node].post
        if all(question.lease is not None for question, _ in post.waiting):
            waiting = [done for _, done in post.waiting]
            post.arrive()
            for done in waiting:
                done(None)

    @rule(node=NODES)
    def delay(self, node):
        """They arrive, and their answers wait."""
        self.late += self.nodes[node].post.arrive()

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 5))
    def let_in(self, which):
        self.late.pop(which % len(self.late))()

    @rule(milliseconds=st.sampled_from([1, 5, 19, 20, 60, 400]))
    def pass_time(self, milliseconds):
        began = self.clock.now_ns()
        for node in self.nodes:
            self.clock.set_ns(began)
            node.post.advance(milliseconds * MS)
        self.clock.set_ns(began + milliseconds * MS)

    @invariant()
    def nothing_from_nowhere(self):
        spent = self.nodes[0].spent()
        held = sum(node.held() for node in self.nodes)
        assert self.admitted + held <= spent <= self.limit
        assert held <= self.bound

    def teardown(self):
        if not hasattr(self, "nodes"):
            return
        while self.late:
            self.late.pop(0)()
        self._rest()
        for node in self.nodes:
            node.sharing.drain(lambda: None)
        self._rest()
        assert self.open == 0
        for node in self.nodes:
            status = node.sharing.status()
            assert (status.held, status.owed, status.refunds_waiting) == (0, 0, 0)
        assert self.nodes[0].spent() == self.admitted

    def _rest(self):
        for _ in range(40):
            for node in self.nodes:
                node.post.advance(100 * MS)
                while node.post.deliver():
                    pass


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
