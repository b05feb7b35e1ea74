"""How connections of the RESP door behave towards peers that are slow, silent, greedy or gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from headgate.engine.engine import Engine
from headgate.engine.ports import Token
from headgate.errors import StoreUnavailable, Unauthorized
from headgate.server import resp
from headgate.server.resp import RespConnection, RespServer
from headgate.server.resp_door import RespDoor
from headgate.server.resp_throttle import ThrottleBook
from headgate.server.service import CheckService
from headgate.testing import ManualClock

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
AUTH = b"*2\r\n$4\r\nAUTH\r\n$1\r\nt\r\n"
ASK = b"CL.THROTTLE k 100 100 60\r\n"


class Transport:
    def __init__(self):
        self.writes = []
        self.reading = True
        self.closed = False
        self.aborted = False
        self.high = None
        self.on_write = lambda: None

    def set_write_buffer_limits(self, high):
        self.high = high

    def write(self, data):
        assert not self.closed
        self.writes.append(data)
        self.on_write()

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    @property
    def sent(self):
        return b"".join(self.writes)


class Gate:
    """Verifies a token when the test says so."""

    def __init__(self, *, required):
        self.required = required
        self.asked = []

    def recall(self, text):
        return None

    async def identify(self, text):
        answer = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        return await answer


TOKEN = Token("id", "name", frozenset({"check"}), "hg_id", datetime(2026, 1, 1, tzinfo=UTC))


def listening(*, required=False, **options):
    clock = ManualClock()
    engine = Engine(clock)
    gate = Gate(required=required)
    door = RespDoor(CheckService(engine), ThrottleBook(engine.table), gate, clock.now_ns)
    return RespServer(door, gate.identify, **options), gate


def connected(server):
    connection, transport = RespConnection(server), Transport()
    connection.connection_made(transport)
    return connection, transport


async def turns(count=3):
    """Let the loop go round."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        passed = loop.create_future()
        loop.call_soon(passed.set_result, None)
        await passed


async def test_a_pipeline_is_answered_in_one_write():
    server, _ = listening()
    connection, transport = connected(server)
    connection.data_received(PING * 64)
    assert transport.writes == [PONG * 64]
    assert server.owing == {}


async def test_garbage_is_answered_with_an_error_after_what_came_before_it():
    server, _ = listening()
    connection, transport = connected(server)
    connection.data_received(PING + b"\x00\x01\x02" + PING)
    assert transport.sent.startswith(PONG + b"-ERR Protocol error: ")
    assert transport.sent.count(b"\r\n") == 2
    assert transport.closed
    assert server.door.malformed == 1


async def test_nothing_after_quit_is_done():
    server, _ = listening()
    connection, transport = connected(server)
    connection.data_received(b"PING\r\nQUIT\r\nPING\r\n")
    assert transport.sent == PONG + b"+OK\r\n"
    assert transport.closed


async def test_half_a_command_then_silence_is_closed():
    server, _ = listening(patience=10)
    connection, transport = connected(server)
    now = asyncio.get_running_loop().time()
    connection.data_received(PING[:5])
    connection.data_received(PING[5:6])
    server.sweep(now + 9)
    assert not transport.closed
    server.sweep(now + 11)
    assert transport.aborted
    assert server.door.timed_out == 1


async def test_a_byte_now_and_then_does_not_put_the_end_off():
    server, _ = listening(patience=10)
    connection, _transport = connected(server)
    connection.data_received(PING[:1])
    since = server.owing[connection]
    for byte in PING[1:-1]:
        connection.data_received(bytes([byte]))
        assert server.owing[connection] == since
    connection.data_received(PING[-1:])
    assert server.owing == {}


async def test_silence_between_commands_is_fine():
    server, _ = listening(patience=10)
    connection, transport = connected(server)
    connection.data_received(PING)
    server.sweep(asyncio.get_running_loop().time() + 10**6)
    assert not transport.closed


async def test_who_does_not_read_is_not_read_from_and_closed_in_the_end():
    server, _ = listening(patience=10)
    connection, transport = connected(server)
    assert transport.high == resp.HIGH_WATER
    connection.pause_writing()
    assert not transport.reading
    connection.data_received(PING)
    assert transport.sent == b""
    server.sweep(asyncio.get_running_loop().time() + 11)
    assert transport.aborted


@pytest.mark.parametrize("commands", [1, 2000])
async def test_a_full_buffer_stops_the_work_until_it_is_read(commands):
    server, _ = listening(patience=10)
    connection, transport = connected(server)
    transport.on_write = connection.pause_writing
    connection.data_received(PING * commands)
    await turns()
    assert len(transport.writes) == 1
    assert not transport.reading
    assert connection in server.owing
    transport.on_write = lambda: None
    connection.resume_writing()
    await turns(6)
    assert transport.sent == PONG * commands
    assert transport.reading
    assert server.owing == {}


async def test_who_reads_again_is_answered():
    server, _ = listening()
    connection, transport = connected(server)
    connection.pause_writing()
    connection.data_received(PING)
    connection.resume_writing()
    assert transport.reading
    assert transport.sent == PONG
    assert server.owing == {}


async def test_a_long_pipeline_leaves_others_their_turn():
    server, _ = listening()
    connection, transport = connected(server)
    connection.data_received(PING * 1200)
    assert transport.writes == [PONG * resp.MAX_BATCH]
    assert not transport.reading, "nothing more comes in while commands wait"
    await turns(4)
    assert transport.sent == PONG * 1200
    assert len(transport.writes) == 3
    assert transport.reading


