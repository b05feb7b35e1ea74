"""The httpx transports, on transports that answer from a script."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from anyio.lowlevel import checkpoint

from headgate.backpressure.pressure_header import format_pressure
from headgate.errors import InvalidInput, Overloaded, RateLimited
from headgate.integrations.httpx import (
    AsyncBackpressureTransport,
    BackpressureTransport,
    by_origin,
)
from headgate.testing import ManualClock

URL = "http://search.test/find"


@pytest.fixture
def clock():
    return ManualClock()


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that tells whether it was read and closed."""

    def __init__(self, content=b"no"):
        self.content = content
        self.was_read = self.closed = False

    def __iter__(self):
        self.was_read = True
        yield self.content

    async def __aiter__(self):
        self.was_read = True
        yield self.content

    def close(self):
        self.closed = True

    async def aclose(self):
        self.closed = True


class Script(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, clock, *outcomes):
        self.clock = clock
        self.outcomes = list(outcomes)
        self.moments = []
        self.requests = []
        self.closed = False

    def handle_request(self, request):
        self.moments.append(self.clock.now_ns() / 1e9)
        replayable = isinstance(request.stream, httpx.ByteStream)
        self.requests.append((request.read() if replayable else b"", dict(request.extensions)))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def handle_async_request(self, request):
        await checkpoint()
        self.moments.append(self.clock.now_ns() / 1e9)
        self.requests.append((await request.aread(), dict(request.extensions)))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self):
        self.closed = True

    async def aclose(self):
        self.closed = True


class Caller:
    """One client over a script, sync or async, asked in one way."""

    def __init__(self, awaited, script, **settings):
        self.awaited = awaited
        settings = {"clock": script.clock, "uniform": lambda: 0.0, **settings}
        kind = AsyncBackpressureTransport if awaited else BackpressureTransport
        self.transport = kind(script, **settings)
        self.rules = self.transport.rules

    def __call__(self, method="GET", url=URL, **arguments):
        if not self.awaited:
            with httpx.Client(transport=self.transport) as client:
                return client.request(method, url, **arguments)

        async def ask():
            async with httpx.AsyncClient(transport=self.transport) as client:
                return await client.request(method, url, **arguments)

        return asyncio.run(ask())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def caller(request):
    return lambda script, **settings: Caller(request.param, script, **settings)


def refused(status=503, **headers):
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=fields, stream=Body())


def test_what_goes_well_goes_through(clock, caller):
    script = Script(clock, httpx.Response(200, text="found"))
    call = caller(script)
    assert call().text == "found"
    assert call.rules.budget.left("http://search.test") == 10.1
    assert script.closed


def test_a_refusal_is_tried_again_after_its_wait_and_ours(clock, caller):
    first, second = refused(retry_after="2"), refused()
    script = Script(clock, first, second, httpx.Response(200))
    assert caller(script)("POST", content=b"body").status_code == 200
    assert script.moments == pytest.approx([0.0, 2.1, 2.3])
    assert [body for body, _ in script.requests] == [b"body"] * 3
    assert first.stream.closed
    assert second.stream.closed


def test_a_small_body_is_read_so_that_the_connection_is_free_meanwhile(clock, caller):
    small, large = refused(content_length="2"), refused(content_length="9999999")
    script = Script(clock, small, large, httpx.Response(200))
    assert caller(script)().status_code == 200
    assert small.is_closed
    assert (small.stream.was_read, large.stream.was_read) == (True, False)
    assert large.stream.closed


def test_the_last_answer_stands_and_can_be_read(clock, caller):
    script = Script(clock, *[refused(content_length="2") for _ in range(3)])
    answer = caller(script)()
    assert (answer.status_code, answer.text) == (503, "no")


def test_the_answer_stands_whose_wait_was_in_vain(clock, caller):
    script = Script(clock, refused(content_length="2"))
    call = caller(script)
    original = call.rules.clock.sleep

    def sleep(seconds):
        for _ in range(10):
            call.rules.budget.take("http://search.test")
        original(seconds)

    async def sleep_async(seconds):
        sleep(seconds)

    clock.sleep, clock.sleep_async = sleep, sleep_async
    answer = call()
    assert (answer.status_code, answer.text) == (503, "no")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize(
    ("outcome", "always"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ConnectTimeout("x"), True),
        (refused, True),
        (lambda: refused(529), True),
        (lambda: refused(429, retry_after="1"), True),
        (httpx.ReadError("x"), False),
        (httpx.ReadTimeout("x"), False),
        (httpx.RemoteProtocolError("x"), False),
        (lambda: refused(502), False),
        (lambda: refused(504), False),
    ],
)
def test_only_what_is_safe_is_tried_again(clock, caller, method, outcome, always):
    first = outcome() if callable(outcome) else outcome
    script = Script(clock, first, httpx.Response(200))
    call = caller(script)
    if always or method in {"GET", "PUT", "DELETE"}:
        assert call(method).status_code == 200
    elif isinstance(first, Exception):
        with pytest.raises(type(first)):
            call(method)
    else:
        assert call(method).status_code == first.status_code
    assert len(script.moments) == 1 + (always or method in {"GET", "PUT", "DELETE"})


