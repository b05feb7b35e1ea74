"""The load client: what is counted, how long, and from when."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from headgate.cli.load.cpu import CpuMeter, cpu_seconds, listener_pid
from headgate.cli.load.drive import Drive
from headgate.cli.load.http_talk import HttpTalk, check_request
from headgate.cli.load.latencies import Latencies
from headgate.cli.load.resp_talk import RespTalk, command
from headgate.cli.load.result import LoadResult
from headgate.clock import SystemClock
from headgate.errors import Unauthorized, Unreachable


class Echo:
    """One byte out, one byte back."""

    def ask(self):
        return b"?"

    def hear(self, data):
        return len(data), len(data)


class Answers(asyncio.Protocol):
    """Answers each byte, except while the server stalls."""

    stalled: list | None = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if Answers.stalled is None:
            self.transport.write(data)
        else:
            Answers.stalled.append((self.transport, data))


def stall():
    Answers.stalled = []


def go_on():
    waiting, Answers.stalled = Answers.stalled or [], None
    for transport, data in waiting:
        transport.write(data)


async def driven(*, rate=None, connections=4, seconds=0.3, stalls=None):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0)
    drive = Drive(SystemClock(), rate)
    result = LoadResult("test")
    await drive.connect("127.0.0.1", server.sockets[0].getsockname()[1], [Echo()] * connections)
    if stalls:
        loop.call_later(stalls[0], stall)
        loop.call_later(stalls[1], go_on)
    try:
        await drive.run(0.02, seconds, CpuMeter(lambda: 1.0), result, lambda _: None)
    finally:
        go_on()
        server.close()
    return result


@pytest.mark.slow
async def test_a_closed_loop_asks_as_fast_as_it_is_answered():
    result = await driven()
    assert result.decisions > 100
    assert result.admitted == result.decisions
    assert result.seconds == pytest.approx(0.3, abs=0.2)
    assert result.server_cpu == 0.0
    assert result.client_cpu > 0


@pytest.mark.slow
async def test_an_open_loop_keeps_its_rate():
    result = await driven(rate=400)
    assert result.decisions == pytest.approx(120, abs=40)


@pytest.mark.slow
async def test_a_stall_is_charged_with_all_that_should_have_been_asked_meanwhile():
    closed = await driven(connections=1, seconds=0.5, stalls=(0.1, 0.3))
    opened = await driven(connections=1, seconds=0.5, stalls=(0.1, 0.3), rate=500)
    assert closed.p50 < 0.02
    assert closed.p99 < 0.1, "a closed loop waits patiently, and counts one request"
    assert opened.p99 > 0.1, "an open loop counts all that were due"


@pytest.mark.slow
async def test_a_rate_that_cannot_be_kept_is_told():
    result = await driven(rate=500, seconds=0.2, stalls=(0.01, 9))
    assert "never sent" in result.warnings[-1]


async def test_a_service_that_hangs_up_ends_the_run():
    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    drive = Drive(SystemClock(), None)
    await drive.connect("127.0.0.1", server.sockets[0].getsockname()[1], [Echo()])
    with pytest.raises(Unreachable, match="closed a connection"):
        await drive.run(0, 60, CpuMeter(lambda: None), LoadResult("test"), lambda _: None)
    server.close()


# Latencies


def test_percentiles_agree_with_sorting():
    chance = random.Random(1)
    values = [round(chance.expovariate(1 / 3e6)) for _ in range(5000)]
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    values.sort()
    for percent in (1, 50, 99, 99.9, 100):
        exact = values[max(0, round(len(values) * percent / 100) - 1)]
        assert latencies.percentile(percent) * 1e9 == pytest.approx(exact, abs=100_000, rel=0.01)


def test_nothing_counted():
    assert Latencies().percentile(99) == 0


def test_equal_latencies_count_together():
    latencies = Latencies()
    latencies.add(5_000, 64)
    latencies.add(9_000)
    assert (latencies.count, latencies.percentile(50)) == (65, 5e-6)


# HTTP


def response(status, body=b"{}"):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def test_a_check_over_http():
    assert check_request("h:1", b"{}", "hg_x") == (
        b"POST /api/v1/check HTTP/1.1\r\nhost: h:1\r\nauthorization: Bearer hg_x\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_requests_take_turns():
    talk = HttpTalk([b"a", b"b", b"c"], 4)
    assert [talk.ask() for _ in range(4)] == [b"b", b"c", b"a", b"b"]


@pytest.mark.parametrize(("status", "answer"), [(200, (1, 1)), (429, (1, 0))])
def test_answers_in_pieces(status, answer):
    whole = response(status, b'{"allowed":true}')
    for cut in range(1, len(whole)):
        talk = HttpTalk([b"a"], 0)
        assert talk.hear(whole[:cut]) is None
        assert talk.hear(whole[cut:]) == answer


def test_an_error_ends_the_load():
    problem = b'{"code":"unauthorized","detail":"a token is needed"}'
    with pytest.raises(Unauthorized, match="a token is needed"):
        HttpTalk([b"a"], 0).hear(response(401, problem))
    with pytest.raises(Unreachable):
        HttpTalk([b"a"], 0).hear(response(500, b"oops"))


# RESP


def replies(*limited):
    return b"".join(b"*5\r\n:%d\r\n:2\r\n:1\r\n:-1\r\n:9\r\n" % one for one in limited)


def test_a_pipeline_is_heard_in_any_pieces():
    whole = replies(0, 1, 0)
    for cut in range(1, len(whole)):
        talk = RespTalk([b"pipeline"], 3, 0)
        assert talk.ask() == b"pipeline"
        assert talk.hear(whole[:cut]) is None
        assert talk.hear(whole[cut:]) == (3, 2)


def test_the_greeting_goes_first_and_once():
    talk = RespTalk([b"a", b"b"], 1, 0, command("AUTH", "t"))
    assert talk.ask() == b"*2\r\n$4\r\nAUTH\r\n$1\r\nt\r\na"
    assert talk.hear(b"+OK\r\n") is None
    assert talk.hear(replies(1)) == (1, 0)
    assert talk.ask() == b"b"
    assert talk.hear(replies(0)) == (1, 1)


@pytest.mark.parametrize("answer", [b"-NOAUTH who\r\n", replies(0) + b"-ERR too_many_limits x\r\n"])
def test_an_error_reply_ends_the_load(answer):
    talk = RespTalk([b"a"], 2, 0)
    talk.ask()
    with pytest.raises(Unreachable, match="the service answered: "):
        talk.hear(answer)


# Processor time


async def test_the_process_that_listens_is_found():
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert listener_pid("127.0.0.1", port) == os.getpid()
    assert listener_pid("localhost", port) == os.getpid()
    assert listener_pid("192.0.2.1", port) is None, "it may listen on the same port"
    server.close()
    await server.wait_closed()
    assert listener_pid("127.0.0.1", port) is None


def test_processor_time():
    own = cpu_seconds(os.getpid())
    assert own is not None
    assert 0 < own < 10_000
    assert cpu_seconds(2**22 + 1) is None
