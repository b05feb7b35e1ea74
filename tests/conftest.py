"""Rules for every test: which build runs, how hypothesis searches, what a missing server means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import etcds, servers, valkeys
from tests.support.build import compiled_build

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadlines: another process may hold the core. In CI the same examples every time, so that a failure
# is about the change; on a laptop new ones, so that somebody finds the next bug.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "thorough", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if servers.in_ci() else "dev"))

# What a test with this marker needs before it starts: any one of the programs.
NEEDS = {
    "needs_redis": ("valkey-server", "redis-server"),
    "needs_etcd": ("etcd",),
    "needs_nginx": ("nginx",),
    "needs_wrk": ("wrk",),
}


def pytest_report_header() -> str:
    return f"headgate: {'compiled' if compiled_build() else 'plain Python'} build"


def pytest_configure() -> None:
    if os.environ.get("HEADGATE_EXPECT_COMPILED") == "1" and not compiled_build():
        raise pytest.UsageError("the compiled build was asked for, and plain Python was found")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, programs in NEEDS.items():
        if item.get_closest_marker(marker):
            servers.require_program(*programs)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests are plain ``async def test_...``; they run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One Redis or Valkey for the session. Tests share it: use keys of your own, or flush it."""
    with servers.redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etcds.EtcdCluster]:
    """One etcd for the session. Tests share it: use a name of your own for the cluster of nodes."""
    with etcds.etcd_cluster(tmp_path_factory.mktemp("etcd"), members=1) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkeys.Cluster]:
    """One cluster of three for the session. Tests share it: use keys of your own, and leave it whole."""
    with valkeys.valkey_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
