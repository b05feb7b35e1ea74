"""``serve``: an option for each setting."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headgate.cli.app import app
from headgate.server import lifecycle
from headgate.settings import Settings


@pytest.fixture
def served(monkeypatch):
    """The settings that the service would run with."""
    found = []
    monkeypatch.setattr(lifecycle, "run", found.append)
    return found


def serve(*arguments, **environment):
    return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, ["serve", *arguments])


def test_every_setting_is_an_option_with_its_variable_and_default():
    shown = " ".join(serve("--help").stdout.replace("│", " ").split())
    for setting in dataclasses.fields(Settings):
        assert f"--{setting.name.replace('_', '-')} " in shown
        assert f"env HEADGATE_{setting.name.upper()})" in shown
    assert "default 8080; env HEADGATE_PORT" in shown


def test_options_go_before_the_environment(served, tmp_path):
    result = serve(
        *("--port", "9000", "--data-dir", str(tmp_path), "--no-snapshot", "--resp-port", "off"),
        HEADGATE_PORT="9001",
        HEADGATE_HOST="127.0.0.2",
        HEADGATE_SNAPSHOT="yes",
    )
    assert result.exit_code == 0, result.stderr
    [settings] = served
    assert (settings.port, settings.host) == (9000, "127.0.0.2")
    assert (settings.snapshot, settings.resp_port) == (False, None)
    assert settings.data_dir == Path(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "environment", "source"),
    [
        (["--max-keys", "few"], {}, "--max-keys must be"),
        ([], {"HEADGATE_MAX_KEYS": "few"}, "HEADGATE_MAX_KEYS must be"),
        ([], {"HEADGATE_SNAPSHOT": "maybe"}, "HEADGATE_SNAPSHOT must be"),
    ],
)
def test_the_source_of_a_bad_value_is_named(served, arguments, environment, source):
    result = serve(*arguments, **environment)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error[configuration_error]: {source}")
    assert served == []


def test_a_missing_extra_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "headgate.server.lifecycle", None)
    result = serve()
    assert result.exit_code != 0
