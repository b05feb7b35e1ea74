"""Nodes that share their pressures, against a naive model that remembers all that was ever told."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.errors import StoreUnavailable
from headgate.gates.global_pressure import GlobalPressure
from headgate.testing import ManualClock

SECOND = 10**9
FRESH = 1_500_000_000
CAPACITIES = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 0.5}
NAMES = st.sampled_from(sorted(CAPACITIES))


class Board:
    def __init__(self):
        self.notes, self.alive = {}, True

    def exchange(self, note):
        if not self.alive:
            raise StoreUnavailable("killed")
        if note is not None:
            self.notes[note.node] = note
        return list(self.notes.values())

    def close(self):
        pass


class Cluster(RuleBasedStateMachine):
    """Pressures move, nodes exchange in any order, the store dies and comes back, time passes."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.board = Board()
        self.local = dict.fromkeys(CAPACITIES, 0.0)
        self.views = {
            name: GlobalPressure(
                name,
                lambda name=name: self.local[name],
                capacity=capacity,
                shared=self.board,
                clock=self.clock,
            )
            for name, capacity in CAPACITIES.items()
        }
        # For each node, everything that it ever read: (when, note), newest last.
        self.read = {name: [] for name in CAPACITIES}

    @rule(name=NAMES, pressure=st.sampled_from([0.0, 0.3, 0.69, 0.71, 0.9, 1.0, 1.5, 2.0]))
    def pressure_moves(self, name, pressure):
        self.local[name] = pressure

    @rule(name=NAMES)
    def exchange(self, name):
        worked = self.views[name].exchange()
        assert worked == self.board.alive
        if worked:
            now = self.clock.now_ns()
            self.read[name] += [(now, n) for n in self.board.notes.values() if n.node != name]

    @rule(milliseconds=st.sampled_from([1, 100, 500, 1_500, 3_000, 12_000]))
    def time_passes(self, milliseconds):
        self.clock.advance_ns(milliseconds * 1_000_000)

    @rule(forgets=st.booleans())
    def store_dies(self, forgets):
        self.board.alive = False
        if forgets:
            self.board.notes.clear()

    @rule()
    def store_returns(self):
        self.board.alive = True

    def told(self, name):
        """node -> (pressure, capacity): of each, the newest note, aged from when it was first read."""
        found = {}
        for other in CAPACITIES:
            notes = [(at, n) for at, n in self.read[name] if n.node == other]
            if not notes:
                continue
            newest = max(n.seq for _, n in notes)
            at, note = next((at, n) for at, n in notes if n.seq == newest)
            stale = self.clock.now_ns() - at - FRESH
            if stale >= 10 * SECOND:
                continue
            weight = 1.0 if stale <= 0 else 2.0 ** (-stale / SECOND)
            local = self.local[name]
            found[other] = (local + (note.pressure - local) * weight, note.capacity)
        return found

    @invariant()
    def each_view_is_what_was_told(self):
        for name, view in self.views.items():
            told = self.told(name) | {name: (self.local[name], CAPACITIES[name])}
            assert view.nodes() == pytest.approx({n: p for n, (p, _) in told.items()})
            high = sum(p > 0.7 for p, _ in told.values())
            mean = sum(p * c for p, c in told.values()) / sum(c for _, c in told.values())
            expected = self.local[name]
            if high >= 0.6 * len(told):
                expected = max(expected, mean)
            if all(abs(p - 0.7) > 1e-9 for p, _ in told.values()):
                assert view.pressure() == pytest.approx(expected)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
