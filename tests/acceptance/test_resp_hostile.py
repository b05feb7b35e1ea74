"""Peers of the RESP port that mean harm, or are broken: the service answers clearly, or closes, and stays."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import servers
from tests.support.commands import serving

PATIENCE = 20.0
PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    environment = {"HEADGATE_REQUEST_TIMEOUT": "0.2", "HEADGATE_MAX_CONNECTIONS": "200"}
    with serving(tmp_path_factory.mktemp("hostile"), **environment) as service:
        yield service
        assert service.server.process.poll() is None, service.server.log
    assert service.server.process.returncode == 0
    assert "Traceback" not in service.server.log


def connect(service):
    connection = socket.create_connection((servers.HOST, service.resp_port), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def everything(connection):
    """What comes until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def exchange(service, data):
    """Send, close our side, and take what comes."""
    with connect(service) as connection:
        # It may close before it has read everything: then the rest finds nobody.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def still_answers(service):
    return exchange(service, PING) == PONG


def resident_mib(service):
    status = Path(f"/proc/{service.server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmRSS" in line)


@pytest.mark.parametrize(
    "attack",
    [
        b"*1\r\n$10485760\r\n" + b"x" * 100_000,
        b"*4294967295\r\n",
        b"*500000000\r\n$4\r\nPING\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$-2147483649\r\n",
        b"*1\r\n" * 10_000,
        b"*2\r\n*2\r\n*2\r\n$1\r\na\r\n",
        b"*" + b"9" * 100_000,
        b"$" * 1000,
        b"x" * 1_000_000,
        b"*3\r\n$3\r\nabcdef\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1000,
        b"%3\r\n+a\r\n:1\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nCL.THROTTLE k 1 1 1\r\n",
    ],
    ids=lambda attack: repr(attack[:20]),
)
def test_garbage_is_answered_with_a_protocol_error_and_closed(service, attack):
    answer = exchange(service, attack)
    # When much is left unread, the reset may overtake the answer.
    assert answer == b"" or answer.startswith(b"-ERR Protocol error: "), answer
    assert answer.count(b"\r\n") <= 1
    assert still_answers(service)


def test_a_good_pipeline_before_garbage_is_answered(service):
    answer = exchange(service, PING * 3 + b"\x00\x00\x00")
    assert answer.startswith(PONG * 3 + b"-ERR Protocol error: ")


@pytest.mark.parametrize(
    "key",
    [b"k" * 1025, b"k" * 16_384, b"\xff\xfe", b"\xed\xa0\x80"],
    ids=["1025", "16k", "ff", "lone"],
)
def test_a_bad_key_is_refused_and_the_connection_goes_on(service, key):
    ask = b"*5\r\n$11\r\nCL.THROTTLE\r\n$%d\r\n%b\r\n" % (len(key), key)
    answer = exchange(service, ask + b"$1\r\n1\r\n" * 3 + PING)
    assert answer.startswith((b"-ERR invalid_key ", b"-ERR malformed_request "))
    assert answer.endswith(PONG)


@pytest.mark.slow
@pytest.mark.parametrize("half", [b"*", b"*1\r", b"*2\r\n$4\r\nECHO\r\n$100\r\nabc", b"PIN"])
def test_half_a_command_then_silence_is_closed(service, half):
    with connect(service) as connection:
        connection.sendall(half)
        assert everything(connection) == b""


def test_silence_between_commands_is_not_closed(service):
    with connect(service) as quiet:
        quiet.sendall(PING)
        assert quiet.recv(100) == PONG
        with connect(service) as slow:  # closed after twice the time that is allowed, at most
            slow.sendall(b"*")
            assert everything(slow) == b""
        quiet.sendall(PING)
        assert quiet.recv(100) == PONG


@pytest.mark.slow
def test_who_does_not_read_costs_little_and_is_closed(service):
    before = resident_mib(service)
    echo = b"*2\r\n$4\r\nECHO\r\n$16000\r\n" + b"x" * 16_000 + b"\r\n"
    lazy = [connect(service) for _ in range(10)]
    try:
        for connection in lazy:
            connection.settimeout(1)
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                for _ in range(2_000):  # 32 MB each, if it were read
                    connection.sendall(echo)
        assert resident_mib(service) - before < 30
        assert still_answers(service)
    finally:
        for connection in lazy:
            connection.close()


def test_many_connections_are_turned_away_in_words(service):
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(service)) for _ in range(210)]
        refused = 0
        for connection in opened:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(PING)
                refused += connection.recv(200).startswith(b"-ERR max number of clients reached")
        assert refused >= 1
    # The places are free again as soon as the service has seen them leave.
    for _ in range(1000):
        if still_answers(service):
            return
    pytest.fail("no place became free")


def test_a_peer_that_resets_amid_its_pipeline_is_left_alone(service):
    for _ in range(20):
        connection = connect(service)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(PING * 5_000)
        connection.close()
    assert still_answers(service)


PIECES = (
    "*1 *5 $11\r\nCL.THROTTLE $4\r\nPING $1\r\n1 $0\r\n PING HELLO|3 INFO COMMAND|DOCS RESET AUTH|a|b "
    "HEADGATE.CHECK|k|1|a|b HEADGATE.RESERVE|k|1|5 CLIENT|SETNAME|x"
)
TOKENS = st.sampled_from(
    [b"\r\n", *(piece.replace("|", " ").encode() + b"\r\n" for piece in PIECES.split(" "))]
)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TOKENS | st.binary(max_size=12), max_size=30).map(b"".join))
def test_whatever_is_sent_it_stays_up(service, data):
    answer = exchange(service, data)
    assert b"internal_error" not in answer
    assert still_answers(service)


def test_damaged_pipelines(service):
    """A good pipeline with a few bytes changed, which gets further in than noise."""
    ask = b"*5\r\n$11\r\nCL.THROTTLE\r\n$1\r\nk\r\n$2\r\n15\r\n$2\r\n30\r\n$2\r\n60\r\n"
    chance = random.Random(7)
    for _ in range(200):
        damaged = bytearray(ask * 20)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        assert b"internal_error" not in exchange(service, bytes(damaged))
    assert still_answers(service)
