"""The names that are public, and what it costs to import them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import headgate

PUBLIC = {
    "AdaptiveLimiter",
    "AdaptiveRate",
    "AdmissionQueue",
    "AsyncBoundedLoop",
    "AsyncLimiter",
    "BoundedLoop",
    "CircuitBreaker",
    "CircuitEvent",
    "CircuitOpen",
    "CircuitReport",
    "CircuitState",
    "ClientThrottle",
    "Clock",
    "DaemonGuard",
    "DaemonLimits",
    "Decision",
    "Evicted",
    "FeatureOff",
    "Features",
    "GlobalPressure",
    "HeadgateError",
    "InvalidCost",
    "InvalidInput",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "Limiter",
    "LoadMonitor",
    "LoadReport",
    "LoadShedder",
    "LoopBudget",
    "LoopStats",
    "Overloaded",
    "PeerLimiter",
    "Permit",
    "QueuedTooLong",
    "Rate",
    "RateLimited",
    "Reservation",
    "RetryBudget",
    "ServiceClass",
    "StoreUnavailable",
    "SystemClock",
    "Upstream",
    "limit",
}

HEAVY = {
    "alembic",
    "asyncio",
    "fastapi",
    "inspect",
    "msgspec",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "typer",
    "uvicorn",
    "uvloop",
    "yaml",
    "zoneinfo",
}


def test_these_names_are_public_and_no_others():
    assert set(headgate.__all__) == PUBLIC


@pytest.mark.parametrize("name", headgate.__all__)
def test_each_can_be_had(name):
    assert getattr(headgate, name) is not None
    assert name in dir(headgate)


def test_what_does_not_exist_is_said_as_python_says_it():
    with pytest.raises(AttributeError, match="module 'headgate' has no attribute 'Nothing'"):
        headgate.Nothing  # noqa: B018 - the access is the test


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    ["import headgate", "from headgate import Limiter; Limiter('5/second').check('a')"],
)
def test_heavy_modules_stay_out(program):
    listing = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listing],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert HEAVY & set(done.stdout.split()) == set()
