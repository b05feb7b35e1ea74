"""Every store passes the same tests: in memory, SQLite, and a real PostgreSQL, etcd and Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from headgate.policy.model import Policy
from headgate.server.guarded_store import GuardedStore
from headgate.storage import open_store
from headgate.testing import ManualClock
from tests.support.agreements import etcd_agreement, new_cluster, redis_agreement
from tests.support.postgres import postgres_server
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES = ("memory", "sqlite", "postgresql")
AGREED = ("etcd", "redis")
GUARDED = "memory behind its breaker"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def empty_postgres(postgres_url):
    """The URL of a PostgreSQL database with nothing in it."""
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres_url


@pytest.fixture
def clock():
    return ManualClock()


def url_of(kind, request, tmp_path):
    if kind in {"memory", GUARDED}:
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("empty_postgres")


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    return url_of(request.param, request, tmp_path)


@pytest.fixture(params=STORES[1:])
def durable_url(request, tmp_path):
    """The URL of a store that outlives its process."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def agreements(request, tmp_path, clock):
    """Makes agreements of nodes of one cluster, which nobody else is in: ``agreements("etcd")``."""
    made = []
    cluster = new_cluster()

    def make(kind, **settings):
        server = request.getfixturevalue(f"{kind}_server")
        directory = tmp_path / f"node{len(made)}"
        if kind == "etcd":
            opened = etcd_agreement(server.endpoints, cluster, clock, directory, **settings)
        else:
            url = f"redis://{HOST}:{server.port}"
            opened = redis_agreement(url, cluster, clock, directory, **settings)
        made.append(opened)
        return opened

    yield make
    for each in made:
        asyncio.run(each.close())


@pytest.fixture(params=(*STORES[1:], *AGREED))
def reopen(request, tmp_path, clock):
    """Opens a store that outlives its process; each time it is called, the same one again."""
    if request.param in AGREED:
        make = request.getfixturevalue("agreements")
        return lambda: make(request.param).store
    url = url_of(request.param, request, tmp_path)
    return lambda: open_store(url, clock)


@pytest.fixture(params=(*STORES, GUARDED, *AGREED))
def store(request, tmp_path, clock):
    if request.param in AGREED:
        yield request.getfixturevalue("agreements")(request.param).store
        return
    with open_store(url_of(request.param, request, tmp_path), clock) as opened:
        guarded = GuardedStore(opened, clock, failure_threshold=1_000)
        yield guarded if request.param == GUARDED else opened


@pytest.fixture
def policy():
    """Makes a policy: ``policy("api", limit=5)``."""

    def make(name, **fields):
        return Policy.from_dict({"name": name, "limit": 10, "window": "1m", **fields})

    return make
