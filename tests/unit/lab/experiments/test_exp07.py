"""Experiment 7, shortened: four minutes at twice the capacity, and four at a tenth of the speed."""

from __future__ import annotations

import pytest

from headgate.lab.experiments.exp07_limit_drift import EXPERIMENT, virtual
from headgate.lab.limits import LIMITS, OURS, Gradient2, Limited
from headgate.lab.report import ignore_progress
from headgate.lab.workload import Request


@pytest.mark.slow
def test_it_shows_what_it_must():
    report = virtual(1, ignore_progress, 240.0, 240.0)
    # In so short a run what it takes to find out that the service is slower weighs more.
    assert [claim.met for claim in report.claims[::2]] == [True, True]
    assert report.claims[1].measured > 0.97
    assert [row[0] for row in report.rows] == list(LIMITS)
    rows = {row[0]: dict(zip(report.columns, row, strict=True)) for row in report.rows}
    assert rows["unprotected"]["goodput, of ideal"] < 0.2
    assert rows["Gradient2 (Netflix)"]["drift"] > 0.25
    assert rows[OURS]["drift"] <= 0.25
    assert {series.panel for series in report.series} == {
        "limit",
        "goodput",
        "p99 of what was answered",
    }


@pytest.mark.slow
def test_the_same_seed_gives_the_same():
    runs = [virtual(3, ignore_progress, 10.0, 10.0) for _ in range(2)]
    assert repr(runs[0].rows) == repr(runs[1].rows)  # NaN is not itself
    assert EXPERIMENT.live is None


def request():
    return Request(0, 0, 10**9, 10**6)


def test_a_plain_limit():
    gate = Limited(2)
    assert [gate.enter(request(), 0) for _ in range(3)] == [True, True, False]
    gate.leave(request(), 5)
    assert gate.enter(request(), 5)


def test_gradient2_takes_its_overload_for_normal():
    gate = Gradient2(10)
    now = 0
    for _ in range(120):
        for _ in range(10):
            now += 10**8
            gate.in_flight = int(gate.limit)
            gate.observe(int(gate.limit) * 10**7, now)  # latency grows with the limit
    assert gate.limit > 30
