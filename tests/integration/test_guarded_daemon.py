"""The example daemon as a process: attacked, it goes on serving, and recovers by itself (B9)."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from tests.support import servers

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples/guarded_daemon.py"
PATIENCE = 30.0
CONNECTIONS = 16
MEMORY_MB = 200
# A pace for looking again at a real process; nothing is decided by it.
LOOK = 0.02


class Client:
    """One connection that asks line by line."""

    opened: ClassVar[list[Client]] = []

    def __init__(self, port: int) -> None:
        self.opened.append(self)
        self.socket = socket.create_connection((servers.HOST, port), timeout=PATIENCE)
        self.lines = self.socket.makefile("rb")

    def ask(self, line: str) -> str:
        self.socket.sendall(line.encode() + b"\n")
        return self.lines.readline().decode().strip()

    def metrics(self) -> dict:
        return json.loads(self.ask("metrics"))

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


def new_client(port: int) -> Client:
    """One that was answered: a place may be lost to the guard between accept and the first request."""
    for _ in range(100):
        client = Client(port)
        with contextlib.suppress(OSError):
            if client.ask("echo hello") == "hello":
                return client
        client.close()
    raise AssertionError("nobody answers")


def until(condition) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / LOOK)):
        if condition():
            return
        pause.wait(LOOK)
    raise AssertionError("it did not come to that")


@pytest.fixture(params=["--threads", "--tasks"])
def daemon(request, tmp_path):
    port = servers.free_port()
    command = [sys.executable, EXAMPLE, "--port", str(port)]
    if request.param == "--threads":
        command.append("--threads")
    environment = {
        "HEADGATE_MAX_CONNECTIONS": str(CONNECTIONS),
        "HEADGATE_MAX_MEMORY_MB": str(MEMORY_MB),
        "HEADGATE_MAX_REQUESTS_PER_MINUTE": "100000",
        "HEADGATE_CONNECTION_GRACE_SECONDS": "0.3",
        "HEADGATE_MAX_CPU_PERCENT": "off",
    }
    with servers.running(command, port=port, directory=tmp_path, environment=environment) as server:
        yield server
        code = servers.stop(server.process)
        while Client.opened:
            Client.opened.pop().close()
        assert code == 0, server.log
        assert '"validation_failures"' in server.log  # what it prints at its graceful end
        assert "Traceback" not in server.log


def size(server: servers.Server) -> tuple[int, int]:
    process = psutil.Process(server.process.pid)
    return process.num_fds(), process.num_threads()


def test_a_flood_of_connections(daemon):
    first = new_client(daemon.port)
    flood = [socket.create_connection((servers.HOST, daemon.port)) for _ in range(60)]
    until(lambda: first.metrics()["connections"]["active"] == CONNECTIONS)
    handles, threads = size(daemon)
    assert handles < CONNECTIONS + 40
    assert threads < CONNECTIONS + 20
    assert first.ask("echo still here") == "still here"  # who asks is not who has to go
    late = new_client(daemon.port)  # behind sixty others in the backlog
    document = late.metrics()
    assert document["connections"]["stale"] >= 60 - CONNECTIONS
    assert document["resources"]["connections"]["peak"] == CONNECTIONS
    assert document["performance"]["failed"] == 0
    for attacker in flood:
        attacker.close()
    until(lambda: late.metrics()["connections"]["active"] <= 2)
    assert new_client(daemon.port).metrics()["daemon"]["status"] == "ok"
    assert "connections at the limit" in daemon.log


class Slow(threading.Thread):
    """Takes all places, sends a byte now and then, and never takes an answer; comes again when cut off."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.over = threading.Event()
        self.cut_off = 0

    def run(self) -> None:
        attackers = [self.attack() for _ in range(CONNECTIONS)]
        while not self.over.wait(LOOK):
            for index, attacker in enumerate(attackers):
                try:
                    attacker.send(b"x")
                except BlockingIOError:
                    continue
                except OSError:
                    self.cut_off += 1
                    attacker.close()
                    attackers[index] = self.attack()
        for attacker in attackers:
            attacker.close()

    def attack(self) -> socket.socket:
        attacker = socket.create_connection((servers.HOST, self.port), timeout=PATIENCE)
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if self.cut_off % 2:
            attacker.sendall(b"big 6000\n")
        attacker.setblocking(False)
        return attacker


def test_slow_clients(daemon):
    slow = Slow(daemon.port)
    slow.start()
    until(lambda: slow.cut_off > 0)
    for _ in range(3):
        client = new_client(daemon.port)
        assert client.ask("echo hello again") == "hello again"
        client.close()
    slow.over.set()
    slow.join(PATIENCE)
    assert slow.cut_off >= CONNECTIONS
    client = new_client(daemon.port)
    until(lambda: client.metrics()["connections"]["active"] == 1)
    until(lambda: client.metrics()["daemon"]["status"] == "ok")
    document = client.metrics()
    assert document["performance"]["in_flight"] == 0
    assert document["resources"]["connections"]["peak"] <= CONNECTIONS
    handles, threads = size(daemon)
    assert handles < 40
    assert threads < 20


def test_a_memory_balloon(daemon):
    client, other = new_client(daemon.port), new_client(daemon.port)
    holders = [new_client(daemon.port) for _ in range(3)]
    for holder in holders[:2]:
        holder.socket.sendall(b"hold 100\n")
    until(lambda: other.ask("echo hello") == "refused memory 1.0")
    holders[2].socket.sendall(b"hold 100\n")
    assert holders[2].lines.readline() == b"refused memory 1.0\n"
    document = client.metrics()
    assert document["daemon"]["status"] == "violated"
    assert document["performance"]["in_flight"] == 2
    assert document["resources"]["memory"]["peak"] < MEMORY_MB + 150
    outside = Client(daemon.port)
    outside.socket.sendall(b"echo let me in\n")
    before = client.metrics()["connections"]["active"]
    assert before == 5  # it waits in the backlog
    assert client.ask("free") == "freed"
    assert [holder.lines.readline() for holder in holders[:2]] == [b"100\n", b"100\n"]
    assert outside.lines.readline() == b"let me in\n"
    until(lambda: client.metrics()["daemon"]["status"] == "ok")
    assert client.ask("echo as before") == "as before"
    assert client.metrics()["resources"]["memory"]["current"] < MEMORY_MB
    assert "memory at the limit" in daemon.log


def test_bad_input_and_a_graceful_end(daemon):
    client, holder, idle = (new_client(daemon.port) for _ in range(3))
    for line in ("nonsense", "big -5", "hold \u0665", "big 99999999999999", ""):
        assert client.ask(line).startswith("error say:")
    assert client.metrics()["security"]["validation_failures"] == 5
    long = Client(daemon.port)
    long.socket.sendall(b"echo " + b"y" * 20_000)
    long.close()
    holder.socket.sendall(b"hold 1\n")
    until(lambda: client.metrics()["performance"]["in_flight"] == 1)
    daemon.process.send_signal(signal.SIGTERM)
    assert idle.lines.readline() == b""
    assert holder.lines.readline() == b"1\n"  # what was under way is finished, and answered
    assert holder.lines.readline() == b""
    assert daemon.process.wait(PATIENCE) == 0
