"""Several worker processes behind one port: started, balanced, killed, replaced, ended."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.test_rest_lifecycle import TLS, refused
from tests.support import servers
from tests.support.service import HOST, PATIENCE, Peer, ask, message
from tests.support.waiting import eventually
from tests.support.workers import Caller, gone, node_of_workers, port_is_free

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.workers import Node

pytestmark = [
    pytest.mark.slow,  # each starts several processes
    pytest.mark.skipif(os.name != "posix", reason="sockets are handed on"),
]

POLICY = {"name": "p", "limit": 1_000_000, "window": "1h", "match": {"key": "*"}}
HEALTH = message("GET", "/healthz")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for tests that leave it with two workers."""
    with node_of_workers(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_of_workers(tmp_path) as running:
        yield running


def test_one_calm_line_and_an_end_that_leaves_nothing(tmp_path: Path) -> None:
    with node_of_workers(tmp_path, log_level="warning") as node:
        valkey, directory, workers = node.valkey(), node.directory(), node.workers()
        assert len(workers) == 2
        assert directory.stat().st_mode & 0o777 == 0o700
        assert node.stop() == 0
        [line] = node.server.log.splitlines()
    assert "2 workers" in line
    assert f"http://127.0.0.1:{node.port}" in line
    assert not directory.exists()
    assert all(gone(pid) for pid in (valkey, *workers))


def test_a_free_port_is_found_and_said_and_tls_is_spoken(tmp_path: Path) -> None:
    environment = {
        "HEADGATE_PORT": "0",
        "HEADGATE_RESP_PORT": "off",
        "HEADGATE_WORKERS": "2",
        "HEADGATE_DATA_DIR": str(tmp_path / "data"),
        "HEADGATE_TLS_CERTIFICATE": str(TLS / "certificate.pem"),
        "HEADGATE_TLS_KEY": str(TLS / "key.pem"),
    }
    servers.require_program("valkey-server", "redis-server")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "headgate.server"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "2 workers" in log.read_text())
        port = int(log.read_text().rpartition("https://127.0.0.1:")[2].partition(",")[0])
        context = ssl.create_default_context(cafile=environment["HEADGATE_TLS_CERTIFICATE"])
        for _ in range(4):
            plain = socket.create_connection((HOST, port), timeout=PATIENCE)
            with context.wrap_socket(plain, server_hostname="localhost") as peer:
                peer.sendall(HEALTH)
                assert peer.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        assert servers.stop(process) == 0


def test_connections_are_shared_out(shared: Node) -> None:
    # By turns it would be five each. A worker that the system does not let run loses some.
    eventually(lambda: smaller_share(shared) >= 3)


def smaller_share(node: Node) -> int:
    """Of ten connections, how many the worker has that has fewer."""
    peers = [Peer(node.port) for _ in range(10)]
    for peer in peers:
        peer.send(HEALTH)
        assert peer.receive().status == 200
    shares = sorted(node.connections(worker) for worker in node.workers())
    for peer in peers:
        peer.socket.close()
    assert sum(shares) >= 10
    return shares[0]


def test_a_worker_that_is_killed_is_replaced(shared: Node) -> None:
    ask(shared.port, "POST", "/api/v1/policies", POLICY)
    first, second = shared.workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(shared.workers()) == 2 and first not in shared.workers())
    assert second in shared.workers()
    for _ in range(6):
        assert ask(shared.port, "POST", "/api/v1/check", {"key": "a"}).status == 200
    assert "it was ended by signal 9; another starts" in shared.server.log


def test_what_waits_in_the_queue_of_a_worker_that_is_killed_is_answered(shared: Node) -> None:
    workers = shared.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with Peer(shared.port) as peer:
        peer.send(HEALTH)
        os.kill(workers[0], signal.SIGKILL)
        os.kill(workers[1], signal.SIGCONT)
        assert peer.receive().status == 200


def test_all_workers_killed_at_once_come_back(shared: Node) -> None:
    before = shared.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with Peer(shared.port) as peer:  # waits in the queue until somebody is there
        peer.send(HEALTH)
        assert peer.receive().status == 200
    eventually(lambda: len(shared.workers()) == 2 and not set(before) & set(shared.workers()))


def test_workers_that_cannot_live_end_the_service_with_a_word(node: Node) -> None:
    database = node.server.directory / "data" / "headgate.db"
    for file in database.parent.glob("headgate.db*"):
        file.unlink()
    database.write_bytes(b"this is no database " * 1000)
    for pid in node.workers():
        os.kill(pid, signal.SIGKILL)
    assert node.server.process.wait(60) == 2
    *_, last = node.server.log.splitlines()
    assert last.startswith("headgate: the workers keep dying")
    assert "headgate.db" in last


