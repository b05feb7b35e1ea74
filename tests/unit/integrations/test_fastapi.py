"""A limit as a FastAPI dependency, in real FastAPI apps."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import Request  # noqa: TC002 - FastAPI reads it at run time

from headgate.errors import InvalidInput
from headgate.integrations.asgi import RateLimitHeaders, RateLimitMiddleware
from headgate.integrations.fastapi import (
    RESPONSES,
    RateLimit,
    RequestRefused,
    by_header,
    by_path_param,
    problem_response,
)
from headgate.testing import ManualClock
from tests.unit.integrations.asgi_driver import ask


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def app_with(limit: RateLimit, **options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/", dependencies=[Depends(limit)])
    async def root() -> dict[str, str]:
        return {"hello": "world"}

    return app


async def test_a_route(clock):
    app = app_with(RateLimit("2/minute", name="api", clock=clock))
    answer = await ask(app)
    assert json.loads(answer.body) == {"hello": "world"}
    assert answer["ratelimit-policy"] == '"api";q=2;w=60'
    assert answer["ratelimit"] == '"api";r=1;t=30'
    assert answer["x-ratelimit-remaining"] == "1"
    assert "retry-after" not in answer
    await ask(app)
    refused = await ask(app)
    assert refused.status == 429
    assert refused["content-type"] == "application/problem+json"
    assert refused["retry-after"] == "30"
    assert refused["ratelimit"] == '"api";r=0;t=30'
    problem = json.loads(refused.body)
    assert (problem["code"], problem["retry_after"]) == ("rate_limited", 30.0)
    assert problem["type"].endswith("#quota-exceeded")
    assert (await ask(app, client=("203.0.113.6", 1))).status == 200


async def test_functions_that_run_in_threads_and_routers_and_the_app(clock):
    router = APIRouter(dependencies=[Depends(RateLimit("3/minute", name="router", clock=clock))])

    @router.get("/items/{item}", dependencies=[Depends(RateLimit("2/second", clock=clock))])
    def item(item: int) -> int:
        return item

    @router.get("/other")
    def other() -> int:
        return 0

    everything = RateLimit("100/hour", name="app", clock=clock)
    app = FastAPI(dependencies=[Depends(everything)])
    app.include_router(router, prefix="/v1")
    answer = await ask(app, "/v1/items/7")
    assert answer.body == b"7"
    assert answer["ratelimit-policy"] == (
        '"app";q=100;w=3600, "router";q=3;w=60, "2/second";q=2;w=1'
    )
    assert answer["x-ratelimit-limit"] == "2"
    assert (await ask(app, "/v1/other"))["x-ratelimit-limit"] == "3"
    await ask(app, "/v1/other")
    refused = await ask(app, "/v1/items/7")
    assert refused.status == 429
    assert json.loads(refused.body)["policy"] == "router"
    assert refused["ratelimit"].startswith('"app";r=96;t=')


async def test_the_limit_belongs_to_the_object(clock):
    shared = RateLimit("1/minute", clock=clock)
    apart = RateLimit("1/minute", per_route=True, clock=clock)
    app = FastAPI()

    @app.get("/a", dependencies=[Depends(shared)])
    @app.get("/b", dependencies=[Depends(shared)])
    @app.get("/c/{x}", dependencies=[Depends(apart)])
    @app.get("/d/{x}", dependencies=[Depends(apart)])
    @app.post("/d/{x}", dependencies=[Depends(apart)])
    async def endpoint(x: str = "") -> None: ...

    assert [(await ask(app, path)).status for path in ("/a", "/b")] == [200, 429]
    statuses = [(await ask(app, path)).status for path in ("/c/1", "/c/2", "/d/1", "/d/2")]
    assert statuses == [200, 429, 200, 429]
    assert (await ask(app, "/d/1", method="POST")).status == 200


async def test_keys_from_the_request(clock):
    app = FastAPI()
    limit = RateLimit("1/minute", key=by_path_param("tenant"), clock=clock)

    @app.get("/{tenant}", dependencies=[Depends(limit)])  # noqa: FAST003 - the limit reads it
    async def endpoint() -> None: ...

    assert [(await ask(app, path)).status for path in ("/a", "/a", "/b")] == [200, 429, 200]


async def test_a_key_of_ones_own_sees_the_request(clock):
    def key(request: Request) -> str:
        return request.headers["host"] + request.url.path

    app = app_with(RateLimit("1/minute", key=key, cost=lambda request: 1, clock=clock))
    assert [(await ask(app)).status for _ in range(2)] == [200, 429]


async def test_the_limit_may_be_chosen_per_request(clock):
    limit = RateLimit(lambda request: request.query_params["plan"], clock=clock)
    app = app_with(limit)
    assert [(await ask(app, "/?plan=1/minute")).status for _ in range(2)] == [200, 429]
    assert (await ask(app, "/?plan=9/minute"))["x-ratelimit-remaining"] == "8"


async def test_a_key_from_a_dependency(clock):
    async def user_id(x_user: Annotated[str | None, Header()] = None) -> int | None:
        return None if x_user is None else int(x_user)

    limit = RateLimit("1/minute", key=Depends(user_id), missing="exempt", clock=clock)
    app = app_with(limit)
    assert [(await ask(app, headers={"x-user": "7"})).status for _ in range(2)] == [200, 429]
    assert (await ask(app, headers={"x-user": "8"})).status == 200
    assert [(await ask(app)).status for _ in range(3)] == [200, 200, 200]


async def test_a_dependency_keeps_its_validation_and_its_place_in_the_documentation(clock):
    async def session(sid: Annotated[int, Cookie()]) -> str:
        return str(sid)

    app = app_with(RateLimit("1/minute", key=Depends(session), clock=clock))
    assert (await ask(app)).status == 422
    assert (await ask(app, headers={"cookie": "sid=7"})).status == 200
    parameters = app.openapi()["paths"]["/"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["sid"]


async def test_a_missing_key_is_an_error_unless_chosen_otherwise(clock):
    app = app_with(RateLimit("1/minute", key=by_header("X-API-Key"), clock=clock))
    answer = await ask(app)
    assert answer.status == 400
    assert answer["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["code"] == "missing_key"
    assert (await ask(app, headers={"x-api-key": "a"})).status == 200


async def test_an_endpoint_may_look_at_the_decision(clock):
    limit = RateLimit("5/minute", exempt=lambda request: "x" in request.headers, clock=clock)
    app = FastAPI()

    @app.get("/")
    async def endpoint(decision=Depends(limit)) -> int | None:  # noqa: B008
        return decision.remaining if decision else None

    assert (await ask(app)).body == b"4"
    assert (await ask(app, headers={"x": "1"})).body == b"null"


async def test_the_signature_of_the_endpoint_is_not_touched(clock):
    app = app_with(RateLimit("5/minute", clock=clock))
    assert "parameters" not in app.openapi()["paths"]["/"]["get"]


async def test_openapi_may_document_the_refusal(clock):
    app = app_with(RateLimit("5/minute", clock=clock), responses=RESPONSES)
    documented = app.openapi()["paths"]["/"]["get"]["responses"]["429"]
    assert "application/problem+json" in documented["content"]
    assert "Retry-After" in documented["headers"]


async def test_an_app_that_answers_http_exceptions_itself_answers_these_too(clock):
    app = app_with(RateLimit("1/minute", clock=clock))

    @app.exception_handler(HTTPException)
    async def house_style(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"oops": error.detail}, error.status_code, headers=error.headers)

    await ask(app)
    refused = await ask(app)
    assert refused.status == 429
    assert refused["retry-after"] == "60"
    assert json.loads(refused.body)["oops"].startswith("rate limit '1/minute' reached")


async def test_a_handler_for_refusals_alone(clock):
    app = app_with(RateLimit("1/minute", clock=clock))

    @app.exception_handler(RequestRefused)
    async def refused_here(request: Request, error: RequestRefused) -> PlainTextResponse:
        return PlainTextResponse(error.error.code, 503)

    await ask(app)
    refused = await ask(app)
    assert (refused.status, refused.body) == (503, b"rate_limited")


async def test_where_the_framework_hides_its_handlers_the_answer_is_plain_json(clock):
    app = app_with(RateLimit("1/minute", clock=clock))
    await ask(app)

    async def hiding(scope, receive, send):
        class Hidden(dict):
            def get(self, name, default=None):
                return (
                    default
                    if name == "starlette.exception_handlers"
                    else super().get(name, default)
                )

        await app(Hidden(scope), receive, send)

    refused = await ask(hiding)
    assert refused.status == 429
    assert refused["content-type"] == "application/json"
    assert refused["retry-after"] == "60"
    assert "rate limit" in json.loads(refused.body)["detail"]


async def test_other_errors_are_none_of_its_business():
    with pytest.raises(KeyError):
        await problem_response(None, KeyError())


async def test_what_never_fits_is_not_told_to_retry(clock):
    refused = await ask(app_with(RateLimit("1/minute", cost=2, clock=clock)))
    assert refused.status == 429
    assert "retry-after" not in refused


async def test_a_websocket(clock):
    limit = RateLimit("1/minute", clock=clock)
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, decision=Depends(limit)) -> None:  # noqa: B008
        await websocket.accept()
        await websocket.send_text(str(decision.remaining))
        await websocket.close()

    admitted = await ask(app, "/ws", kind="websocket")
    kinds = [message["type"] for message in admitted.sent]
    assert kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    refused = await ask(app, "/ws", kind="websocket")
    assert [message["type"] for message in refused.sent] == ["websocket.close"]
    assert refused.sent[0]["code"] == 1008
    assert "rate limit" in refused.sent[0]["reason"]


def app_with_its_own_responses(clock: ManualClock) -> FastAPI:
    limit = Depends(RateLimit("9/minute", name="route", clock=clock))
    app = FastAPI()

    @app.get("/own", dependencies=[limit])
    async def own() -> PlainTextResponse:
        return PlainTextResponse("made by hand")

    @app.get("/error", dependencies=[limit])
    async def error() -> None:
        raise HTTPException(404)

    return app


async def test_responses_made_by_hand_and_errors_need_a_middleware_for_their_headers(clock):
    assert "ratelimit" not in await ask(app_with_its_own_responses(clock), "/own")
    app = app_with_its_own_responses(clock)
    app.add_middleware(RateLimitHeaders)
    for path, status in (("/own", 200), ("/error", 404)):
        answer = await ask(app, path)
        assert answer.status == status
        assert answer["ratelimit-policy"] == '"route";q=9;w=60'
    assert "ratelimit" not in await ask(app, "/nowhere")


async def test_with_the_middleware_all_limits_stand_in_one_set_of_headers(clock):
    app = app_with_its_own_responses(clock)
    app.add_middleware(RateLimitMiddleware, limit="2/minute", name="all", clock=clock)
    answer = await ask(app, "/own")
    assert answer["ratelimit-policy"] == '"all";q=2;w=60, "route";q=9;w=60'
    assert answer["x-ratelimit-remaining"] == "1"
    await ask(app, "/own")
    refused = await ask(app, "/own")
    assert refused.status == 429
    assert refused.names().count("ratelimit") == 1


async def test_a_refusal_under_the_middleware_has_one_set_of_headers(clock):
    app = app_with(RateLimit("1/minute", name="route", clock=clock))
    app.add_middleware(RateLimitHeaders)
    await ask(app)
    refused = await ask(app)
    assert refused.status == 429
    assert refused.names().count("ratelimit") == refused.names().count("retry-after") == 1


async def test_a_queueing_limit_delays_requests(clock):
    limit = RateLimit("1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock)
    app = app_with(limit)
    for second in range(3):
        assert (await ask(app)).status == 200
        assert clock.now_ns() == second * 10**9


def test_permits_are_not_for_dependencies():
    with pytest.raises(InvalidInput, match="RateLimitMiddleware"):
        RateLimit("5/minute", algorithm="concurrency")


async def test_tests_may_switch_it_off(clock):
    limit = RateLimit("1/minute", clock=clock)
    app = app_with(limit)
    app.dependency_overrides[limit] = lambda: None
    assert [(await ask(app)).status for _ in range(3)] == [200] * 3
    assert [(await ask(app_with(RateLimit("1/hour", enabled=False)))).status for _ in range(3)] == [
        200
    ] * 3
