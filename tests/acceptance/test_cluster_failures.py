"""What callers see when the shared counters are away: degraded answers at every door, and then none again."""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError
from tests.support.nodes import apply_everywhere, running_nodes
from tests.support.servers import HOST, free_port
from tests.support.service import PATIENCE, Service, message, running_service
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
    {"name": "quick", "limit": 1000, "window": "10s", "match": {"key": "q:*"},
     "consistency": "leased"},
    {"name": "local", "limit": 50, "window": "1h", "match": {"key": "n:*"}, "consistency": "local"},
    {"name": "closed", "limit": 10, "window": "1h", "match": {"key": "c:*"},
     "consistency": "strict", "failure_mode": "closed"},
    {"name": "open", "limit": 10, "window": "1h", "match": {"key": "o:*"},
     "consistency": "strict", "failure_mode": "open"},
]  # fmt: skip


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def options(valkey: Valkey, deadline: float = 0.25) -> dict[str, Any]:
    return {"redis_url": valkey.url, "store_deadline": deadline, "cluster": "failing"}


def ask(service: Service, key: str, tokens: int = 1) -> Any:
    return service.post(CHECK, {"key": key, "tokens": tokens}).json


def resp(service: Service, *lines: str) -> socket.socket:
    port = service.running.resp_port
    assert port is not None
    connection = socket.create_connection((HOST, port), timeout=PATIENCE)
    connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
    return connection


def read(connection: socket.socket, end: bytes) -> bytes:
    """What comes until these bytes."""
    data = b""
    while not data.endswith(end):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def test_every_door_says_when_an_answer_is_degraded_and_when_it_is_no_longer(
    valkey: Valkey, tmp_path: Path
) -> None:
    nodes = running_nodes(tmp_path, "a", resp_port=free_port(), **options(valkey))
    with nodes as (node,):
        apply_everywhere([node], *POLICIES)
        assert ask(node, "s:1", 4)["remaining"] == 6
        valkey.kill()
        first = node.post(CHECK, {"key": "s:1"})
        assert first.json["degraded"] is True
        assert first["x-headgate-degraded"] == "true"
        # No fresh allowance: what was known of the key counts.
        answers = [ask(node, "s:1") for _ in range(8)]
        assert sum(answer["allowed"] for answer in answers) <= 5
        assert all(answer["degraded"] for answer in answers)
        closed = node.post(CHECK, {"key": "c:1"})
        assert (closed.status, closed.json["degraded"]) == (429, True)
        assert [ask(node, "o:1", 9)["allowed"] for _ in range(3)] == [True] * 3
        assert "degraded" not in ask(node, "n:1")
        batch = node.post("/api/v1/check:batch", {"checks": [{"key": "o:1"}, {"key": "n:1"}]})
        assert [one.get("degraded") for one in batch.json["results"]] == [True, None]
        with resp(node, "HEADGATE.CHECK o:1 1", "HELLO 3", "HEADGATE.CHECK o:1 1") as peer:
            said = read(peer, b"degraded\r\n#t\r\n")
        assert said.startswith(b"*8\r\n:1\r\n")
        cluster = node.get("/api/v1/cluster").json
        assert cluster["store"]["state"] == "down"
        assert cluster["store"]["degraded"]["open"] >= 4
        assert node.get("/readyz").json["cluster"]["store"] == "down"
        assert "headgate_store_up 0.0" in node.get("/metrics").body.decode()
        valkey.start()
        eventually(lambda: "degraded" not in ask(node, "s:2", 0), 5)
        eventually(lambda: node.get("/api/v1/cluster").json["store"]["state"] == "up", 5)


def test_a_pending_answer_is_finished_before_the_service_ends(
    valkey: Valkey, tmp_path: Path
) -> None:
    nodes = running_nodes(tmp_path, "a", resp_port=free_port(), **options(valkey, 1.0))
    with nodes as (node,):
        apply_everywhere([node], *POLICIES)
        assert ask(node, "s:1")["allowed"]
        with node.connect() as peer, resp(node, "HEADGATE.CHECK s:1 1", "PING") as other:
            valkey.pause()
            before = _asked(node)
            peer.send(message("POST", CHECK, json.dumps({"key": "o:2"}).encode()))
            eventually(lambda: _asked(node) > before)
            node.loop.call_soon_threadsafe(node.running.stop)
            assert peer.receive().json["degraded"] is True
            assert peer.at_end()
            assert read(other, b"+PONG\r\n").startswith(b"*")
        valkey.resume()


def _asked(node: Service) -> int:
    status = node.running.context.cluster.cluster.status()
    assert status is not None
    return status.questions


