"""One limit over three nodes, with a real Valkey."""

from __future__ import annotations

import itertools
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from headgate.clock import SystemClock
from tests.support.nodes import apply_everywhere, running_nodes
from tests.support.service import Service, message, running_service
from tests.support.valkeys import Valkey
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.needs_redis]

CHECK = "/api/v1/check"
POLICIES = [
    {"name": "strict", "limit": 10, "window": "1h", "match": {"key": "s:*"},
     "consistency": "strict"},
    {"name": "leased", "limit": 1000, "window": "1h", "match": {"key": "l:*"},
     "consistency": "leased"},
    {"name": "quick", "limit": 1000, "window": "10s", "match": {"key": "q:*"},
     "consistency": "leased"},
    {"name": "local", "limit": 5, "window": "1h", "match": {"key": "n:*"}, "consistency": "local"},
    {"name": "closed", "limit": 10, "window": "1h", "match": {"key": "c:*"},
     "consistency": "strict", "failure_mode": "closed"},
    {"name": "nested", "window": "1h", "match": {"tenant": "*"}, "consistency": "strict",
     "dimensions": ["tenant"],
     "levels": [{"name": "each", "dimensions": ["tenant", "who"], "limit": 2},
                {"name": "all", "limit": 5}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    directory = tmp_path_factory.mktemp("nodes")
    # A crowded machine must not make a store look dead.
    options = {"redis_url": valkey.url, "store_deadline": 2.0, "cluster": "counters"}
    with running_nodes(directory, "abc", **options) as services:
        apply_everywhere(services, *POLICIES)
        yield services


def ask(service: Service, key: str, tokens: int = 1) -> Any:
    return service.post(CHECK, {"key": key, "tokens": tokens}).json


def test_strict_admits_exactly_the_limit_over_all_nodes(cluster: list[Service]) -> None:
    answers = [ask(service, "s:1") for _, service in zip(range(15), itertools.cycle(cluster))]
    assert [answer["allowed"] for answer in answers] == [True] * 10 + [False] * 5
    assert [answer["remaining"] for answer in answers[:10]] == list(range(9, -1, -1))
    assert not any("degraded" in answer for answer in answers)


def test_leased_admits_at_most_the_limit_and_nearly_all_of_it(cluster: list[Service]) -> None:
    admitted = 0
    for _, service in zip(range(140), itertools.cycle(cluster)):
        admitted += 10 * ask(service, "l:1", 10)["allowed"]
    assert 990 <= admitted <= 1000


def test_local_is_counted_on_each_node(cluster: list[Service]) -> None:
    for service in cluster:
        assert [ask(service, "n:1")["allowed"] for _ in range(6)] == [True] * 5 + [False]


def test_all_levels_admit_or_none_is_spent(cluster: list[Service]) -> None:
    def tenant(place: int, who: str) -> Any:
        body = {"metadata": {"tenant": "acme", "who": who}}
        return cluster[place].post(CHECK, body).json

    assert [tenant(place % 3, "ann")["allowed"] for place in range(3)] == [True, True, False]
    assert [level["policy"] for level in tenant(0, "ann")["levels"]] == [
        "nested/each",
        "nested/all",
    ]
    assert [tenant(1, who)["allowed"] for who in "bcde"] == [True, True, True, False]


def test_a_pipeline_of_strict_and_local_checks_is_answered_in_order(
    cluster: list[Service],
) -> None:
    keys = ["s:p", "n:p", "s:p", "s:q", "n:p", "nobody", "s:p"]
    with cluster[0].connect() as peer:
        peer.send(b"".join(message("POST", CHECK, json.dumps({"key": key}).encode())
                           for key in keys))  # fmt: skip
        answers = [peer.receive().json for _ in keys]
    assert [answer["policy"] for answer in answers] == [
        "strict", "local", "strict", "strict", "local", "", "strict"
    ]  # fmt: skip
    assert [answer["remaining"] for answer in answers] == [9, 4, 8, 9, 3, 0, 7]


def test_lane_and_route_say_the_same_byte_for_byte(
    valkey: Valkey, cluster: list[Service], tmp_path: Path
) -> None:
    """The limit is full again in the hour that a test may take, so the waits are the only difference."""
    options = {"redis_url": valkey.url, "store_deadline": 2.0, "cluster": "counters"}
    with running_service(
        tmp_path, SystemClock(), fast_lane=False, node="route", **options
    ) as route:
        for number, tokens in enumerate((0, 1, 10, 11)):
            twins = [
                service.post(CHECK, {"key": f"s:twin{number}{place}", "tokens": tokens})
                for place, service in enumerate((cluster[0], route))
            ]
            assert _untimed(twins[0].undated) == _untimed(twins[1].undated)
            denied = [
                service.post(CHECK, {"key": f"s:twin{number}{place}", "tokens": 11 - tokens})
                for place, service in enumerate((cluster[0], route))
            ]
            assert _untimed(denied[0].undated) == _untimed(denied[1].undated)


def _untimed(raw: bytes) -> bytes:
    """Without the waits and what else depends on the moment."""
    times = rb"(_after\":|retry-after: |-reset: |;t=|retry after |x-pressure: |content-length: )[0-9.;=a-z ]+"
    return re.sub(times, rb"\1", raw)


def test_a_batch_begins_all_of_its_checks_before_it_waits(cluster: list[Service]) -> None:
    before = _batches(cluster[1])
    checks = [{"key": f"s:batch{number % 100}"} for number in range(600)]
    answer = cluster[1].post("/api/v1/check:batch", {"checks": checks})
    results = answer.json["results"]
    for key in range(100):
        of_key = [one["remaining"] for one in results[key::100]]
        assert sorted(of_key) == [4, 5, 6, 7, 8, 9]  # in any order: they are of several messages
    assert _batches(cluster[1]) - before <= 12


def _batches(service: Service) -> int:
    carried = service.running.context.cluster.cluster.carried()
    assert carried is not None
    return carried.batches


def test_a_reservation_of_one_node_is_settled_on_another(cluster: list[Service]) -> None:
    one, other, third = cluster
    held = one.post("/api/v1/reserve", {"key": "s:held", "tokens": 6, "ttl": 60}).json
    assert (held["allowed"], held["remaining"]) == (True, 4)
    assert ask(third, "s:held", 5)["allowed"] is False
    body = {"reservation": held["reservation"], "tokens": 2}
    assert other.post("/api/v1/commit", body).json["remaining"] == 8
    again = third.post("/api/v1/release", {"reservation": held["reservation"]})
    assert (again.status, again.json["code"]) == (404, "unknown_reservation")


def test_peek_spends_nothing_and_refund_gives_back(cluster: list[Service]) -> None:
    assert ask(cluster[0], "s:back", 7)["remaining"] == 3
    assert cluster[1].post("/api/v1/peek", {"key": "s:back"}).json["remaining"] == 3
    refund = cluster[2].post("/api/v1/refund", {"key": "s:back", "tokens": 7})
    assert refund.json["remaining"] == 10


def test_whoever_leaves_while_waiting_disturbs_nobody(cluster: list[Service]) -> None:
    for number in range(20):
        peer = cluster[0].connect()
        peer.send(message("POST", CHECK, json.dumps({"key": f"s:gone{number}"}).encode()))
        peer.socket.close()
    assert ask(cluster[0], "s:stays")["remaining"] == 9


def test_the_first_check_of_a_service_is_not_degraded(valkey: Valkey, tmp_path: Path) -> None:
    """The script was loaded and the connections were opened before; the deadline is the usual one."""
    options = {"redis_url": valkey.url, "cluster": "fresh"}
    with running_nodes(tmp_path, "a", **options) as (node,):
        for connection in _connections(node):
            assert connection
        apply_everywhere([node], *POLICIES)
        assert "degraded" not in ask(node, "s:first")


def _connections(node: Service) -> list[bool]:
    client = node.running.context.cluster.cluster.counters._client
    return [one.is_connected for one in client.connection_pool._available_connections]


def test_who_has_said_all_still_hears_the_answer(cluster: list[Service]) -> None:
    with cluster[0].connect() as peer:
        peer.send(message("POST", CHECK, b'{"key": "s:half"}'))
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.receive().json["remaining"] == 9
        assert peer.at_end()


def test_readouts_say_what_is_shared(cluster: list[Service]) -> None:
    node = cluster[0]
    level = eventually_held(node, "q:seen")
    assert level["policy"] == "quick"
    assert level["leases"][0]["node"] == "a"
    assert 0 < level["held"] <= level["bound"] == 50
    assert 0 < level["leases"][0]["expires_in"] <= 2.0
    document = node.get("/api/v1/cluster").json
    assert document["store"]["state"] == "up"
    assert document["store"]["stranded"] >= 50
    assert document["agreement"]["kind"] == "redis"
    metrics = node.get("/metrics").body.decode()
    assert "headgate_store_up 1.0" in metrics
    assert "headgate_cluster_members 3.0" in metrics
    assert 'headgate_degraded_decisions_total{mode="local"} 0.0' in metrics
    assert 'headgate_store_batch_size_bucket{le="+Inf"}' in metrics


def eventually_held(node: Service, key: str) -> Any:
    found: list[Any] = []

    def look() -> bool:
        ask(node, key)  # a lease follows demand
        found[:] = node.get(f"/api/v1/cluster/leases?key={key}").json["levels"]
        return bool(found) and found[0]["held"] > 0

    eventually(look)
    return found[0]
