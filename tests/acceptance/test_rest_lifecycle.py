"""Starting and stopping, as a process: what survives, what is refused, with which exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import servers
from tests.support.service import HOST, PATIENCE, Peer, ask, message, process_service

if TYPE_CHECKING:
    from tests.support.servers import Server
    from tests.support.service import Response

pytestmark = pytest.mark.slow  # each starts a process or two

TLS = Path(__file__).parent.parent / "support" / "tls"
POLICY = {"name": "p", "limit": 10, "window": "1h", "match": {"key": "*"}}
CHECK = message("POST", "/api/v1/check", b'{"key": "a", "tokens": 3}')


def check(server: Server) -> Response:
    return ask(server.port, "POST", "/api/v1/check", {"key": "a", "tokens": 3})


def add_policy(server: Server) -> None:
    assert ask(server.port, "POST", "/api/v1/policies", POLICY).status == 201


def stop(server: Server, number: int = signal.SIGTERM) -> int:
    server.process.send_signal(number)
    return server.process.wait(PATIENCE)


def test_a_graceful_restart_forgets_nothing(tmp_path: Path) -> None:
    with process_service(tmp_path) as server:
        add_policy(server)
        assert check(server).json["remaining"] == 7
        assert stop(server) == 0
    with process_service(tmp_path) as server:
        assert check(server).json["remaining"] == 4
        assert stop(server, signal.SIGINT) == 0


def test_without_snapshots_counters_start_afresh(tmp_path: Path) -> None:
    for remaining in (7, 7):
        with process_service(tmp_path, snapshot="off") as server:
            ask(server.port, "PUT", "/api/v1/policies/p", POLICY)
            assert check(server).json["remaining"] == remaining
            assert stop(server) == 0


def test_a_killed_service_starts_again_with_its_policies(tmp_path: Path) -> None:
    with process_service(tmp_path) as server:
        add_policy(server)
        check(server)
        assert stop(server, signal.SIGKILL) == -signal.SIGKILL
    with process_service(tmp_path) as server:
        assert check(server).json["remaining"] == 7


def test_one_calm_line_and_no_more(tmp_path: Path) -> None:
    with process_service(tmp_path, log_level="warning") as server:
        check(server)
        assert stop(server) == 0
        [line] = server.log.splitlines()
    assert line.startswith("headgate ")
    assert f"http://127.0.0.1:{server.port}" in line


def test_a_request_on_its_way_is_answered_while_the_service_stops(tmp_path: Path) -> None:
    with process_service(tmp_path) as server:
        policies = message("POST", "/api/v1/policies", b'{"name":"x","limit":9,"window":1}')
        with Peer(server.port) as idle, Peer(server.port) as late, Peer(server.port) as later:
            for peer in (idle, late, later):
                peer.send(CHECK)
                peer.receive()
            late.send(policies[:-7])
            later.send(CHECK[:-7])
            server.process.send_signal(signal.SIGTERM)
            wait_until_refused(server)
            idle.send(message("GET", "/readyz"))
            answer = idle.receive()
            assert (answer.status, answer.json["code"]) == (503, "shutting_down")
            assert answer["connection"] == "close"
            assert idle.at_end()
            late.send(policies[-7:])
            answer = late.receive()
            assert (answer.status, answer["connection"]) == (201, "close")
            later.send(CHECK[-7:])
            answer = later.receive()
            assert (answer.status, answer["connection"]) == (200, "close")
        assert server.process.wait(PATIENCE) == 0


def wait_until_refused(server: Server) -> None:
    """Return once no new connection is accepted."""
    for _ in range(1_000):
        try:
            socket.create_connection((HOST, server.port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.01)
    pytest.fail("connections are still accepted")


def test_who_never_finishes_does_not_keep_the_service_from_stopping(tmp_path: Path) -> None:
    with (
        process_service(tmp_path, drain_seconds="1", request_timeout="60") as server,
        Peer(server.port) as peer,
    ):
        peer.send(CHECK[:-1])
        check(server)  # by now the half request has been read
        assert stop(server) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        process_service(tmp_path, drain_seconds="3600", request_timeout="3600") as server,
        Peer(server.port) as peer,
    ):
        peer.send(message("POST", "/api/v1/policies", b"{}")[:-1])
        check(server)
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server)
        assert stop(server) == -signal.SIGTERM


def test_resp_speaks_beside_rest_and_its_counters_survive(tmp_path: Path) -> None:
    port = servers.free_port()
    throttle = b"CL.THROTTLE user 9 10 3600\r\n"
    for remaining in (9, 8):
        with process_service(tmp_path, resp_port=str(port)) as server:
            with socket.create_connection((HOST, port), timeout=PATIENCE) as resp:
                resp.sendall(throttle)
                assert resp.recv(1000).startswith(b"*5\r\n:0\r\n:10\r\n:%d\r\n" % remaining)
            assert stop(server) == 0


def test_tls_is_spoken(tmp_path: Path) -> None:
    files = {"tls_certificate": str(TLS / "certificate.pem"), "tls_key": str(TLS / "key.pem")}
    context = ssl.create_default_context(cafile=files["tls_certificate"])
    with process_service(tmp_path, **files) as server:
        plain = socket.create_connection((HOST, server.port), timeout=PATIENCE)
        with context.wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(CHECK)
            assert peer.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
            peer.sendall(b"garbage\r\n\r\n")
            assert peer.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert stop(server) == 0


def test_a_full_disk_costs_the_snapshot_and_nothing_else(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: writing fails in the same place."""
    port = servers.free_port()
    environment = {
        "HEADGATE_PORT": str(port),
        "HEADGATE_RESP_PORT": "off",
        "HEADGATE_DATA_DIR": str(tmp_path / "data"),
        "HEADGATE_DATABASE_URL": "memory://",
    }
    command = ["bash", "-c", f"ulimit -f 16; exec {sys.executable} -m headgate.server"]
    with servers.running(
        command, port=port, directory=tmp_path, environment={**os.environ, **environment}
    ) as server:
        add_policy(server)
        checks = [{"key": f"key:{n}"} for n in range(1000)]
        ask(port, "POST", "/api/v1/check:batch", {"checks": checks})
        assert stop(server) == 0
        assert "could not be written" in server.log
        assert "Traceback" not in server.log
    assert not list((tmp_path / "data").iterdir())


