"""``headgate lab``: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import headgate.lab.experiments as room
from headgate.cli.app import app
from headgate.lab.report import Claim, Experiment, Report, Series

PAGE = "".join(
    f"<!-- lab: {name} -->\n<!-- end -->\n" for name in ("all live", "exp01 virtual", "exp01 live")
)


def report(measured, mode="virtual", number=1):
    return Report(
        number,
        "First",
        mode,
        {"server": "one seat"},
        ["load", "goodput"],
        [["2x", measured]],
        series=[Series("goodput", "Headgate", [0.0, 1.0], [0.5, measured], "of C")],
        claims=[Claim("goodput at 2x", measured, ">=", 0.97, "of C")],
        notes=["as it is"],
    )


def virtual(seed, progress):
    progress(0.5, "half")
    return report(0.98 if seed == 1 else 0.5)


def broken(seed, progress):
    raise ZeroDivisionError("no \x1b[31mway")


FOUND = [
    Experiment(1, "First", "Does it hold?", virtual, lambda progress: report(0.99, "live")),
    Experiment(2, "Second", "Does it break?", broken),
]


@pytest.fixture(autouse=True)
def experiments(monkeypatch):
    monkeypatch.setattr(room, "_modules", lambda: {one.number: str(one.number) for one in FOUND})
    monkeypatch.setattr(room, "_load", lambda name: FOUND[int(name) - 1])


def lab(*arguments):
    return CliRunner().invoke(app, ["lab", *map(str, arguments)])


def test_list_names_them():
    told = lab("list")
    assert told.exit_code == 0
    assert "Does it hold?" in told.stdout
    members = json.loads(lab("list", "--json").stdout)["experiments"]
    assert [(one["number"], one["live"]) for one in members] == [(1, True), (2, False)]


def test_a_run_prints_table_chart_and_verdict():
    told = lab("run", 1)
    assert told.exit_code == 0
    for text in (
        "one seat",
        "goodput (of C): ● Headgate",
        "0.98 of C",
        "ok",
        "all of 1 claims met",
    ):
        assert text in told.stdout
    assert "●" not in lab("run", 1, "--no-charts").stdout


def test_a_missed_claim_exits_with_1():
    told = lab("run", 1, "--seed", 2)
    assert told.exit_code == 1
    assert "MISSED" in told.stdout
    assert "missed: experiment 1" in told.stdout


def test_one_that_breaks_does_not_stop_the_others_and_cannot_drive_the_terminal():
    told = lab("run", "all")
    assert told.exit_code == 1
    assert "goodput at 2x" in told.stdout
    assert "ZeroDivisionError" in told.stdout
    assert "\x1b" not in told.stdout
    assert "Traceback" in told.stderr


def test_a_chart_that_fails_does_not_hide_what_was_measured(monkeypatch):
    monkeypatch.setattr("headgate.lab.chart.chart_text", lambda *_, **__: 1 / 0)
    told = lab("run", 1)
    assert told.exit_code == 0
    assert "warning: no chart: ZeroDivisionError" in told.stderr
    assert "all of 1 claims met" in told.stdout


def test_json_is_complete():
    told = lab("run", 1, 2, "--json")
    members = json.loads(told.stdout)
    assert told.exit_code == 1
    assert members["met"] is False
    assert [one["met"] for one in members["experiments"]] == [True, False]
    assert members["experiments"][0]["rows"] == [["2x", 0.98]]


@pytest.mark.slow
def test_pictures_go_where_they_are_asked_for(tmp_path):
    assert lab("run", 1, "--out", tmp_path / "new").exit_code == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["exp01-virtual.png"]


@pytest.mark.slow
def test_write_puts_both_halves_into_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "laboratory.md"
    page.write_text(PAGE)
    assert lab("run", 1, "--write").exit_code == 0
    assert lab("run", "all", "--live", "--write").exit_code == 0
    assert "![First, virtual](lab/exp01-virtual.png)" in page.read_text()
    assert "Measured 20" in page.read_text().partition("exp01 live")[2]
    assert (tmp_path / "docs" / "lab" / "exp01-live.png").exists()


def test_a_directory_that_cannot_be_made_is_told_before_anything_runs(tmp_path):
    (tmp_path / "file").touch()
    told = lab("run", 1, "--out", tmp_path / "file" / "below")
    assert told.exit_code == 2
    assert "cannot be made" in told.stderr
    assert told.stdout == ""


def test_write_away_from_a_checkout_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = lab("run", 1, "--write")
    assert told.exit_code == 2
    assert "checked out" in told.stderr


@pytest.mark.parametrize("which", ["x", "1.5", "-1", "\N{SUPERSCRIPT TWO}", "99", "9" * 5000])
def test_what_is_no_experiment_is_refused(which):
    told = lab("run", "--", which)
    assert told.exit_code == 2
    assert "error[" in told.stderr


def test_live_is_for_those_that_have_it():
    told = lab("run", 2, "--live")
    assert told.exit_code == 2
    assert "no live half" in told.stderr


def test_the_same_number_twice_runs_once():
    assert len(json.loads(lab("run", 1, 1, "--json").stdout)["experiments"]) == 1
