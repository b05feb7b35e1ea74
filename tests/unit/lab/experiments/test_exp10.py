"""Experiment 10: what it must show, that it can fail, and that a seed gives the same run."""

from __future__ import annotations

import pytest

from headgate.lab.experiments import exp10_sick_node as experiment
from headgate.lab.report import ignore_progress

SHORT = experiment.Plan(measured=1, sick=2, killed=4, revived=6, well=8, end=10)


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
