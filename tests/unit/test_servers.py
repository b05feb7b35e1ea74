"""The helpers that start real servers, and the rule for missing ones."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.support import servers


def ask(server, request):
    with socket.create_connection((servers.HOST, server.port), timeout=5) as connection:
        connection.sendall(request)
        return connection.recv(4096)


def test_a_missing_program_is_skipped_loudly_on_a_laptop(monkeypatch):
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-program or neither is MISSING"):
        servers.require_program("no-such-program", "neither")


def test_a_missing_program_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is MISSING"):
        servers.require_program("no-such-program")


def test_a_server_that_dies_at_once_is_reported_with_its_output(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('cannot start')"]
    with (
        pytest.raises(pytest.fail.Exception, match="ended with 1:\ncannot start"),
        servers.running(command, port=servers.free_port(), directory=tmp_path),
    ):
        pass


@pytest.mark.needs_redis
def test_redis_answers_and_is_gone_afterwards(tmp_path):
    with servers.redis_server(tmp_path) as server:
        assert ask(server, b"PING\r\n") == b"+PONG\r\n"
    assert server.process.returncode == 0


@pytest.mark.needs_nginx
def test_nginx_answers(tmp_path):
    http = 'server { listen 127.0.0.1:{port}; location / { return 200 "ok"; } }'
    with servers.nginx_server(tmp_path, http) as server:
        assert ask(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