def refused(tmp_path: Path, **environment: str) -> str:
    """What a service says that does not start."""
    variables = {
        "HEADGATE_PORT": "0",
        "HEADGATE_RESP_PORT": "off",
        "HEADGATE_DATA_DIR": str(tmp_path / "data"),
        **{f"HEADGATE_{name.upper()}": value for name, value in environment.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "headgate.server"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("headgate: ")
    return last


@pytest.mark.parametrize("setting", ["port", "resp_port"])
def test_a_port_in_use(tmp_path: Path, setting: str) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        said = refused(tmp_path, **{setting: str(port)})
    assert f"127.0.0.1:{port}" in said
    assert f"--{setting.replace('_', '-')}" in said


def test_a_host_that_is_not_here(tmp_path: Path) -> None:
    assert "--host" in refused(tmp_path, host="host.invalid")


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert "--data-dir" in refused(tmp_path, data_dir=str(file / "data"))
    assert "--data-dir" in refused(tmp_path, data_dir=str(file))


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux")
def test_a_data_directory_that_is_read_only(tmp_path: Path) -> None:
    assert "--data-dir" in refused(tmp_path, data_dir="/sys/kernel")


def test_a_database_that_is_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "headgate.db").write_bytes(b"this is no database " * 1000)
    assert "headgate.db" in refused(tmp_path)


def test_a_database_of_another_kind(tmp_path: Path) -> None:
    assert "memory://" in refused(tmp_path, database_url="oracle://somewhere")


def test_beyond_loopback_without_tokens(tmp_path: Path) -> None:
    assert "headgate token create" in refused(tmp_path, host="0.0.0.0")


def test_a_setting_that_is_out_of_bounds(tmp_path: Path) -> None:
    said = refused(tmp_path, max_keys="many")
    assert "HEADGATE_MAX_KEYS must be a whole number" in said


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    assert "PEM" in refused(tmp_path, tls_certificate=absent, tls_key=absent)
    key = str(TLS / "key.pem")
    assert "PEM" in refused(tmp_path, tls_certificate=key, tls_key=key)
