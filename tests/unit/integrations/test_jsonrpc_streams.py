"""JSON-RPC over real loopback connections: framing, slow peers, floods, an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import pytest
from anyio.lowlevel import checkpoint

from headgate.decision import NEVER, Decision
from headgate.errors import InvalidInput
from headgate.gates.peer import CircuitState, PeerLimiter
from headgate.integrations.jsonrpc import JsonRpcGuard
from headgate.integrations.jsonrpc_streams import JsonRpcStreams, _pause_after
from headgate.testing import ManualClock
from tests.support.stepped_clock import SteppedClock

logging.getLogger("headgate.jsonrpc").setLevel(logging.CRITICAL)
PEER = "127.0.0.1"


class Setup:
    """A server with handlers that the test lets go on."""

    def __init__(self, *, rate=10_000, clock=None, guard=None, **options) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0
        self.clock = clock or ManualClock()
        peers = PeerLimiter(rate, rate, failure_threshold=3, clock=self.clock)
        methods = {"echo": lambda value: value, "wait": self.wait, "big": lambda n: "x" * n}
        self.guard = JsonRpcGuard(methods, peers=peers, **(guard or {}))
        self.streams = JsonRpcStreams(self.guard, **options)
        self.server: asyncio.Server | None = None

    async def wait(self, value):
        self.waiting += 1
        await self.gate.wait()
        return value

    async def connect(self):
        if self.server is None:
            self.server = await self.streams.start("127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        return await asyncio.open_connection(host, port)

    def circuit(self) -> CircuitState:
        return self.guard.peers.circuit_state(PEER)


@contextlib.asynccontextmanager
async def serving(**options):
    setup = Setup(**options)
    try:
        yield setup
    finally:
        setup.gate.set()
        await setup.streams.close(0)
        if setup.server is not None:
            setup.server.close()
            await until(lambda: setup.streams.connections == 0)


async def until(condition) -> None:
    """Let others run until it is so; the test's own timeout ends what never is."""
    while not condition():
        await checkpoint()


def line(method="echo", params=(1,), request_id=1) -> bytes:
    call = {"jsonrpc": "2.0", "method": method, "params": list(params), "id": request_id}
    return json.dumps(call).encode() + b"\n"


async def answer(reader: asyncio.StreamReader):
    return json.loads(await reader.readline())


async def at_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_many_messages_on_one_connection():
    async with serving() as setup:
        reader, writer = await setup.connect()
        for n in range(25):
            writer.write(line(params=[n], request_id=n))
        assert sorted([(await answer(reader))["result"] for _ in range(25)]) == list(range(25))
        writer.write(b"\n")
        assert (await answer(reader))["error"]["code"] == -32700
        writer.write(line()[:-1])
        writer.write_eof()
        assert (await answer(reader))["result"] == 1
        assert await at_end(reader) == b""
        writer.close()


async def test_answers_come_as_they_are_done():
    async with serving() as setup:
        reader, writer = await setup.connect()
        writer.write(line("wait", ["first"]) + line("echo", ["second"]))
        assert (await answer(reader))["result"] == "second"
        setup.gate.set()
        assert (await answer(reader))["result"] == "first"
        writer.close()


async def test_notifications_are_not_answered():
    async with serving() as setup:
        reader, writer = await setup.connect()
        writer.write(b'{"jsonrpc":"2.0","method":"echo","params":[1]}\n' + line())
        writer.write_eof()
        assert json.loads(await at_end(reader))["id"] == 1
        writer.close()


def framed(body: bytes, header: bytes = b"Content-Length: %d\r\n") -> bytes:
    return header % len(body) + b"\r\n" + body


async def test_framing_by_content_length():
    async with serving(framing="content-length") as setup:
        reader, writer = await setup.connect()
        writer.write(framed(line()))
        more = b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-length:%d\r\n"
        writer.write(framed(line(params=["\n"]), more))
        for expected in (1, "\n"):
            header = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(header[16:]))
            assert json.loads(body)["result"] == expected
        writer.write(b"Content-Length: 50\r\n\r\nhalf")
        writer.write_eof()
        assert await at_end(reader) == b""
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: 5000\r\n\r\n",
        b"X: " + b"y" * 5000 + b"\r\n\r\n",
        b"X" * 20_000,
    ],
)
async def test_bad_frames_are_answered_and_end_the_connection(sent):
    async with serving(framing="content-length", guard={"max_message_bytes": 1000}) as setup:
        reader, writer = await setup.connect()
        writer.write(sent)
        await reader.readuntil(b"\r\n\r\n")
        assert b'"error":{"code":-32' in await reader.readuntil(b"}}")
        writer.write_eof()
        await at_end(reader)
        assert setup.guard.stats().faults == 1
        writer.close()


