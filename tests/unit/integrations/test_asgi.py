"""The ASGI middleware, around a bare app and around Starlette."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from headgate.errors import InvalidInput
from headgate.gates.limiter import Limiter
from headgate.integrations.asgi import RateLimitHeaders, RateLimitMiddleware
from headgate.integrations.attributes import by_client_address, by_header
from headgate.testing import ManualClock
from tests.unit.integrations.asgi_driver import Answer, ask


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


START = {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]}


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send(START)
    await send({"type": "http.response.body", "body": b"ok"})


async def test_every_response_says_how_much_is_left(clock):
    app = RateLimitMiddleware(bare, "100/minute", burst=20, name="api", clock=clock)
    answer = await ask(app)
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers == [
        ("x-app", "1"),
        ("ratelimit-policy", '"api";q=100;w=60'),
        ("ratelimit", '"api";r=19;t=1'),
        ("x-ratelimit-limit", "100"),
        ("x-ratelimit-remaining", "19"),
        ("x-ratelimit-reset", "1"),
    ]


async def test_the_messages_of_the_app_are_not_altered(clock):
    app = RateLimitMiddleware(bare, "100/minute", clock=clock)
    await ask(app)
    assert START["headers"] == [(b"x-app", b"1")]


async def test_a_refusal_is_problem_details(clock):
    app = RateLimitMiddleware(bare, "1/minute", name="api", clock=clock)
    await ask(app)
    clock.advance(20)
    answer = await ask(app)
    assert answer.status == 429
    assert answer["content-type"] == "application/problem+json"
    assert answer["content-length"] == str(len(answer.body))
    assert answer["retry-after"] == "40"
    assert answer["ratelimit"] == '"api";r=0;t=40'
    problem = json.loads(answer.body)
    assert problem["type"].endswith("#quota-exceeded")
    assert (problem["status"], problem["code"], problem["retry_after"]) == (429, "rate_limited", 40)
    clock.advance(40)
    assert (await ask(app)).status == 200


async def test_addresses_are_limited_apart(clock):
    app = RateLimitMiddleware(bare, "1/minute", clock=clock)
    assert (await ask(app)).status == 200
    assert (await ask(app)).status == 429
    assert (await ask(app, client=("203.0.113.6", 1))).status == 200


async def test_a_forged_header_changes_nothing(clock):
    app = RateLimitMiddleware(bare, "1/minute", clock=clock)
    answers = [
        await ask(app, headers={"x-forwarded-for": f"192.0.2.{number}"}) for number in range(3)
    ]
    assert [answer.status for answer in answers] == [200, 429, 429]


async def test_behind_trusted_proxies_clients_are_told_apart(clock):
    app = RateLimitMiddleware(bare, "1/minute", trusted_proxies=["203.0.113.0/24"], clock=clock)
    for number in range(3):
        forwarded = {"x-forwarded-for": f"6.6.6.6, 192.0.2.{number}"}
        assert (await ask(app, headers=forwarded)).status == 200
        assert (await ask(app, headers=forwarded)).status == 429


async def test_a_missing_key_is_an_error_unless_chosen_otherwise(clock):
    app = RateLimitMiddleware(bare, "1/minute", key=by_header("X-API-Key"), clock=clock)
    answer = await ask(app)
    assert answer.status == 400
    assert answer["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["code"] == "missing_key"
    assert "the header x-api-key" in json.loads(answer.body)["detail"]
    assert (await ask(app, headers={"x-api-key": ""})).status == 400
    assert (await ask(app, headers={"x-api-key": "k"})).status == 200


async def test_an_unknown_address_is_an_error_too(clock):
    app = RateLimitMiddleware(bare, "1/minute", clock=clock)
    assert (await ask(app, client=None)).status == 400


async def test_missing_may_be_exempt(clock):
    app = RateLimitMiddleware(
        bare, "1/minute", key=by_header("X-API-Key"), missing="exempt", clock=clock
    )
    for _ in range(3):
        answer = await ask(app)
        assert answer.status == 200
        assert "ratelimit" not in answer


async def test_missing_may_share_one_limit(clock):
    app = RateLimitMiddleware(
        bare, "1/minute", key=by_header("X-API-Key"), missing="anonymous", clock=clock
    )
    assert [(await ask(app)).status for _ in range(2)] == [200, 429]
    assert (await ask(app, headers={"x-api-key": "anonymous"})).status == 200


async def test_missing_may_be_another_key(clock):
    app = RateLimitMiddleware(
        bare, "1/minute", key=by_header("X-API-Key"), missing=by_client_address(), clock=clock
    )
    assert (await ask(app)).status == 200
    assert (await ask(app)).status == 429
    assert (await ask(app, client=("203.0.113.9", 1))).status == 200
    # Nobody can use up another's allowance by sending its address as a key.
    for forged in ("203.0.113.7", "missing:203.0.113.7", "key:203.0.113.7"):
        assert (await ask(app, headers={"x-api-key": forged})).status == 200
    assert (await ask(app, client=("203.0.113.7", 1))).status == 200
    assert (await ask(app, client=None)).status == 400


async def test_cost_and_exemption(clock):
    app = RateLimitMiddleware(
        bare,
        "10/minute",
        cost=lambda scope: 8 if scope["path"] == "/search" else 1,
        exempt=lambda scope: scope["path"] == "/health",
        clock=clock,
    )
    assert (await ask(app, "/search"))["x-ratelimit-remaining"] == "2"
    assert (await ask(app, "/search")).status == 429
    assert (await ask(app, "/"))["x-ratelimit-remaining"] == "1"
    for _ in range(20):
        assert (await ask(app, "/health")).status == 200


async def test_what_never_fits_is_not_told_to_retry(clock):
    app = RateLimitMiddleware(bare, "10/minute", cost=11, clock=clock)
    answer = await ask(app)
    assert answer.status == 429
    assert "retry-after" not in answer
    assert json.loads(answer.body)["retry_after"] is None


async def test_a_shared_limiter(clock):
    limiter = Limiter("2/minute", clock=clock)
    one, two = (
        RateLimitMiddleware(bare, limiter=limiter),
        RateLimitMiddleware(bare, limiter=limiter),
    )
    assert [(await ask(app)).status for app in (one, two, one)] == [200, 200, 429]


async def test_the_limit_may_be_chosen_per_request(clock):
    def plan(scope) -> str:
        return "3/minute" if (b"x-plan", b"paid") in scope["headers"] else "1/minute"

    app = RateLimitMiddleware(bare, plan, clock=clock)
    paid = {"x-plan": "paid"}
    assert [(await ask(app)).status for _ in range(2)] == [200, 429]
    answers = [await ask(app, headers=paid) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0]["ratelimit-policy"] == '"3/minute";q=3;w=60'


async def test_headers_may_be_left_out(clock):
    app = RateLimitMiddleware(bare, "1/minute", headers=(), clock=clock)
    assert (await ask(app)).names() == ["x-app"]
    assert (await ask(app)).names() == ["content-type", "content-length", "retry-after"]


async def test_an_answer_of_ones_own(clock):
    async def on_denied(scope, receive, send, decision) -> None:
        body = f"wait {decision.retry_after:g}".encode()
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": body})

    app = RateLimitMiddleware(bare, "1/minute", on_denied=on_denied, clock=clock)
    await ask(app)
    answer = await ask(app)
    assert (answer.status, answer.body) == (503, b"wait 60")
    assert "ratelimit" in answer


async def test_two_limits_write_one_set_of_headers(clock):
    inner = RateLimitMiddleware(bare, "5/second", name="burst", clock=clock)
    app = RateLimitMiddleware(inner, "100/hour", name="quota", clock=clock)
    answer = await ask(app)
    assert answer["ratelimit-policy"] == '"quota";q=100;w=3600, "burst";q=5;w=1'
    assert answer.names().count("ratelimit") == 1
    assert answer["x-ratelimit-limit"] == "5"


async def test_a_refusal_further_in_has_one_set_of_headers_too(clock):
    inner = RateLimitMiddleware(bare, "1/second", name="burst", clock=clock)
    app = RateLimitMiddleware(inner, "100/hour", name="quota", clock=clock)
    await ask(app)
    answer = await ask(app)
    assert answer.status == 429
    assert answer.names().count("ratelimit") == answer.names().count("retry-after") == 1
    assert answer["ratelimit"].startswith('"quota";r=98;t=')


async def test_a_websocket_is_told_when_it_is_accepted(clock):
    app = RateLimitMiddleware(bare, "1/minute", name="api", clock=clock)
    answer = await ask(app, kind="websocket")
    assert answer.sent[0]["type"] == "websocket.accept"
    assert answer["ratelimit"].startswith('"api";r=0')


async def test_a_refused_websocket_is_closed_before_it_is_accepted(clock):
    app = RateLimitMiddleware(bare, "1/minute", clock=clock)
    await ask(app, kind="websocket")
    answer = await ask(app, kind="websocket")
    assert [message["type"] for message in answer.sent] == ["websocket.close"]
    assert answer.sent[0]["code"] == 1008
    assert len(answer.sent[0]["reason"].encode()) <= 123


async def test_a_refused_websocket_is_answered_where_the_server_can(clock):
    app = RateLimitMiddleware(bare, "1/minute", clock=clock)
    extensions = {"websocket.http.response": {}}
    await ask(app, kind="websocket")
    answer = await ask(app, kind="websocket", extensions=extensions)
    assert answer.status == 429
    assert answer["retry-after"] == "60"
    assert json.loads(answer.body)["code"] == "rate_limited"


async def test_lifespan_and_what_is_unknown_pass_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    limited = RateLimitMiddleware(app, "1/minute")
    for kind in ("lifespan", "something new"):
        scope = {"type": kind}
        await limited(scope, ask, ask)
        await RateLimitHeaders(app)(scope, ask, ask)
        assert seen[-1] == seen[-2] == (scope, ask, ask)
        assert scope == {"type": kind}


async def test_a_queueing_limit_delays_requests(clock):
    app = RateLimitMiddleware(
        bare, "1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock
    )
    for second in range(3):
        assert (await ask(app)).status == 200
        assert clock.now_ns() == second * 10**9


async def test_permits_are_held_until_the_response_is_over(clock):
    go = asyncio.Event()

    async def slow(scope, receive, send):
        await go.wait()
        await bare(scope, receive, send)

    app = RateLimitMiddleware(slow, "1/minute", algorithm="concurrency", clock=clock)
    first = asyncio.create_task(ask(app))
    while app.limiter.peek("203.0.113.5"):
        await asyncio.wait({first}, timeout=0.001)
    assert (await ask(app)).status == 429
    go.set()
    assert (await first).status == 200
    assert (await ask(app)).status == 200


async def test_a_permit_comes_back_when_the_app_fails(clock):
    async def broken(scope, receive, send):
        raise KeyError

    app = RateLimitMiddleware(broken, "1/minute", algorithm="concurrency", clock=clock)
    for _ in range(2):
        with pytest.raises(KeyError):
            await ask(app)


async def test_a_key_function_that_is_wrong_is_a_bug_and_not_an_answer(clock):
    app = RateLimitMiddleware(bare, "1/minute", key=lambda scope: 7, clock=clock)
    with pytest.raises(TypeError):
        await ask(app)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a limit is needed"),
        ({"limit": "1/s", "limiter": Limiter("1/s")}, "give either the limiter"),
        ({"limiter": Limiter("1/s"), "burst": 3}, "its own burst"),
        ({"limit": "1/s", "missing": "whatever"}, "missing must be one of"),
        ({"limit": "1/s", "key": "user"}, "key must be a callable"),
        (
            {"limit": "1/s", "key": by_header("x"), "trusted_proxies": ["10.0.0.1"]},
            "give them to it",
        ),
        ({"limit": "1/s", "trusted_proxies": ["nonsense"]}, "a trusted proxy must be"),
        ({"limit": "1/s", "headers": ["y"]}, "a header style must be"),
        ({"limit": "1/s", "cost": -1}, "cost must be"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        RateLimitMiddleware(bare, **arguments)


async def test_around_starlette(clock):
    async def hello(request):
        return PlainTextResponse("hello")

    async def stream(request):
        async def parts():
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    app = Starlette(
        routes=[
            Route("/", hello),
            Mount("/sub", routes=[Route("/stream", stream)]),
        ]
    )
    app.add_middleware(RateLimitMiddleware, limit="3/minute", clock=clock)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        first = await client.get("/")
        assert (first.status_code, first.headers["x-ratelimit-remaining"]) == (200, "2")
        assert (await client.get("/sub/stream")).text == "ab"
        assert (await client.get("/nowhere")).headers["x-ratelimit-remaining"] == "0"
        refused = await client.get("/")
        assert refused.status_code == 429
        assert refused.json()["limit"] == 3


def test_an_answer_helper_sees_all_headers():
    assert "x" in Answer(headers=[("x", "1")])
