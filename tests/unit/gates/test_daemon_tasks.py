"""A guarded daemon of tasks, over real loopback connections and a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint

from headgate.errors import InvalidInput, Overloaded
from tests.support.daemons import Usage, guarded
from tests.support.stepped_clock import SteppedClock

HOST = "127.0.0.1"
TLS = Path(__file__).parents[2] / "support" / "tls"


class Daemon:
    """Echoes lines; a line may also ask for trouble."""

    def __init__(self, **limits) -> None:
        self.clock = SteppedClock()
        self.usage = Usage()
        self.guard = guarded(self.clock, self.usage, **limits)
        self.listener = socket.create_server((HOST, 0))
        self.go_on = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader, writer, connection):
        while line := await reader.readline():
            try:
                async with connection.request():
                    answer = await self.work(line)
            except Overloaded as error:
                answer = f"refused {error.decision.policy}\n".encode()
            writer.write(answer)
            await writer.drain()

    async def work(self, line):
        if line == b"fail\n":
            raise RuntimeError("as asked")
        if line == b"wait\n":
            await self.go_on.wait()
        if line == b"stick\n":
            await asyncio.Event().wait()
        return b"x" * 50_000_000 if line == b"much\n" else line

    async def connect(self, **options):
        port = self.listener.getsockname()[1]
        reader, writer = await asyncio.open_connection(HOST, port, **options)
        self.writers.append(writer)
        return reader, writer

    async def active(self, number: int) -> None:
        await until(lambda: len(self.guard.connections) == number)


@contextlib.asynccontextmanager
async def serving(listener=None, options=None, **limits):
    daemon = Daemon(**limits)
    heard = daemon.listener if listener is None else listener(daemon.listener)
    task = asyncio.ensure_future(
        daemon.guard.serve_async(
            heard, daemon.handle, **{"drain_seconds": 0.001, **(options or {})}
        )
    )
    try:
        yield daemon
    finally:
        daemon.go_on.set()
        daemon.guard.stop()
        await task
        daemon.listener.close()
        for writer in daemon.writers:
            writer.close()
        assert len(daemon.guard.connections) == 0


async def until(condition) -> None:
    """Let others run until it is so; the test's own timeout ends what never is."""
    while not condition():
        await checkpoint()


async def some_turns() -> None:
    for _ in range(50):
        await checkpoint()


async def ask(pair, line: bytes = b"hello\n") -> bytes:
    pair[1].write(line)
    return await pair[0].readline()


async def at_end(pair) -> bool:
    with contextlib.suppress(ConnectionResetError):
        while await pair[0].read(1_000_000):
            pass
    return True


async def test_it_serves_and_ends():
    async with serving() as daemon:
        one, two = await daemon.connect(), await daemon.connect()
        assert await ask(one) == await ask(two) == b"hello\n"
        assert len(daemon.guard.connections) == 2
        one[1].close()
        await daemon.active(1)
        assert daemon.guard.metrics()["performance"]["ok"] == 2


async def test_who_finds_no_place_waits_in_the_backlog():
    async with serving(max_connections=1) as daemon:
        one = await daemon.connect()
        assert await ask(one) == b"hello\n"
        two = await daemon.connect()
        two[1].write(b"second\n")
        await some_turns()
        assert daemon.guard.connections.total == 1
        one[1].close()
        await daemon.active(0)
        daemon.clock.advance(0.1)
        assert await two[0].readline() == b"second\n"
        assert daemon.guard.rejections == 0


async def test_violated_memory_pauses_for_a_second():
    async with serving() as daemon:
        one = await daemon.connect()
        one[1].write(b"wait\n")
        await until(lambda: daemon.guard.in_flight == 1)
        daemon.usage.memory = 500.0
        daemon.clock.advance(0.001)
        two = await daemon.connect()
        two[1].write(b"second\n")
        await some_turns()
        daemon.go_on.set()
        assert await one[0].readline() == b"wait\n"
        daemon.usage.memory = 1.0
        daemon.clock.advance(0.99)
        await some_turns()
        assert daemon.guard.connections.total == 1
        daemon.clock.advance(0.01)
        assert await two[0].readline() == b"second\n"


@pytest.mark.parametrize("line", [b"half a li", b"much\n"])
async def test_a_client_that_does_not_come_is_cut_off(line):
    async with serving() as daemon:
        one, two = await daemon.connect(), await daemon.connect()
        assert await ask(two) == b"hello\n"
        one[0]._transport.pause_reading()
        one[1].write(line)
        await until(lambda: line[-1:] != b"\n" or daemon.guard.statistics.read(0).ok == 2)
        daemon.clock.advance(200)
        assert await ask(two) == b"hello\n"
        daemon.clock.advance(101)
        daemon.guard.housekeep()
        await daemon.active(1)
        assert await ask(two) == b"hello\n"


