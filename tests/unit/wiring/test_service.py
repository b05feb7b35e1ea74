"""From settings to parts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from headgate.errors import ConfigurationError
from headgate.policy.model import Policy
from headgate.settings import Settings
from headgate.testing import ManualClock
from headgate.wiring import keep_snapshot, open_configured_store, read_snapshot, wire

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "made" / "here", database_url="memory://")


def test_stored_policies_are_in_force(settings: Settings) -> None:
    clock = ManualClock()
    with open_configured_store(settings, clock) as store:
        store.policies.create(Policy.from_dict({"name": "p", "limit": 3, "window": 1}))
        engine = wire(settings, store, clock).engine
    assert engine.check({"key": "k"}).remaining == 2
    assert settings.data_dir.is_dir()
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("no_match", "allowed"), [("allow", True), ("deny", False)])
def test_what_no_policy_applies_to(tmp_path: Path, no_match: str, allowed: bool) -> None:
    settings = Settings(data_dir=tmp_path, database_url="memory://", no_match=no_match)
    with open_configured_store(settings) as store:
        assert wire(settings, store, ManualClock()).engine.check({}).allowed is allowed


@pytest.mark.parametrize("top_keys", [0, 5])
def test_denials_are_counted_by_key_unless_that_is_switched_off(
    tmp_path: Path, top_keys: int
) -> None:
    settings = Settings(data_dir=tmp_path, database_url="memory://", top_keys=top_keys)
    with open_configured_store(settings) as store:
        wired = wire(settings, store, ManualClock())
        wired.engine.set_policy(Policy.from_dict({"name": "p", "limit": 1, "window": 60}))
        for _ in range(3):
            wired.engine.check({"key": "k"})
        assert wired.top_keys.top(5) == ([("p", "k", 2)] if top_keys else [])


def test_a_snapshot_comes_back_unless_switched_off(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="memory://")
    assert read_snapshot(settings) is None
    keep_snapshot(settings, {"engine": {"a": 1}})
    assert read_snapshot(settings) == {"engine": {"a": 1}}
    without = Settings(data_dir=tmp_path, database_url="memory://", snapshot=False)
    assert read_snapshot(without) is None
    keep_snapshot(without, {})
    assert read_snapshot(settings) == {"engine": {"a": 1}}


def test_a_snapshot_that_cannot_be_kept_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path / "absent", database_url="memory://")
    with caplog.at_level(logging.ERROR, logger="headgate.wiring"):
        keep_snapshot(settings, {})
    assert "could not be written" in caplog.text


def test_a_store_that_cannot_be_opened_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(ConfigurationError):
        open_configured_store(Settings(data_dir=tmp_path))