@pytest.mark.parametrize(
    "outcome",
    [httpx.PoolTimeout("x"), httpx.UnsupportedProtocol("x"), httpx.LocalProtocolError("x")],
)
def test_what_failed_on_our_side_is_not(clock, caller, outcome):
    script = Script(clock, outcome)
    with pytest.raises(type(outcome)):
        caller(script)()
    assert len(script.moments) == 1


@pytest.mark.parametrize("status", [200, 301, 404, 500, 501])
def test_other_answers_are_final(clock, caller, status):
    script = Script(clock, httpx.Response(status))
    assert caller(script)().status_code == status


def test_a_stream_that_cannot_be_read_twice_is_sent_once(clock):
    def chunks():
        yield b"part"

    script = Script(clock, refused())
    assert Caller(False, script)("PUT", content=chunks()).status_code == 503
    assert len(script.moments) == 1


def test_upstreams_are_told_apart_by_their_origin(clock, caller):
    script = Script(clock, httpx.Response(200))
    call = caller(script)
    for _ in range(50):
        call.rules.throttle.record("http://search.test", overloaded=True)
    with pytest.raises(Overloaded):
        call()
    assert call(url="http://mail.test/").status_code == 200
    assert by_origin(httpx.Request("GET", "https://a.test:8443/x")) == "https://a.test:8443"


def test_or_as_it_is_told(clock, caller):
    script = Script(clock, httpx.Response(200))
    call = caller(script, upstream=lambda request: request.url.path)
    call()
    assert call.rules.throttle.upstreams() == ["/find"]


@pytest.mark.parametrize("name", ["", "x" * 5_000, None, 5])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(clock, caller, name):
    script = Script(clock, httpx.Response(200))
    with pytest.raises(InvalidInput):
        caller(script, upstream=lambda request: name)()
    assert script.requests == []


def test_a_request_says_its_priority(clock, caller):
    script = Script(clock, httpx.Response(200))
    call = caller(script, priority="low")
    for _ in range(50):
        call.rules.throttle.record("http://search.test", "low", overloaded=True)
    with pytest.raises(Overloaded):
        call()
    assert call(extensions={"priority": "critical"}).status_code == 200
    with pytest.raises(InvalidInput, match="priority must be"):
        call(extensions={"priority": "urgent"})


def test_a_request_says_its_deadline_and_no_step_takes_longer(clock, caller):
    script = Script(clock, refused(), refused(retry_after="5"))
    call = caller(script)
    answer = call(extensions={"deadline": 2.0, "timeout": {"read": 0.5, "connect": 9.0}})
    assert answer.status_code == 503
    first, second = [extensions["timeout"] for _, extensions in script.requests]
    assert first == {"read": 0.5, "connect": 2.0, "write": 2.0, "pool": 2.0}
    assert second == pytest.approx({"read": 0.5, "connect": 1.9, "write": 1.9, "pool": 1.9})
    script.outcomes.append(httpx.Response(200))
    call(extensions={"timeout": {"read": 99.0}})
    assert script.requests[-1][1]["timeout"] == {"read": 99.0}
    with pytest.raises(InvalidInput, match="deadline must be"):
        call(extensions={"deadline": -1})


def test_a_limit_that_is_used_up_is_not_asked_again_before_it_says(clock, caller):
    script = Script(clock, refused(429, ratelimit='"api";r=0;t=5', content_length="2"))
    call = caller(script, attempts=1)
    assert call().status_code == 429
    with pytest.raises(RateLimited) as caught:
        call()
    assert caught.value.decision.retry_after == 5.0
    assert not isinstance(caught.value, Overloaded)
    assert len(script.moments) == 1


def test_pressure_is_heard(clock, caller):
    field = {"x-pressure": format_pressure(0.7, 1.0, 1_000, 1)}
    call = caller(Script(clock, httpx.Response(200, headers=field)))
    call()
    assert call.rules.throttle.pressure("http://search.test") == 0.7


async def test_a_cancellation_while_it_waits_closes_the_answer_and_costs_nothing(clock):
    answer = refused()
    transport = AsyncBackpressureTransport(Script(clock, answer), clock=clock, uniform=lambda: 0.0)
    task = asyncio.create_task(transport.handle_async_request(httpx.Request("GET", URL)))
    for _ in range(4):
        await checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer.stream.closed
    assert transport.rules.budget.left("http://search.test") == 10.0


def test_transports_are_of_their_kind(clock):
    with pytest.raises(InvalidInput, match=r"must be a httpx\.BaseTransport"):
        BackpressureTransport(httpx.AsyncHTTPTransport())
    with pytest.raises(InvalidInput, match=r"must be a httpx\.AsyncBaseTransport"):
        AsyncBackpressureTransport(httpx.HTTPTransport())
    with pytest.raises(InvalidInput, match="upstream must be callable"):
        BackpressureTransport(Script(clock), upstream="search")