async def test_long_answers_end_a_batch():
    server, _ = listening()
    connection, transport = connected(server)
    echo = b"*2\r\n$4\r\nECHO\r\n$16000\r\n" + b"x" * 16000 + b"\r\n"
    connection.data_received(echo * 50)
    assert len(transport.writes[0]) <= resp.HIGH_WATER + 16_100
    await turns(6)
    assert len(transport.writes) == 3
    assert transport.sent.count(b"$16000") == 50


async def test_a_connection_above_the_limit_is_told_so():
    server, _ = listening(max_connections=1)
    connected(server)
    connection, transport = connected(server)
    assert transport.sent.startswith(b"-ERR max number of clients reached")
    assert transport.closed
    connection.data_received(PING)
    assert len(transport.writes) == 1
    connection.connection_lost(None)
    assert server.door.connections == 1
    assert server.door.refused == 1


async def test_who_leaves_is_forgotten():
    server, _ = listening()
    connection, _transport = connected(server)
    connection.data_received(PING[:3])
    connection.connection_lost(ConnectionResetError())
    assert server.connections == set()
    assert server.owing == {}
    assert connection.closed.done()


async def test_who_leaves_amid_a_long_pipeline_is_left_alone():
    server, _ = listening()
    connection, transport = connected(server)
    connection.data_received(PING * 1200)
    transport.closed = True
    connection.connection_lost(None)
    await turns()
    assert len(transport.writes) == 1


# Tokens


async def test_commands_wait_for_the_token_before_them():
    server, gate = listening(required=True)
    connection, transport = connected(server)
    connection.data_received(PING + AUTH + ASK)
    await turns()
    assert transport.sent == PONG
    assert not transport.reading
    connection.data_received(PING)
    gate.asked[0].set_result(TOKEN)
    await turns()
    assert transport.sent.startswith(PONG + b"+OK\r\n*5\r\n:0\r\n")
    assert transport.sent.endswith(PONG)
    assert transport.reading


async def test_a_wrong_token_is_refused():
    server, gate = listening(required=True)
    connection, transport = connected(server)
    connection.data_received(AUTH + ASK)
    await turns()
    gate.asked[0].set_exception(Unauthorized("the token is not known"))
    await turns()
    assert transport.sent.startswith(b"-WRONGPASS the token is not known\r\n-NOAUTH ")


async def test_a_store_that_does_not_answer_is_said():
    server, gate = listening(required=True)
    connection, transport = connected(server)
    connection.data_received(AUTH)
    await turns()
    gate.asked[0].set_exception(StoreUnavailable("the store does not answer"))
    await turns()
    assert transport.sent == b"-ERR store_unavailable the store does not answer\r\n"


async def test_a_bug_in_the_gate_ends_the_connection_and_nothing_else(caplog):
    server, gate = listening(required=True)
    connection, transport = connected(server)
    connection.data_received(AUTH)
    await turns()
    gate.asked[0].set_exception(RuntimeError("a bug"))
    await turns()
    assert transport.sent.startswith(b"-ERR internal_error ")
    assert transport.closed
    assert "a bug" in caplog.text


async def test_who_says_no_token_in_time_is_closed():
    server, _ = listening(required=True, patience=10)
    connection, transport = connected(server)
    connection.data_received(PING)
    server.sweep(asyncio.get_running_loop().time() + 11)
    assert transport.aborted


async def with_token(server, gate):
    connection, transport = connected(server)
    connection.data_received(AUTH)
    await turns()
    gate.asked.pop().set_result(TOKEN)
    await turns()
    assert transport.writes.pop() == b"+OK\r\n"
    assert server.owing == {}
    return connection, transport


async def test_a_revoked_token_loses_its_connection_the_scopes():
    server, gate = listening(required=True)
    connection, transport = await with_token(server, gate)
    server.door.doubt()
    connection.data_received(ASK)
    await turns()
    assert transport.sent == b""
    gate.asked[0].set_exception(Unauthorized("revoked"))
    await turns()
    assert transport.sent.startswith(b"-NOAUTH ")


@pytest.mark.parametrize("works", [True, False])
async def test_a_token_that_holds_goes_on_and_so_it_does_without_the_store(works):
    server, gate = listening(required=True)
    connection, transport = await with_token(server, gate)
    server.door.doubt()
    connection.data_received(ASK)
    connection.data_received(ASK)
    await turns()
    if works:
        gate.asked[0].set_result(TOKEN)
    else:
        gate.asked[0].set_exception(StoreUnavailable("down"))
    await turns()
    assert transport.sent.count(b"*5\r\n:0\r\n") == 2
    assert len(gate.asked) == 1


async def test_who_leaves_while_the_token_is_verified_is_left_alone():
    server, gate = listening(required=True)
    connection, transport = connected(server)
    connection.data_received(AUTH)
    await turns()
    transport.closed = True
    connection.connection_lost(None)
    gate.asked[0].set_result(TOKEN)
    await turns()
    assert transport.writes == []


# Listening


async def talk(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_listens_and_stops():
    server, _ = listening()
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PING * 3)
    assert await reader.readexactly(len(PONG) * 3) == PONG * 3
    await server.stop(5)
    assert await reader.read() == b""
    assert server.connections == set()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def test_who_sends_and_closes_its_side_is_answered():
    server, _ = listening()
    port = await server.start("127.0.0.1", 0)
    assert await talk(port, PING) == PONG
    await server.stop(5)
