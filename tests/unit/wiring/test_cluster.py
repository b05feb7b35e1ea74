"""From settings to what a node shares: names, addresses, ranks, and what is refused."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from headgate.coordination.single_agreement import SingleAgreement
from headgate.engine.agreement import Member
from headgate.errors import ConfigurationError
from headgate.settings import Settings
from headgate.testing import ManualClock
from headgate.wiring.cluster import (
    Cluster,
    advertised,
    configured_counters,
    node_name,
    open_cluster,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_node_is_named_as_it_was_told_or_by_host_and_port() -> None:
    assert node_name(Settings(node="a"), 1) == "a"
    assert node_name(Settings(), 8080) == f"{socket.gethostname()}-8080"


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Settings(host="127.0.0.1"), "http://127.0.0.1:80"),
        (Settings(host="::1"), "http://[::1]:80"),
        (Settings(host="0.0.0.0"), f"http://{socket.gethostname()}:80"),
        (Settings(advertise="https://a.example"), "https://a.example"),
    ],
)
def test_others_are_told_where_a_node_is(settings: Settings, address: str) -> None:
    assert advertised(settings, 80) == address


def test_a_rank_is_by_name_among_the_live(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b", "d", "f"]
    agreement = SingleAgreement()
    monkeypatch.setattr(SingleAgreement, "members", lambda self: [Member(name) for name in names])
    assert [Cluster(name, agreement).place() for name in "bdf"] == [(0, 3), (1, 3), (2, 3)]
    assert Cluster("c", agreement).place() == (1, 4), "it is about to join"
    names.clear()
    assert Cluster("a", agreement).place() == (0, 1)


async def test_a_node_on_its_own_shares_nothing(tmp_path: Path) -> None:
    cluster = await open_cluster(Settings(data_dir=tmp_path), "a", ManualClock())
    assert cluster.is_alone
    assert (cluster.counters, cluster.store_state(), cluster.status()) == (None, "none", None)
    await cluster.greet()
    await cluster.give_back()
    await cluster.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis//:x",
        "http://h",
        "redis://h:port",
        "redis+sentinel://h",
        "rediss://h?ssl_ca_certs=/none",
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_secrets(url: str) -> None:
    secret = url.replace("://", "://user:sesame@", 1)
    with pytest.raises(ConfigurationError) as caught:
        configured_counters(Settings(redis_url=secret))
    assert "sesame" not in caught.value.message
