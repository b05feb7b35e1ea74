"""`DaemonGuard` against a naive model: lists of what is open and under way, looked through each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.errors import InvalidInput, Overloaded
from headgate.gates import daemon_report
from headgate.testing import ManualClock
from tests.support.daemons import Usage, guarded

if TYPE_CHECKING:
    from headgate.gates.daemon_connections import DaemonConnection
    from headgate.gates.daemon_requests import DaemonRequest

CONNECTIONS, CONCURRENT, PER_MINUTE, STALE, GRACE = 4, 3, 6, 300.0, 10.0
SECOND = 10**9
MS = 10**6


@dataclass
class NaiveConnection:
    gate: DaemonConnection
    since: int
    served: int = 0
    closed: int = 0
    requests: list[DaemonRequest] = field(default_factory=list)

    def waited(self, now: int) -> int:
        return 0 if self.requests else now - self.since


class Daemon(RuleBasedStateMachine):
    """Any order of connections, requests, readings, pauses; time goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = patch.object(daemon_report, "release_memory")  # which takes real time
        self.patch.start()
        self.clock = ManualClock()
        self.usage = Usage()
        self.guard = guarded(
            self.clock,
            self.usage,
            max_connections=CONNECTIONS,
            max_concurrent_requests=CONCURRENT,
            max_requests_per_minute=PER_MINUTE,
            stale_connection_seconds=STALE,
            connection_grace_seconds=GRACE,
        )
        self.open: list[NaiveConnection] = []
        self.begun: list[int] = []
        self.under_way = 0
        self.ended = {"ok": 0, "failed": 0, "abandoned": 0}
        self.violated = False
        self.accepted = self.crowded = -SECOND
        self.rejections = self.invalid = self.stale = self.total = 0

    def teardown(self) -> None:
        self.patch.stop()

    @property
    def now(self) -> int:
        return self.clock.now_ns()

    def recent(self) -> int:
        return sum(self.now - 60 * SECOND < begun for begun in self.begun)

    @rule(milliseconds=st.sampled_from([1, 100, 999, 1_000, 2_000, 10_000, 61_000, 300_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.advance_ns(milliseconds * MS)

    @rule(memory=st.sampled_from([10.0, 85.0, 100.0, 900.0]))
    def memory_is(self, memory: float) -> None:
        self.usage.memory = memory
        self.violated = memory >= 100.0
        self.clock.advance_ns(MS)  # each reading is at least a millisecond old

    @rule()
    def connect(self) -> None:
        made: list[NaiveConnection] = []
        try:
            gate = self.guard.connection(lambda: setattr(made[0], "closed", made[0].closed + 1))
        except Overloaded:
            assert len(self.open) == CONNECTIONS
            self.rejections += 1
            return
        assert len(self.open) < CONNECTIONS
        made.append(NaiveConnection(gate, self.now))
        self.open += made
        self.accepted = self.now
        self.total += 1

    @precondition(lambda self: any(not c.requests for c in self.open))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        left = data.draw(st.sampled_from([c for c in self.open if not c.requests]))
        left.gate.leave()
        self.open.remove(left)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.open))
        request = connection.gate.request()
        wanted = ""
        if self.violated and self.under_way:
            wanted = "memory"
        elif self.under_way >= CONCURRENT:
            wanted = "max_concurrent_requests"
        elif self.recent() >= PER_MINUTE:
            wanted = "max_requests_per_minute"
        if wanted:
            with pytest.raises(Overloaded) as raised:
                request.__enter__()
            assert raised.value.decision.policy == wanted
            self.rejections += 1
            return
        request.__enter__()
        connection.requests.append(request)
        connection.served += 1
        self.under_way += 1
        self.begun.append(self.now)

    @precondition(lambda self: self.under_way)
    @rule(
        data=st.data(),
        kind=st.sampled_from([None, RuntimeError, InvalidInput, KeyboardInterrupt, Overloaded]),
    )
    def end(self, data: st.DataObject, kind: type[BaseException] | None) -> None:
        connection = data.draw(st.sampled_from([c for c in self.open if c.requests]))
        index = data.draw(st.integers(0, len(connection.requests) - 1))
        connection.requests.pop(index).__exit__(kind, None, None)
        connection.since = self.now
        self.under_way -= 1
        failed = kind in (RuntimeError, InvalidInput)
        self.ended["ok" if kind is None else "failed" if failed else "abandoned"] += 1
        self.invalid += kind is InvalidInput

    @rule()
    def gate(self) -> None:
        before = {id(c): c.closed for c in self.open}
        pause = self.guard.gate()
        self.expect_crowding(before)
        reached = (
            len(self.open) >= CONNECTIONS
            or self.under_way >= CONCURRENT
            or self.recent() >= PER_MINUTE
        )
        trickle = self.under_way == 0 and self.now - self.accepted >= SECOND
        if self.violated:
            assert pause == (0.0 if trickle and not reached else 1.0)
        else:
            assert pause == (0.1 if reached else 0.0)

    @rule()
    def housekeep(self) -> None:
        before = {id(c): c.closed for c in self.open}
        wanted = [c for c in self.open if not c.closed and c.waited(self.now) >= STALE * SECOND]
        self.guard.housekeep()
        for connection in wanted:
            assert connection.closed == 1
            before[id(connection)] = 1
        self.stale += len(wanted)
        self.expect_crowding(before)

    def expect_crowding(self, before: dict[int, int]) -> None:
        """What had not been closed and now is: who never asked, or else whoever waited longest."""
        closed = [c for c in self.open if c.closed > before[id(c)]]
        there = [c for c in self.open if not before[id(c)]]
        waiting = [c for c in there if c.waited(self.now) >= GRACE * SECOND]
        useless = [c for c in there if not c.served and c.waited(self.now) >= GRACE * SECOND / 5]
        crowded = len(self.open) >= CONNECTIONS and self.now - self.crowded >= SECOND
        if not crowded or not (waiting or useless):
            assert not closed
            return
        if useless:
            assert closed == useless
        else:
            assert len(closed) == 1
            assert closed[0].waited(self.now) == max(c.waited(self.now) for c in waiting)
        self.crowded = self.now
        self.stale += len(closed)

    @invariant()
    def counts_agree(self) -> None:
        document = self.guard.metrics()
        assert document["connections"] == {
            "total": self.total,
            "active": len(self.open),
            "stale": self.stale,
        }
        assert all(c.closed <= 1 for c in self.open)
        performance = document["performance"]
        assert {name: performance[name] for name in self.ended} == self.ended
        assert performance["in_flight"] == self.under_way <= CONCURRENT
        assert document["security"] == {
            "validation_failures": self.invalid,
            "rejections": self.rejections,
        }
        assert document["resources"]["requests_per_minute"]["current"] == self.recent()


TestDaemon = Daemon.TestCase
TestDaemon.settings = settings(max_examples=40, stateful_step_count=40)
