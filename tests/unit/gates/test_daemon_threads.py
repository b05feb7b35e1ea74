"""A guarded daemon of threads, over real loopback connections and a clock that the test moves."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headgate.errors import InvalidInput, Overloaded
from headgate.gates.daemon_threads import GuardedServer
from tests.support.daemons import Usage, guarded
from tests.support.stepped_clock import PATIENCE, SteppedClock

HOST = "127.0.0.1"


class Daemon:
    """Echoes lines; a line may also ask for trouble."""

    def __init__(self, clock: SteppedClock, **limits) -> None:
        self.clock = clock
        self.usage = Usage()
        self.guard = guarded(clock, self.usage, **limits)
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.go_on = threading.Event()
        self.at_work = threading.Semaphore(0)

    def handle(self, sock, connection):
        with sock.makefile("rb") as lines:
            for line in lines:
                try:
                    with connection.request():
                        answer = self.work(sock, line)
                except Overloaded as error:
                    answer = f"refused {error.decision.policy}\n".encode()
                sock.sendall(answer)

    def work(self, sock, line):
        self.at_work.release()
        if line == b"fail\n":
            raise RuntimeError("as asked")
        if line == b"wait\n":
            assert self.go_on.wait(PATIENCE)
        if line == b"stick\n":
            sock.recv(1)
        return b"x" * 50_000_000 if line == b"much\n" else line

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=PATIENCE)

    def until_at_work(self) -> None:
        assert self.at_work.acquire(timeout=PATIENCE)

    def until_left(self, active: int) -> None:
        for _ in range(int(PATIENCE * 1000)):
            if len(self.guard.connections) == active:
                return
            threading.Event().wait(0.001)
        raise AssertionError("a connection was not left")


@contextlib.contextmanager
def serving(drain_seconds=10.0, **limits):
    daemon = Daemon(SteppedClock(), **limits)

    def work():
        daemon.guard.serve(daemon.listener, daemon.handle, drain_seconds=drain_seconds)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.go_on.set()
        daemon.guard.stop()
        thread.join(PATIENCE)
        daemon.listener.close()
        assert not thread.is_alive()


def ask(sock: socket.socket, line: bytes = b"hello\n") -> bytes:
    sock.sendall(line)
    return sock.recv(100)


def at_end(sock: socket.socket) -> bool:
    try:
        while sock.recv(1_000_000):
            pass
    except ConnectionResetError:
        return True
    return True


def test_it_serves_and_ends():
    with serving() as daemon:
        with daemon.connect() as one, daemon.connect() as two:
            assert ask(one) == ask(two) == b"hello\n"
            assert ask(one) == b"hello\n"
            assert daemon.guard.metrics()["connections"]["active"] == 2
        daemon.until_left(0)
        assert daemon.guard.metrics()["performance"]["ok"] == 3


def test_who_finds_no_place_waits_in_the_backlog():
    with serving(max_connections=1) as daemon:
        with daemon.connect() as one:
            assert ask(one) == b"hello\n"
            two = daemon.connect()
            two.sendall(b"second\n")
            daemon.clock.until_waiting(2)  # housekeeping, and the accept loop
        daemon.until_left(0)
        daemon.clock.advance(0.1)
        with two:
            assert two.recv(100) == b"second\n"
        assert daemon.guard.rejections == 0


def test_violated_memory_pauses_for_a_second():
    with serving() as daemon, daemon.connect() as one:
        assert ask(one) == b"hello\n"
        one.sendall(b"wait\n")
        daemon.until_at_work()
        daemon.until_at_work()
        daemon.usage.memory = 500.0
        daemon.clock.advance(0.001)
        with daemon.connect() as two:
            daemon.clock.until_waiting(2)
            daemon.go_on.set()
            assert one.recv(100) == b"wait\n"  # what is under way finishes
            daemon.usage.memory = 1.0
            two.sendall(b"second\n")
            daemon.clock.advance(0.99)
            daemon.clock.until_waiting(2)
            daemon.clock.advance(0.01)
            assert two.recv(100) == b"second\n"


def test_a_silent_client_is_cut_off():
    with serving() as daemon, daemon.connect() as one, daemon.connect() as two:
        assert ask(two) == b"hello\n"
        one.sendall(b"half a li")
        daemon.clock.advance(200)
        assert ask(two) == b"hello\n"
        daemon.clock.advance(100)
        daemon.guard.housekeep()
        assert at_end(one)
        daemon.until_left(1)
        assert ask(two) == b"hello\n"


def test_a_client_that_does_not_read_is_cut_off():
    with serving() as daemon, daemon.connect() as one:
        one.sendall(b"much\n")
        daemon.until_at_work()
        for _ in range(1000):  # until the request is over and the answer is being sent
            if daemon.guard.in_flight == 0:
                break
            threading.Event().wait(0.001)
        daemon.clock.advance(301)
        daemon.guard.housekeep()
        daemon.until_left(0)


def test_a_handler_that_fails_ends_its_connection_only(caplog):
    with serving() as daemon, daemon.connect() as one, daemon.connect() as two:
        one.sendall(b"fail\n")
        assert at_end(one)
        assert ask(two) == b"hello\n"
    assert "the handler of a connection failed" in caplog.text
    assert daemon.guard.metrics()["performance"]["failed"] == 1


def test_stopping_finishes_what_is_under_way():
    with serving() as daemon, daemon.connect() as idle, daemon.connect() as busy:
        assert ask(idle) == b"hello\n"
        busy.sendall(b"wait\n")
        daemon.until_at_work()
        daemon.until_at_work()
        daemon.guard.stop()
        assert at_end(idle)
        daemon.go_on.set()
        assert busy.recv(100) == b"wait\n"
        assert at_end(busy)


def test_what_takes_too_long_at_the_end_is_cut_off():
    with serving(drain_seconds=3.0) as daemon, daemon.connect() as one:
        one.sendall(b"stick\n")
        daemon.until_at_work()
        daemon.guard.stop()
        assert at_end(one)


class Failing:
    """A listener whose first accepts fail."""

    def __init__(self, listener, errors) -> None:
        self.listener = listener
        self.errors = errors
        self.failed = threading.Event()

    def accept(self):
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, "as told")
        return self.listener.accept()

    def __getattr__(self, name):
        return getattr(self.listener, name)


def test_an_accept_that_fails_pauses_and_goes_on(caplog):
    daemon = Daemon(SteppedClock())
    listener = Failing(daemon.listener, [errno.ECONNABORTED, errno.EAGAIN, errno.EMFILE])
    thread = threading.Thread(target=daemon.guard.serve, args=(listener, daemon.handle))
    thread.start()
    with daemon.connect() as one:
        daemon.clock.until_waiting(2)
        assert "cannot accept" in caplog.text
        daemon.clock.advance(1)
        assert ask(one) == b"hello\n"
    daemon.guard.stop()
    thread.join(PATIENCE)
    daemon.listener.close()


def test_no_thread_for_a_connection(monkeypatch, caplog):
    with serving() as daemon:
        daemon.clock.until_waiting(1)
        with daemon.connect() as before:
            assert ask(before) == b"hello\n"  # so the thread of housekeeping runs
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with daemon.connect() as one:
                assert at_end(one)
            daemon.clock.until_waiting(2)
        daemon.clock.advance(1)
        with daemon.connect() as two:
            assert ask(two) == b"hello\n"
        daemon.until_left(0)
    assert "no thread for a connection" in caplog.text


def no_thread(self):
    raise RuntimeError("can't start new thread")


def test_another_loop_may_be_faster(monkeypatch):
    with serving(max_connections=1) as daemon, daemon.connect() as one:
        assert ask(one) == b"hello\n"
        monkeypatch.setattr(type(daemon.guard), "gate", lambda guard: 0.0)  # as it saw it before
        with daemon.connect() as two:
            assert at_end(two)
        assert ask(one) == b"hello\n"
        assert daemon.guard.rejections == 1


def test_housekeeping_goes_on_whatever_fails(caplog):
    caplog.set_level(logging.ERROR, "headgate.daemon")
    daemon = Daemon(SteppedClock())
    daemon.guard._reporter.turn = None
    thread = threading.Thread(target=daemon.guard.serve, args=(daemon.listener, daemon.handle))
    thread.start()
    daemon.clock.until_waiting(1)
    assert "housekeeping failed" in caplog.text
    with daemon.connect() as one:
        assert ask(one) == b"hello\n"
    daemon.guard.stop()
    thread.join(PATIENCE)
    daemon.listener.close()


def test_a_guard_that_was_stopped_accepts_nothing():
    daemon = Daemon(SteppedClock())
    daemon.guard.stop()
    daemon.guard.serve(daemon.listener, daemon.handle)
    daemon.listener.close()


async def coroutine_function(sock, connection):
    """Would never run."""


@pytest.mark.parametrize(
    ("handle", "drain_seconds"),
    [(None, 1), (coroutine_function, 1), (print, -1), (print, float("nan")), (print, "5")],
)
def test_a_handler_or_an_end_that_makes_no_sense(handle, drain_seconds):
    daemon = Daemon(SteppedClock())
    with daemon.listener, pytest.raises(InvalidInput):
        daemon.guard.serve(daemon.listener, handle, drain_seconds=drain_seconds)


# --- the mixin for socketserver ---------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            with self.server.connection_of(self.request).request():
                body = b"hello"
            self.send_response(200)
        except Overloaded:
            body = b""
            self.send_response(503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class HttpServer(GuardedServer, ThreadingHTTPServer):
    pass


@contextlib.contextmanager
def serving_http(**limits):
    server = HttpServer((HOST, 0), Handler)
    server.guard = guarded(SteppedClock(), **limits)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def get(client: HTTPConnection) -> int:
    client.request("GET", "/")
    answer = client.getresponse()
    answer.read()
    return answer.status


def test_an_http_server_behind_the_guard():
    with serving_http(max_connections=1, max_requests_per_minute=2) as server:
        guard, clock = server.guard, server.guard.clock
        one = HTTPConnection(HOST, server.server_port, timeout=PATIENCE)
        assert [get(one), get(one), get(one)] == [200, 200, 503]
        two = HTTPConnection(HOST, server.server_port, timeout=PATIENCE)
        two.request("GET", "/")
        clock.until_waiting(1)
        one.close()
        clock.advance(60)
        while two.sock is not None and guard.connections.total < 2:
            clock.advance(0.1)
            threading.Event().wait(0.001)
        assert two.getresponse().status == 200
        two.close()
        assert guard.metrics()["performance"]["ok"] == 3


def test_another_loop_may_be_faster_than_an_http_server_too(monkeypatch):
    with serving_http(max_connections=1) as server:
        one = HTTPConnection(HOST, server.server_port, timeout=PATIENCE)
        assert get(one) == 200
        monkeypatch.setattr(type(server.guard), "gate", lambda guard: 0.0)
        with socket.create_connection((HOST, server.server_port), timeout=PATIENCE) as two:
            assert at_end(two)
        assert get(one) == 200
        one.close()


def test_stale_connections_of_an_http_server_are_cut_off_by_its_own_loop():
    with serving_http() as server:
        one = HTTPConnection(HOST, server.server_port, timeout=PATIENCE)
        assert get(one) == 200
        server.guard.clock.advance(301)
        assert at_end(one.sock)
        one.close()
    assert server._accepted == {}
