"""The limits of a daemon: defaults, profiles, environment (B9)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from headgate.errors import ConfigurationError, InvalidInput
from headgate.gates.daemon_limits import PROFILES, DaemonLimits


def test_the_defaults():
    limits = DaemonLimits()
    assert (limits.max_memory_mb, limits.max_cpu_percent) == (1024, 200)
    assert (limits.max_requests_per_minute, limits.max_concurrent_requests) == (2000, 100)
    assert (limits.max_connections, limits.stale_connection_seconds) == (100, 300)
    assert (limits.monitor_interval, limits.summary_interval) == (60, 300)
    assert DaemonLimits.load({}) == limits


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles(profile):
    limits = DaemonLimits.of_profile(profile)
    assert limits.profile == profile
    assert DaemonLimits.load({"HEADGATE_PROFILE": profile}) == limits
    for name, value in PROFILES[profile].items():
        assert getattr(limits, name) == value
    assert DaemonLimits.of_profile(profile, max_connections=7).max_connections == 7


@pytest.mark.parametrize("name", [f.name for f in fields(DaemonLimits) if f.name != "profile"])
def test_every_limit_is_a_variable(name):
    limits = DaemonLimits.load(
        {"HEADGATE_PROFILE": "low-memory", f"HEADGATE_{name.upper()}": " 7 "}
    )
    assert limits == DaemonLimits.of_profile("low-memory", **{name: 7})
    assert DaemonLimits.load({f"HEADGATE_{name.upper()}": ""}) == DaemonLimits()


@pytest.mark.parametrize("name", ["max_memory_mb", "max_cpu_percent"])
@pytest.mark.parametrize("text", ["off", "NONE", "unlimited"])
def test_resources_without_limit(name, text):
    assert getattr(DaemonLimits.load({f"HEADGATE_{name.upper()}": text}), name) is None


def test_the_environment_of_the_process(monkeypatch):
    monkeypatch.setenv("HEADGATE_MAX_CONNECTIONS", "3")
    assert DaemonLimits.load().max_connections == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("PROFILE", "fast", "one of default, high-volume, low-memory, development, got 'fast'"),
        ("MAX_MEMORY_MB", "much", "must be a number, got 'much'"),
        ("MAX_MEMORY_MB", "0", "max_memory_mb"),
        ("MAX_MEMORY_MB", "nan", "max_memory_mb"),
        ("MAX_CPU_PERCENT", "-5", "max_cpu_percent"),
        ("MAX_CPU_PERCENT", "inf", "max_cpu_percent"),
        ("MAX_CONNECTIONS", "1.5", "must be a whole number"),
        ("MAX_CONNECTIONS", "0", "must be 1 to"),
        ("MAX_CONNECTIONS", "off", "must be a whole number"),
        ("MAX_REQUESTS_PER_MINUTE", "99999999", "must be 1 to"),
        ("MAX_CONCURRENT_REQUESTS", "-1", "must be 1 to"),
        ("STALE_CONNECTION_SECONDS", "0", "stale_connection_seconds"),
        ("CONNECTION_GRACE_SECONDS", "nan", "connection_grace_seconds"),
        ("MONITOR_INTERVAL", "soon", "must be a number"),
        ("SUMMARY_INTERVAL", "1e99", "summary_interval"),
    ],
)
def test_variables_that_cannot_be_used(name, text, message):
    with pytest.raises(ConfigurationError, match=message) as raised:
        DaemonLimits.load({f"HEADGATE_{name}": text})
    assert raised.value.message.startswith(f"HEADGATE_{name}: ")
    assert raised.value.context == {"setting": f"HEADGATE_{name}"}


@pytest.mark.parametrize("name", [f.name for f in fields(DaemonLimits)])
@pytest.mark.parametrize("value", [True, "5", 0, -1, float("nan"), float("inf"), [], 10**400])
def test_values_that_make_no_sense(name, value):
    with pytest.raises(InvalidInput, match=name):
        DaemonLimits(**{name: value})


def test_an_unknown_profile_in_python():
    with pytest.raises(InvalidInput, match="profile"):
        DaemonLimits.of_profile("fast")
