"""Claims, cells and reports."""

from __future__ import annotations

import json
from math import inf, nan

import pytest

from headgate.lab.report import Claim, Experiment, Report, Series, cell_text, ignore_progress


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "met"),
    [
        (1.0, ">=", 1.0, True),
        (0.99, ">=", 1.0, False),
        (1.0, "<=", 1.0, True),
        (1.01, "<=", 1.0, False),
        (3, "==", 3, True),
        (4, "==", 3, False),
        (nan, ">=", 0.0, False),
        (nan, "<=", 0.0, False),
        (inf, ">=", 0.0, False),
        (-inf, "<=", 0.0, False),
    ],
)
def test_a_claim_is_met_when_its_number_stands_so_to_the_bound(measured, relation, bound, met):
    assert Claim("it", measured, relation, bound).met is met


def test_a_report_without_claims_shows_nothing():
    report = Report(1, "t", "virtual", {}, [], [])
    assert not report.met
    report.claims.append(Claim("it", 1, ">=", 0))
    assert report.met
    report.claims.append(Claim("it", 1, ">=", 2))
    assert not report.met


def test_a_report_is_json_with_null_for_what_is_no_number():
    report = Report(1, "t", "live", {"a": "b"}, ["x"], [["FIFO", nan]])
    report.series.append(Series("goodput", "Headgate", [0.0, 1.0], [inf, 2.0], "/s"))
    report.claims.append(Claim("it", nan, ">=", 0))
    members = json.loads(json.dumps(report.members(), allow_nan=False))
    assert members["rows"] == [["FIFO", None]]
    assert members["series"][0]["y"] == [None, 2.0]
    assert members["claims"][0]["met"] is members["met"] is False


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("a", "a"),
        (7, "7"),
        (1234567, "1,234,567"),
        (999.5, "1,000"),
        (1000.0, "1,000"),
        (-0.5, "-0.5"),
    ],
)
def test_cells_are_short(cell, text):
    assert cell_text(cell) == text


def test_a_series_of_unequal_lengths_is_refused_where_it_is_made():
    with pytest.raises(ValueError, match=r"'what it sees' of 'load' has 2 x and 1 y"):
        Series("load", "what it sees", [0.0, 1.0], [5.0])


def test_an_experiment_names_its_files():
    one = Experiment(7, "t", "q", lambda seed, progress: None)
    assert (one.name, one.live) == ("exp07", None)
    ignore_progress(0.5, "half")
