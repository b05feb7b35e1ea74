"""What the tests' own proxy does to connections, against an echo server."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time

import pytest

from tests.support.fault_proxy import fault_proxy
from tests.support.servers import HOST
from tests.support.valkeys import TLS, server_tls, wait_until


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture(scope="module")
def echo():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server((HOST, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def connect(port):
    sock = socket.create_connection((HOST, port), timeout=5)
    return sock, sock.makefile("rb")


def ask(sock, file):
    began = time.monotonic()  # noqa: TID251 - a real network
    sock.sendall(b"hello\n")
    assert file.readline() == b"hello\n"
    return time.monotonic() - began  # noqa: TID251 - likewise


def is_reset(port):
    """Whether a new connection is; that may be found out at once or later."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as sock:
            sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_it_passes_on_what_it_gets_and_late_when_told_so(echo):
    with fault_proxy(echo) as proxy:
        sock, file = connect(proxy.port)
        with sock, file:
            ask(sock, file)
            proxy.delay(to_server=0.02, to_client=0.03)
            assert ask(sock, file) >= 0.049
            proxy.restore()
            ask(sock, file)
        assert (proxy.connections, proxy.bytes_to_server) == (1, 18)
        wait_until(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("held", [{"to_server": False}, {"to_client": False}, {}])
def test_what_is_held_arrives_when_the_network_is_back(echo, held):
    with fault_proxy(echo) as proxy:
        sock, file = connect(proxy.port)
        with sock, file:
            proxy.hold(**held)
            sock.sendall(b"hello\n")
            sock.settimeout(0.02)
            with pytest.raises(TimeoutError):
                sock.recv(100)
            sock.settimeout(5)
            proxy.restore()
            assert sock.recv(100) == b"hello\n"


def test_connections_are_dropped_and_taken_again(echo):
    with fault_proxy(echo) as proxy:
        sock, file = connect(proxy.port)
        with sock, file:
            ask(sock, file)
            proxy.drop()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert is_reset(proxy.port)
        proxy.restore()
        sock, file = connect(proxy.port)
        with sock, file:
            ask(sock, file)


def test_nobody_behind_it_is_a_connection_reset():
    bound = socket.socket()  # and does not listen
    bound.bind((HOST, 0))
    with bound, fault_proxy(bound.getsockname()[1]) as proxy:
        assert is_reset(proxy.port)


def test_it_speaks_tls(echo):
    context = ssl.create_default_context(cafile=TLS / "certificate.pem")
    with fault_proxy(echo, tls=server_tls()) as proxy:
        plain, _ = connect(proxy.port)
        with plain, _, context.wrap_socket(plain, server_hostname="localhost") as sock:
            ask(sock, sock.makefile("rb"))
