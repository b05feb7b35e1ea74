"""Experiments 1 to 3, shortened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from headgate.lab.experiments import exp01_open_loop, exp02_tiers, exp03_rejections
from headgate.lab.overload import Overload
from headgate.lab.protections import OURS, PROTECTIONS
from headgate.lab.report import ignore_progress

if TYPE_CHECKING:
    from headgate.lab.simulation import Simulation

BRIEF = {
    1: (exp01_open_loop, {"loads": (0.5, 1.2, 2.0, 10.0), "seconds": 1.0}),
    2: (exp02_tiers, {"loads": (2.0, 5.0, 10.0), "seconds": 1.0}),
    3: (exp03_rejections, {"costs": (0.005,), "seconds": 1.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", BRIEF)
def test_a_short_run_has_its_table_its_lines_and_its_claims(number):
    module, settings = BRIEF[number]
    steps = []
    report = module.virtual(1, lambda done, what: steps.append((done, what)), **settings)
    assert (report.number, report.mode) == (number, "virtual")
    assert all(len(row) == len(report.columns) for row in report.rows)
    assert all(len(one.x) == len(one.y) > 0 for one in report.series)
    assert all(0 <= done <= 1 and what for done, what in steps)
    # So short a run may miss a narrow claim by chance, but not what it is about.
    assert all(
        claim.measured >= 0.9 * claim.bound for claim in report.claims if claim.relation == ">="
    )
    assert all(claim.met for claim in report.claims if claim.relation == "<=")


def brief(load, protection, seed=1, **settings):
    setting = Overload(load, seconds=1.0, **settings)
    return setting.run(seed, PROTECTIONS[protection])


def figures(tally):
    return (tally.offered, tally.good, tally.rejected, tally.latencies_ns, tally.timeline_goodput())


@pytest.mark.slow
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_same_seed_gives_the_same_figures(protection):
    one = figures(brief(2.0, protection, shares=(0.2, 0.3, 0.5)))
    assert one == figures(brief(2.0, protection, shares=(0.2, 0.3, 0.5)))
    assert one != figures(brief(2.0, protection, seed=2, shares=(0.2, 0.3, 0.5)))


@pytest.mark.slow
def test_all_protections_see_the_same_arrivals():
    offered = {tuple(brief(2.0, label, shares=(1, 1, 1)).offered) for label in PROTECTIONS}
    assert len(offered) == 1


@pytest.mark.slow
def test_arrivals_are_done_refused_or_on_their_way():
    setting, simulations = Overload(3.0, seconds=1.0), []

    def protect(simulation: Simulation):
        simulations.append(simulation)
        return PROTECTIONS[OURS](simulation)

    tally = setting.run(1, protect)
    _, offered = tally.timeline_offered()
    told = sum(tally.offered), sum(tally.good) + sum(tally.rejected) + tally.late
    # What arrived in the last moments is still there.
    assert 0 <= told[0] - told[1] <= 300 + setting.seats
    assert sum(offered) * 0.5 == pytest.approx(3.0 * setting.capacity * 5.0, rel=0.05)
    assert simulations[0].now == 5_000_000_000


@pytest.mark.slow
def test_figures_do_not_depend_on_the_order_of_hashes():
    program = (
        "import json; from headgate.lab.experiments.exp03_rejections import virtual;"
        "print(json.dumps(virtual(1, lambda *_: None, (0.005,), 0.5).members()))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert json.loads(told[0])["number"] == 3


def test_nobody_need_watch():
    ignore_progress(0.5, "half")