def test_the_private_valkey_comes_back(shared: Node) -> None:
    before, directory = shared.valkey(), shared.directory()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: shared.valkey() not in {0, before} and (directory / "valkey.sock").exists())
    assert shared.directory() == directory
    assert ask(shared.port, "GET", "/healthz").status == 200


def test_nothing_outlives_a_supervisor_that_is_killed(node: Node) -> None:
    valkey, directory, workers = node.valkey(), node.directory(), node.workers()
    node.server.process.kill()
    eventually(lambda: all(gone(pid) for pid in (valkey, *workers)))
    eventually(lambda: not directory.exists())
    assert port_is_free(node.port)


def test_what_was_left_behind_is_removed_by_the_next(node: Node, tmp_path: Path) -> None:
    valkey, directory, workers = node.valkey(), node.directory(), node.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    node.server.process.kill()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(gone(pid) for pid in (valkey, *workers)))
    assert directory.exists()
    with node_of_workers(tmp_path / "next"):
        assert not directory.exists()


def test_a_request_on_its_way_is_answered_while_the_service_stops(node: Node) -> None:
    policies = message("POST", "/api/v1/policies", b'{"name":"x","limit":9,"window":1}')
    with Peer(node.port) as late, Peer(node.port) as queued:
        late.send(HEALTH)
        late.receive()
        late.send(policies[:-7])
        node.server.process.send_signal(signal.SIGTERM)
        queued.send(HEALTH)
        assert queued.receive().status == 200
        late.send(policies[-7:])
        assert late.receive().status == 201
    assert node.server.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with node_of_workers(tmp_path, drain_seconds="3600", request_timeout="3600") as node:
        directory, workers = node.directory(), node.workers()
        with Peer(node.port) as peer:
            peer.send(message("POST", "/api/v1/policies", b"{}")[:-1])
            ask(node.port, "GET", "/healthz")
            node.server.process.send_signal(signal.SIGTERM)
            eventually(lambda: port_is_free(node.port))
            assert node.stop() == -signal.SIGTERM
        eventually(lambda: all(gone(pid) for pid in workers))
        assert not directory.exists()


def test_a_signal_to_all_processes_is_one_signal(node: Node) -> None:
    """As systemd sends it: the workers and the Valkey get it too."""
    for pid in [*node.workers(), node.valkey()]:
        os.kill(pid, signal.SIGTERM)
    assert node.stop() == 0


def test_hanging_up_replaces_the_workers_and_nobody_notices(shared: Node) -> None:
    before = shared.workers()
    with Caller([shared.port]) as fresh, Caller([shared.port], keep=True) as kept:
        fresh.await_answers(10)
        shared.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "all workers were replaced" in shared.server.log)
        fresh.await_answers(10)
        kept.await_answers(10)
    assert not fresh.failures
    assert not kept.failures
    assert {answer.status for answer in [*fresh.answers, *kept.answers]} == {200}
    assert not set(before) & set(shared.workers())
    assert len(shared.workers()) == 2


def test_metrics_are_those_of_the_node_and_never_go_down(shared: Node) -> None:
    def metrics() -> dict[str, str]:
        text = ask(shared.port, "GET", "/metrics").body.decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")

    def answered() -> float:
        return sum(
            float(value)
            for name, value in metrics().items()
            if name.startswith("headgate_http_requests_total{") and "/api/v1/check" in name
        )

    eventually(lambda: metrics()["headgate_workers"] == "2.0")
    limits = float(metrics()["headgate_limits"])
    policy = {**POLICY, "limit": 10, "match": {"key": "metrics"}}
    assert ask(shared.port, "PUT", "/api/v1/policies/m", policy | {"name": "m"}).status == 201
    eventually(lambda: float(metrics()["headgate_limits"]) == limits + 1)  # in all workers
    before = answered()
    for _ in range(20):
        ask(shared.port, "POST", "/api/v1/check", {"key": "metrics"})
    assert answered() == before + 20
    deaths = float(metrics()["headgate_worker_deaths_total"])
    os.kill(shared.workers()[0], signal.SIGKILL)
    eventually(lambda: float(metrics()["headgate_worker_deaths_total"]) == deaths + 1)
    assert answered() == before + 20
    policies = ask(shared.port, "GET", "/api/v1/metrics").json["policies"]
    [counts] = [one for one in policies if one["policy"] == "m"]
    assert counts["admitted"] + counts["denied"] == 20


def test_records_in_memory_cannot_be_shared(tmp_path: Path) -> None:
    assert "--workers 1" in refused(tmp_path, workers="2", database_url="memory://")


def test_a_worker_that_cannot_start_is_the_services_word(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "headgate.db").write_bytes(b"this is no database " * 1000)
    assert "headgate.db" in refused(tmp_path, workers="2")