def test_other_connections_go_on_while_one_waits(valkey: Valkey, tmp_path: Path) -> None:
    with running_nodes(tmp_path, "a", **options(valkey, 1.0)) as (node,):
        apply_everywhere([node], *POLICIES)
        assert ask(node, "s:1")["allowed"]
        valkey.pause()
        with node.connect() as waiting:
            before = _asked(node)
            keys = ("o:3", "n:1", "n:1")
            waiting.send(b"".join(message("POST", CHECK, json.dumps({"key": key}).encode())
                                  for key in keys))  # fmt: skip
            eventually(lambda: _asked(node) > before)
            assert ask(node, "n:1")["remaining"] == 49
            answers = [waiting.receive().json for _ in keys]
        valkey.resume()
    assert answers[0]["degraded"] is True
    assert [answer["remaining"] for answer in answers[1:]] == [48, 47]


def test_commands_of_a_pipeline_travel_together_and_are_answered_in_order(
    valkey: Valkey, tmp_path: Path
) -> None:
    nodes = running_nodes(tmp_path, "a", resp_port=free_port(), **options(valkey, 2.0))
    with nodes as (node,):
        apply_everywhere([node], *POLICIES)
        carried = node.running.context.cluster.cluster.carried
        assert ask(node, "s:0")["allowed"]
        before = carried().batches
        lines = []
        for number in range(200):
            lines += [f"HEADGATE.CHECK s:{number % 20}x 1", f"ECHO {number}"]
            if number == 100:
                lines += ["HEADGATE.CHECK n:9 1", "CLIENT ID", "HELLO 3"]
        with resp(node, *lines, "QUIT") as peer:
            said = read(peer, b"+OK\r\n")
            assert peer.recv(1) == b""
        echoed = [line for line in said.split(b"\r\n") if line.isdigit()]
        assert echoed == [str(number).encode() for number in range(200)]
        two, _, three = said.partition(b"%7\r\n$6\r\nserver\r\n")
        assert two.count(b"*7\r\n:1\r\n:10\r\n") == 101
        assert three.count(b"allowed\r\n#t\r\n") == 99
        assert carried().batches - before <= 10


def test_what_was_drawn_ahead_is_given_back_when_a_node_stops(
    valkey: Valkey, tmp_path: Path
) -> None:
    with running_nodes(tmp_path, "a", **options(valkey, 2.0)) as (node,):
        apply_everywhere([node], *POLICIES)
        second = running_service(tmp_path / "b", SystemClock(), node="b", **options(valkey, 2.0))
        with second as leaving:
            eventually(lambda: leaving.running.context.service.engine.policy("quick"))
            eventually(lambda: _drawn(leaving))
        leases = _leases(node)
        assert [lease for lease in leases if lease["node"] == "b" and lease["held"]] == []


def _drawn(node: Service) -> bool:
    ask(node, "q:1")
    return any(lease["node"] == "b" and lease["held"] for lease in _leases(node))


def _leases(node: Service) -> list[dict[str, Any]]:
    ask(node, "q:1")
    levels = node.get("/api/v1/cluster/leases?key=q:1").json["levels"]
    found: list[dict[str, Any]] = levels[0]["leases"] if levels else []
    return found


def test_a_hold_that_nobody_settles_is_released_by_the_leader(
    valkey: Valkey, tmp_path: Path
) -> None:
    with running_nodes(tmp_path, "ab", **options(valkey, 2.0)) as nodes:
        apply_everywhere(nodes, *POLICIES)
        held = nodes[1].post("/api/v1/reserve", {"key": "s:h", "tokens": 7, "ttl": 0.3}).json
        assert held["remaining"] == 3
        peek = {"key": "s:h"}
        eventually(lambda: nodes[0].post("/api/v1/peek", peek).json["remaining"] == 10, 5)


def test_an_address_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="redis"):
        running_service(tmp_path, SystemClock(), redis_url="redis://user:pass@@:x").__enter__()
    with pytest.raises(ConfigurationError, match="etcd"):
        running_service(tmp_path, SystemClock(), etcd_endpoints="nonsense").__enter__()


def test_a_wrong_password_is_said_loudly_and_the_node_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Valkey(tmp_path / "valkey", "--requirepass", "secret")
    server.start()
    try:
        url = server.url.replace("redis://", "redis://:wrong@")
        with (
            caplog.at_level(logging.WARNING),
            running_service(tmp_path / "a", SystemClock(), redis_url=url) as node,
        ):
            eventually(lambda: "the shared counters do not answer" in caplog.text)
            assert node.post(CHECK, {"key": "k"}).status == 200
            assert "wrong" not in caplog.text
            assert node.get("/readyz").status == 503  # no configuration was ever read
    finally:
        server.stop()
    assert threading.active_count() < 50