async def test_a_line_without_end():
    async with serving(guard={"max_message_bytes": 1000}) as setup:
        reader, writer = await setup.connect()
        writer.write(b"x" * 5000)
        refusal = await answer(reader)
        assert refusal["error"]["code"] == -32600
        assert "at most 1000 bytes" in refusal["error"]["data"]["reason"]
        writer.close()
        await until(lambda: setup.streams.connections == 0)


async def test_the_longest_line_passes():
    message = line(params=["x" * 400])
    async with serving(guard={"max_message_bytes": len(message)}) as setup:
        reader, writer = await setup.connect()
        writer.write(message)
        assert (await answer(reader))["result"] == "x" * 400
        writer.close()


async def test_a_message_that_does_not_end_in_time_is_the_peers_failure():
    async with serving(message_timeout=1e-6) as setup:
        for failures in (1, 2, 3):
            reader, writer = await setup.connect()
            writer.write(b'{"json')
            assert await at_end(reader) == b""
            writer.close()
            assert (setup.circuit() is CircuitState.OPEN) == (failures == 3)


async def test_a_silent_connection_is_closed_and_nobodys_failure():
    async with serving(idle_timeout=1e-6) as setup:
        for _ in range(5):
            reader, writer = await setup.connect()
            assert await at_end(reader) == b""
            writer.close()
        assert setup.circuit() is CircuitState.CLOSED


async def test_a_peer_that_takes_no_answers_is_cut_off():
    async with serving(write_timeout=1e-6, guard={"max_batch": 10_000}) as setup:
        _, writer = await setup.connect()
        writer.write(line("big", [50_000_000]))
        await until(lambda: setup.streams.connections == 1)
        await until(lambda: setup.streams.connections == 0)
        assert setup.guard.stats().answered == 1
        writer.transport.abort()
        for _ in range(2):
            setup.guard.peers.record_failure(PEER)
        assert setup.circuit() is CircuitState.OPEN  # so that was the first of three


async def test_no_more_is_read_than_may_be_under_way():
    async with serving(guard={"max_per_peer": 3}) as setup:
        reader, writer = await setup.connect()
        writer.write(b"".join(line("wait", [n], n) for n in range(10)))
        await until(lambda: setup.waiting == 3)
        for _ in range(50):
            await checkpoint()
        assert setup.guard.stats().messages == 3
        setup.gate.set()
        assert sorted([(await answer(reader))["id"] for _ in range(10)]) == list(range(10))
        assert setup.guard.stats().refused == 0
        writer.close()


async def test_a_peer_that_floods_is_not_read_while_it_is_refused():
    clock = SteppedClock()
    async with serving(rate=2, clock=clock, guard={"max_per_peer": 1}) as setup:
        reader, writer = await setup.connect()
        writer.write(b"".join(line(params=[n], request_id=n) for n in range(8)))
        for n in range(2):
            assert (await answer(reader))["result"] == n
        assert (await answer(reader))["error"]["data"]["retry_after"] == 0.5
        for _ in range(50):
            await checkpoint()
        assert setup.guard.stats().messages == 3
        clock.advance(0.5)
        assert (await answer(reader))["result"] == 3
        assert (await answer(reader))["id"] == 4
        for _ in range(50):
            await checkpoint()
        assert setup.guard.stats().messages == 5
        writer.transport.abort()


@pytest.mark.parametrize(
    ("retry", "reset", "pause"),
    [
        (0.5, 1.0, 0.5),
        (0.001, 2.0, 0.05),  # tokens for 50 ms come together
        (0.001, 0.1, 0.025),
        (0.01, 0.01, 0.01),  # a bucket of one would not hold more
        (30.0, 30.0, 1.0),
        (float("inf"), 5.0, 1.0),
    ],
)
def test_the_pause_after_a_refusal(retry, reset, pause):
    retry_ns = NEVER if retry == float("inf") else round(retry * 1e9)
    decision = Decision(False, 5, 0, retry_ns, round(reset * 1e9), 0, "peer", 10**9)
    assert _pause_after(decision) == pytest.approx(pause)


async def test_a_pause_is_never_longer_than_a_second():
    clock = SteppedClock()
    async with serving(clock=clock, guard={"max_per_peer": 1}) as setup:
        reader, writer = await setup.connect()
        for _ in range(3):
            setup.guard.peers.record_failure(PEER)
        writer.write(line() + line())
        assert (await answer(reader))["error"]["code"] == -32002
        clock.advance(1)
        assert (await answer(reader))["error"]["code"] == -32002
        writer.transport.abort()


