"""Experiment 10: what it must show, that it can fail, and that a seed gives the same run."""

from __future__ import annotations

import pytest

from headgate.clock import NS_PER_SECOND
from headgate.engine.pressures import PressureNote
from headgate.errors import StoreUnavailable
from headgate.lab.cluster import Board, ByErrors
from headgate.lab.experiments import exp10_sick_node as experiment
from headgate.lab.report import ignore_progress
from headgate.lab.simulation import Simulation

SHORT = experiment.Plan(measured=2, sick=4, killed=6, revived=9, well=12, end=16)


@pytest.fixture(scope="module")
def report():
    return experiment.virtual(1, ignore_progress, SHORT)


@pytest.mark.slow
def test_all_claims_are_met(report):
    assert [claim.text for claim in report.claims if not claim.met] == []
    assert len(report.claims) == 5


@pytest.mark.slow
def test_others_do_not_meet_them(report):
    rows = {row[0]: dict(zip(report.columns, row, strict=True)) for row in report.rows}
    assert rows["unprotected, in turn"]["goodput dip"] > 0.2
    assert rows["all act on the worst pressure"]["healthy nodes shed"] > 0.3
    assert rows["all act on the worst pressure"]["acting on another's pressure"] > 0.5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result(report):
    assert experiment.virtual(1, ignore_progress, SHORT).members() == report.members()


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
    def __init__(self, name):
        self.name = name


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