async def test_a_handler_that_fails_ends_its_connection_only(caplog):
    async with serving() as daemon:
        one, two = await daemon.connect(), await daemon.connect()
        one[1].write(b"fail\n")
        assert await at_end(one)
        assert await ask(two) == b"hello\n"
    assert "the handler of a connection failed" in caplog.text


async def test_stopping_finishes_what_is_under_way():
    async with serving(options={"drain_seconds": 20}) as daemon:
        idle, busy, flood = [await daemon.connect() for _ in range(3)]
        assert await ask(idle) == b"hello\n"
        busy[1].write(b"wait\n")
        flood[1].write(b"wait\n")
        await until(lambda: daemon.guard.in_flight == 2)
        daemon.guard.stop()
        assert await at_end(idle)
        flood[1].write(b"late\n" * 100_000)
        await some_turns()
        daemon.go_on.set()
        assert await busy[0].readline() == b"wait\n"
        assert await at_end(busy)
        assert await flood[0].readline() == b"wait\n"
        assert await at_end(flood)


async def test_what_takes_too_long_at_the_end_is_cut_off():
    async with serving() as daemon:
        one = await daemon.connect()
        one[1].write(b"stick\n")
        await until(lambda: daemon.guard.in_flight == 1)
        daemon.guard.stop()
        assert await at_end(one)
    assert daemon.guard.in_flight == 0


async def test_cancelling_it_ends_all_at_once():
    daemon = Daemon()
    task = asyncio.ensure_future(daemon.guard.serve_async(daemon.listener, daemon.handle))
    one = await daemon.connect()
    one[1].write(b"stick\n")
    await until(lambda: daemon.guard.in_flight == 1)
    task.cancel()
    assert await at_end(one)
    await asyncio.wait([task])
    assert task.cancelled()
    await daemon.active(0)
    assert daemon.guard.in_flight == 0
    daemon.listener.close()
    one[1].close()


class Failing:
    """A listener whose first accepts fail."""

    def __init__(self, listener) -> None:
        self.listener = listener
        self.errors = [errno.ECONNABORTED, errno.EAGAIN, errno.EMFILE]

    def accept(self):
        if self.errors:
            raise OSError(self.errors.pop(0), "as told")
        return self.listener.accept()

    def __getattr__(self, name):
        return getattr(self.listener, name)


async def test_an_accept_that_fails_pauses_and_goes_on(caplog):
    async with serving(listener=Failing) as daemon:
        one = await daemon.connect()
        await until(lambda: "cannot accept" in caplog.text)
        daemon.clock.advance(1)
        assert await ask(one) == b"hello\n"


async def test_another_loop_may_be_faster(monkeypatch):
    async with serving(max_connections=1) as daemon:
        one = await daemon.connect()
        assert await ask(one) == b"hello\n"
        monkeypatch.setattr(type(daemon.guard), "gate", lambda guard: 0.0)  # as it saw it before
        assert await at_end(await daemon.connect())
        assert await ask(one) == b"hello\n"


async def test_housekeeping_goes_on_whatever_fails(caplog):
    caplog.set_level(logging.ERROR, "headgate.daemon")
    async with serving() as daemon:
        daemon.guard._reporter.turn = None
        await some_turns()
        for _ in range(2):
            daemon.clock.advance(1)
            await some_turns()
        assert caplog.text.count("housekeeping failed") == 3
        assert await ask(await daemon.connect()) == b"hello\n"


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = sorted(TLS.glob("*.pem"))[:2]
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


async def test_a_slow_handshake_holds_up_nobody_and_is_cut_off():
    server, client = contexts()
    async with serving(options={"tls": server}, max_connections=2) as daemon:
        slow = await daemon.connect()
        await daemon.active(1)
        one = await daemon.connect(ssl=client)
        assert await ask(one) == b"hello\n"
        daemon.clock.advance(10)
        daemon.guard.housekeep()  # all places taken: who never asked has to go
        assert await at_end(slow)
        await daemon.active(1)
        assert await ask(one) == b"hello\n"
        one[1].transport.abort()


@pytest.mark.parametrize(
    "options", [{"drain_seconds": -1}, {"drain_seconds": float("inf")}, {"limit": 0}, {"handle": 5}]
)
async def test_settings_that_make_no_sense(options):
    daemon = Daemon()
    handle = options.pop("handle", daemon.handle)
    with daemon.listener, pytest.raises(InvalidInput):
        await daemon.guard.serve_async(daemon.listener, handle, **options)


def test_on_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def scenario():
        async with serving(options={"drain_seconds": 20}, max_connections=3) as daemon:
            idle, busy, silent = [await daemon.connect() for _ in range(3)]
            assert await ask(idle) == b"hello\n"
            busy[1].write(b"wait\n")
            await until(lambda: daemon.guard.in_flight == 1)
            daemon.clock.advance(11)
            daemon.guard.housekeep()
            assert await at_end(silent)
            daemon.guard.stop()
            assert await at_end(idle)
            daemon.go_on.set()
            assert await busy[0].readline() == b"wait\n"
            assert await at_end(busy)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