async def test_connections_are_counted_per_peer_and_in_all():
    async with serving(max_connections=2, max_connections_per_peer=9) as setup:
        pairs = [await setup.connect() for _ in range(2)]
        await until(lambda: setup.streams.connections == 2)
        reader, writer = await setup.connect()
        refusal = json.loads(await at_end(reader))
        assert refusal["error"]["data"]["policy"] == "max_connections"
        writer.close()
        pairs[0][1].close()
        await until(lambda: setup.streams.connections == 1)
        pairs.append(await setup.connect())
        pairs[2][1].write(line())
        assert (await answer(pairs[2][0]))["result"] == 1
        for _, other in pairs:
            other.close()
    async with serving(max_connections_per_peer=1) as setup:
        _, first = await setup.connect()
        await until(lambda: setup.streams.connections == 1)
        reader, writer = await setup.connect()
        refusal = json.loads(await at_end(reader))
        assert refusal["error"]["data"]["policy"] == "max_connections_per_peer"
        writer.close()
        first.close()


async def test_peers_by_another_name():
    names = iter(["one", "two"])
    async with serving(identify=lambda writer: next(names), max_connections_per_peer=1) as setup:
        for _ in range(2):
            reader, writer = await setup.connect()
            writer.write(line())
            assert (await answer(reader))["result"] == 1
            writer.close()
        assert setup.guard.peers.peers() == ["one", "two"]


@pytest.mark.parametrize("name", ["", None, "x" * 2000])
async def test_a_peer_without_a_name_is_turned_away(name, caplog):
    caplog.set_level(logging.ERROR, "headgate.jsonrpc")
    async with serving(identify=lambda writer: name) as setup:
        reader, writer = await setup.connect()
        assert await at_end(reader) == b""
        assert "a connection failed" in caplog.text
        writer.close()
    assert setup.guard.stats().messages == 0


async def test_closing_answers_what_was_read_and_cuts_off_the_rest():
    async with serving() as setup:
        reader, writer = await setup.connect()
        idle, other = await setup.connect()
        writer.write(line("wait", ["done"]))
        await until(lambda: setup.waiting == 1)
        closing = asyncio.ensure_future(setup.streams.close(20))
        assert await at_end(idle) == b""
        setup.gate.set()
        await closing
        assert json.loads(await at_end(reader))["result"] == "done"
        writer.close()
        other.close()
    async with serving() as setup:
        reader, writer = await setup.connect()
        writer.write(line("wait", ["late"]))
        await until(lambda: setup.waiting == 1)
        await setup.streams.close(0)
        assert await at_end(reader) == b""
        await until(lambda: setup.guard.stats().in_flight == 0)
        late, writer2 = await setup.connect()
        assert json.loads(await at_end(late))["error"]["code"] == -32001
        writer.close()
        writer2.close()


async def test_a_peer_that_vanishes_takes_nothing_with_it():
    async with serving() as setup:
        for _ in range(5):
            _, writer = await setup.connect()
            writer.write(line("wait") * 3)
            await until(lambda: setup.waiting == 3)
            writer.transport.abort()
            setup.waiting = 0
            setup.gate.set()
            await until(lambda: setup.streams.connections == 0)
            setup.gate.clear()
        assert setup.guard.stats().in_flight == 0
        reader, writer = await setup.connect()
        writer.write(line())
        assert (await answer(reader))["result"] == 1
        writer.close()


async def test_what_a_peer_that_is_gone_left_behind_is_dropped():
    clock = SteppedClock()
    async with serving(rate=1, clock=clock, guard={"max_per_peer": 1}) as setup:
        _, writer = await setup.connect()
        writer.write(line() * 1000)
        await until(lambda: setup.guard.stats().refused == 1)
        writer.transport.abort()
        while setup.streams.connections:
            clock.advance(1)
            await checkpoint()
        assert setup.guard.stats().messages < 100


async def test_over_a_unix_socket(tmp_path):
    setup = Setup()
    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(setup.streams, path, limit=setup.streams.limit)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line())
    assert (await answer(reader))["result"] == 1
    assert setup.guard.peers.peers() == ["local"]
    writer.close()
    await until(lambda: setup.streams.connections == 0)
    server.close()


def test_on_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def scenario():
        async with serving(guard={"max_message_bytes": 1000}) as setup:
            reader, writer = await setup.connect()
            writer.write(line("wait", ["first"]) + line())
            assert (await answer(reader))["result"] == 1
            other, sender = await setup.connect()
            sender.write(b"x" * 5000)
            assert (await answer(other))["error"]["code"] == -32600
            sender.close()
            closing = asyncio.ensure_future(setup.streams.close(20))
            setup.gate.set()
            await closing
            assert (await answer(reader))["result"] == "first"
            assert await at_end(reader) == b""
            writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guard": 5}, "guard must be a JsonRpcGuard"),
        ({"identify": 5}, "identify must be callable"),
        ({"framing": "xml"}, "framing"),
        ({"message_timeout": 0}, "message_timeout"),
        ({"idle_timeout": float("inf")}, "idle_timeout"),
        ({"write_timeout": True}, "write_timeout"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections_per_peer": "5"}, "max_connections_per_peer"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(InvalidInput, match=message):
        JsonRpcStreams(**{"guard": JsonRpcGuard({}), **options})
