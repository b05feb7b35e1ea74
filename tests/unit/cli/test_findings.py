"""What doctor looks at, one finding at a time."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from headgate.cli import findings
from headgate.cli.findings import EXTRAS, Finder

ROOT = Path(__file__).parents[3]
MODULES = {"prometheus-client": "prometheus_client", "pyyaml": "yaml"}
# Checked on its own line, only wanted on one system, or other extras.
ELSEWHERE = {"uvloop", "tzdata", "headgate"}


def found(what, **options):
    defaults = {"data_dir": None, "database_url": None, "url": "http://127.0.0.1:1", "token": None}
    chosen = {**defaults, **options}
    finder = Finder(chosen["url"], chosen["token"], chosen["data_dir"], chosen["database_url"])
    return next(one for one in finder.all() if one.what == what)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_extras_are_those_of_the_package(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w-]", line)[0] for line in project["optional-dependencies"][extra]}
    assert {MODULES.get(name, name) for name in names - ELSEWHERE} == set(EXTRAS[extra])


def test_a_missing_extra_comes_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(findings.importlib.util, "find_spec", lambda name: None)
    one = found("extra server")
    assert one.state == "note"
    assert one.remedy == "pip install 'headgate[server]'"
    assert found("uvloop").state == "note"


def test_a_missing_program_is_a_note(monkeypatch):
    monkeypatch.setattr(findings.shutil, "which", lambda name, path: None)
    assert found("wrk").remedy == "apt-get install wrk"


def test_a_data_directory_is_looked_at_and_not_made(tmp_path):
    directory = tmp_path / "a" / "b"
    assert found("data directory", data_dir=directory).state == "ok"
    assert found("records", data_dir=directory).found == "none yet"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_broken(tmp_path):
    tmp_path.chmod(0o500)
    assert found("data directory", data_dir=tmp_path).state == "broken"


def test_records_that_are_none_are_broken(tmp_path):
    (tmp_path / "headgate.db").write_bytes(b"not a database" * 100)
    assert found("records", data_dir=tmp_path).state == "broken"


def test_few_open_files_are_a_note(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    one = found("open files")
    assert one.state == "note"
    assert "below 64" in one.remedy


def test_time_zones_and_clock_are_fine_here():
    assert found("time zones").state == "ok"
    assert found("clock").state == "ok"
