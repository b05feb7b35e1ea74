"""The cluster of experiment 10: its store, and how edges choose nodes."""

from __future__ import annotations

import pytest

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.engine.pressures import PressureNote
from headgate.errors import StoreUnavailable
from headgate.lab.cluster import Board, ByErrors, ByPressure, Edge, InTurn
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Request


def test_a_dead_store_takes_and_gives_nothing_and_forgets():
    board = Board(Simulation())
    note = PressureNote("a", 0.5, 1.0, 1)
    assert board.exchange(note) == [note]
    board.kill()
    with pytest.raises(StoreUnavailable):
        board.exchange(note)
    board.revive()
    assert board.exchange(None) == []
    assert len(board.log) == 1


class Named:
    """A node, as far as an edge knows."""

    def __init__(self, name, takes=True):
        self.name = name
        self.takes = takes
        self.header = ""
        self.asked = 0

    def take(self, request):
        self.asked += 1
        return self.takes


def test_five_failures_in_a_row_leave_a_node_out_for_30_seconds_then_60():
    simulation = Simulation()
    picker = ByErrors(simulation)
    node = Named("a")
    for failed in (True, True, True, True, False, True, True, True, True):
        picker.heard(node, failed=failed)
    assert picker.left_out() == []
    picker.heard(node, failed=True)
    assert picker.left_out() == ["a"]
    simulation.run(30 * NS_PER_SECOND)
    assert picker.left_out() == []
    for _ in range(5):
        picker.heard(node, failed=True)
    simulation.run(89 * NS_PER_SECOND)
    assert picker.left_out() == ["a"]


def request():
    return Request(0, 0, NS_PER_SECOND, NS_PER_MS)


def test_a_refusal_is_tried_once_elsewhere():
    nodes = [Named("a", takes=False), Named("b", takes=False), Named("c")]
    edge = Edge(nodes, InTurn())
    assert [edge.send(request()) for _ in range(3)] == [True, False, True]
    assert sum(node.asked for node in nodes) == 5


def test_a_node_with_the_pressure_of_an_outlier_is_left_out_until_it_fell():
    simulation = Simulation()
    nodes = [Named("a"), Named("b"), Named("c")]
    picker = ByPressure(simulation)
    for node, pressure in zip(nodes, (".2", "1.4", ".3"), strict=True):
        node.header = f"v=1;p={pressure};adm=1;ttl=1000;seq=1"
        picker.heard(node, failed=False)
    assert picker.left_out() == ["b"]
    edge = Edge(nodes, picker)
    assert all(edge.send(request()) for _ in range(9))
    assert [node.asked > 0 for node in nodes] == [True, False, True]
    simulation.run(20 * NS_PER_SECOND)
    assert picker.left_out() == []
