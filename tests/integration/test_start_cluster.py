"""`make start-cluster`: real nodes with a real Redis, and what becomes of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import start_cluster
from scripts.local_cluster import (
    ROOT,
    ClusterError,
    LocalCluster,
    Part,
    free_port,
    local_cluster,
    node_part,
    redis_part,
)
from tests.support.servers import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]
PATIENCE = 60


@pytest.fixture(autouse=True)
def _has_redis():
    require_program("valkey-server", "redis-server")


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """The command as make runs it, with two nodes that agree by Redis."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.start_cluster", "--nodes", "2", "--no-etcd"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=PATIENCE)


def told(process: subprocess.Popen[str]) -> str:
    """What it prints before it waits."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    return "".join(lines)


def answers(port: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", int(port)), 1):
            return True
    except OSError:
        return False


def children(pid: int) -> list[tuple[int, str]]:
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return [(int(number), arguments) for number, arguments in lines]


def test_it_says_where_all_is_and_stops_all_of_it(started):
    text = told(started)
    ports = re.findall(r"http://127.0.0.1:(\d+)  RESP", text)
    redis = re.findall(r"redis://127.0.0.1:(\d+)", text)
    assert len(ports) == 2
    assert all(answers(port) for port in ports + redis)
    started.send_signal(signal.SIGINT)
    assert started.wait(PATIENCE) == 0
    assert not any(answers(port) for port in ports + redis)


def test_a_node_that_dies_is_shown_with_its_log(started):
    text = told(started)
    redis = re.search(r"redis://127.0.0.1:(\d+)", text)
    assert redis
    node = next(pid for pid, arguments in children(started.pid) if "headgate serve" in arguments)
    os.kill(node, signal.SIGKILL)
    assert started.wait(PATIENCE) == 1
    assert started.stderr is not None
    said = started.stderr.read()
    assert "ended with exit code -9" in said
    assert "headgate" in said.partition("--- the log of node-")[2]
    assert not answers(redis[1])


def test_a_part_that_cannot_start_takes_the_others_with_it(tmp_path):
    cluster = LocalCluster(tmp_path, nodes=1, with_etcd=False, settings={"MAX_KEYS": "no number"})
    with pytest.raises(ClusterError, match=r"(?s)node-1 ended with exit code 2.*MAX_KEYS"), cluster:
        pytest.fail("it started")
    assert cluster.redis.process is not None
    assert cluster.redis.process.poll() is not None


def test_a_store_comes_back_where_it_was(tmp_path):
    redis = redis_part(tmp_path)
    redis.restart()
    first = redis.pid
    redis.kill()
    redis.require_alive()  # it is not meant to live
    redis.restart()
    assert redis.pid != first
    assert redis.stop() == 0


def test_the_nodes_answer_and_take_policies():
    with local_cluster(nodes=1, with_etcd=False) as cluster:
        node = cluster.nodes[0]
        node.set_policy({"name": "one", "limit": 5, "window": "1h"})
        assert node.call("GET", "/api/v1/policies/one")[1]["limit"] == 5
        with pytest.raises(ClusterError, match=r"400|422"):
            node.set_policy({"name": "one", "limit": 0, "window": "1h"})


def test_ports_in_a_row_or_free_ones():
    first = free_port()
    assert start_cluster.ports_from(first, 1, asked=True) == [first]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port not in start_cluster.ports_from(port, 1, asked=False)
        with pytest.raises(ClusterError, match=f"port {port} is taken"):
            start_cluster.ports_from(port, 1, asked=True)


def test_a_part_that_was_never_started_has_no_process(tmp_path):
    part = Part("nothing", ["true"], tmp_path / "log", 1)
    assert part.stop() == 0
    with pytest.raises(ClusterError, match="never started"):
        _ = part.pid


def test_a_first_token_made_beside_the_nodes_is_known_to_them(tmp_path):
    """What the compose file and the chart begin with: nodes beyond loopback start only with a token."""
    redis = redis_part(tmp_path / "redis")
    redis.restart()
    try:
        settings = {"HEADGATE_REDIS_URL": f"redis://127.0.0.1:{redis.port}"}
        command = [sys.executable, "-m", "headgate", "token"]
        environment = {**os.environ, **settings, "HEADGATE_DATA_DIR": str(tmp_path / "own")}

        def token(*words: str) -> str:
            done = subprocess.run(
                [*command, *words], env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout

        assert '"id"' not in token("list", "--json")
        assert token("create", "first", "--scope", "admin").startswith("hg_")
        assert '"id"' in token("list", "--json")
        node = node_part(
            "node-1",
            tmp_path / "node",
            port=free_port(),
            resp_port=free_port(),
            settings={"REDIS_URL": settings["HEADGATE_REDIS_URL"]},
        )
        node.restart()
        try:
            assert node.call("GET", "/api/v1/policies")[0] == 401
            assert node.call("GET", "/readyz")[0] == 200
        finally:
            node.stop()
    finally:
        redis.stop()
