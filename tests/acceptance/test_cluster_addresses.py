"""Nodes that share limits by a Redis Cluster, by Sentinels whose primary dies, and by TLS."""

from __future__ import annotations

import logging
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.nodes import apply_everywhere, running_nodes
from tests.support.servers import HOST
from tests.support.valkeys import TLS, Cluster, sentinel_group, tls_valkey
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.needs_redis]

CHECK = "/api/v1/check"
LEVELS = [
    {"name": "each", "dimensions": ["tenant", "who"], "limit": 20},
    {"name": "all", "limit": 30},
]
NESTED = {
    "name": "nested",
    "window": "1h",
    "match": {"tenant": "*"},
    "consistency": "strict",
    "dimensions": ["tenant"],
    "levels": LEVELS,
}
LEASED = {
    "name": "leased",
    "limit": 1000,
    "window": "1h",
    "match": {"key": "l:*"},
    "consistency": "leased",
}
# A crowded machine must not make a store look dead.
OPTIONS: dict[str, Any] = {"store_deadline": 2.0}


def nested(service: Service, who: str) -> Any:
    return service.post(CHECK, {"metadata": {"tenant": "acme", "who": who}}).json


def admitted_by(services: Sequence[Service], who: str, times: int) -> int:
    answers = [nested(service, who) for _, service in zip(range(times), cycle(services))]
    assert not any("degraded" in answer for answer in answers)
    return sum(answer["allowed"] for answer in answers)


def test_levels_in_several_slots_admit_together_or_not_at_all(
    tmp_path: Path, redis_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**OPTIONS, "redis_url": redis_cluster.url, "cluster": "addresses"}
    with running_nodes(tmp_path, "ab", **options) as services:
        apply_everywhere(services, NESTED, LEASED)
        assert admitted_by(services, "ann", 24) == 20
        # What Ann was refused was not spent on the tenant either.
        assert admitted_by(services, "bob", 14) == 10
        leased = [
            service.post(CHECK, {"key": "l:1", "tokens": 10}).json["allowed"]
            for _, service in zip(range(120), cycle(services))
        ]
        assert 97 <= sum(leased) <= 100
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_primary_dies_and_nodes_find_the_other_one(tmp_path: Path) -> None:
    with sentinel_group(tmp_path / "group") as group:
        options = {**OPTIONS, "redis_url": group.url, "store_deadline": 0.5}
        with running_nodes(tmp_path, "ab", **options) as services:
            apply_everywhere(services, NESTED)
            assert admitted_by(services, "ann", 6) == 6
            assert group.primary.command("WAIT", "1", "5000") == 1
            group.primary.kill()
            # Meanwhile the nodes answer by themselves, and say so.
            assert nested(services[0], "ann")["degraded"]
            eventually(lambda: "degraded" not in nested(services[0], "bob"))
            eventually(lambda: "degraded" not in nested(services[1], "cid"))
            # The replica knows of the six, and is told of what was admitted meanwhile.
            remaining = next(
                level["remaining"]
                for level in nested(services[1], "ann")["levels"]
                if level["policy"] == "nested/each"
            )
            assert 11 <= remaining <= 13


def test_by_tls(tmp_path: Path) -> None:
    with tls_valkey(tmp_path / "tls") as proxy:
        options = {**OPTIONS, "redis_url": f"rediss://{HOST}:{proxy.port}"}
        options["redis_ca"] = TLS / "certificate.pem"
        with running_nodes(tmp_path, "ab", **options) as services:
            apply_everywhere(services, NESTED)
            assert admitted_by(services, "ann", 22) == 20
