"""What a limit adds to a request: our ASGI middleware and FastAPI dependency, beside others.

    python -m benchmarks.asgi_overhead [--quick]

Each app is driven in memory, without a server, and its CPU time per request compared with that of the
same app without a limit. All limits are so high that every request passes, and all write headers where
they can. slowapi and asgi-ratelimit are measured when they are installed.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Report, Series, arguments, progress, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

HIGH = 10**9
RATE = f"{HIGH}/second"
MOST_US = 10.0
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"ok"}
REQUEST = {"type": "http.request", "body": b"", "more_body": False}


async def bare(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "client": ("9.9.9.9", 4711),
        "server": ("127.0.0.1", 80),
        "headers": [
            (b"host", b"example.org"),
            (b"user-agent", b"bench"),
            (b"accept", b"*/*"),
            (b"x-forwarded-for", b"198.51.100.7, 8.8.4.4"),
        ],
    }


async def receive() -> dict[str, Any]:
    return REQUEST


async def send(_message: dict[str, Any]) -> None:
    return


def driven(app: App, requests: int) -> Callable[[], None]:
    async def drive() -> None:
        for _ in range(requests):
            await app(scope(), receive, send)

    return lambda: asyncio.run(drive())


def ours() -> dict[str, App]:
    from headgate.integrations.asgi import RateLimitMiddleware

    return {
        "Headgate, headers": RateLimitMiddleware(bare, RATE),
        "Headgate, headers, behind a trusted proxy": RateLimitMiddleware(
            bare, RATE, trusted_proxies=["9.0.0.0/8"]
        ),
        "Headgate, no headers": RateLimitMiddleware(bare, RATE, headers=()),
    }


def starlette_app(*, middleware: bool) -> App:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from headgate.integrations.asgi import RateLimitMiddleware

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", hello)])
    if middleware:
        app.add_middleware(RateLimitMiddleware, limit=RATE)
    return app


def fastapi_app(*, limited: bool) -> App:
    from fastapi import Depends, FastAPI

    from headgate.integrations.fastapi import RateLimit

    app = FastAPI(dependencies=[Depends(RateLimit(RATE))] if limited else [])

    @app.get("/")
    async def hello() -> str:
        return "ok"

    return app


def slowapi_app() -> App:
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", hello)])
    app.state.limiter = Limiter(
        key_func=get_remote_address, default_limits=[f"{HIGH} per second"], headers_enabled=True
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def asgi_ratelimit_app() -> App:
    from ratelimit import RateLimitMiddleware, Rule
    from ratelimit.auths.ip import client_ip
    from ratelimit.backends.simple import MemoryBackend

    return RateLimitMiddleware(bare, client_ip, MemoryBackend(), {r"^/": [Rule(second=HIGH)]})


def contenders() -> dict[str, tuple[App, str]]:
    """Each app, and the name of the one without a limit that it is compared with."""
    found: dict[str, tuple[App, str]] = {"bare ASGI app": (bare, "")}
    found |= {name: (app, "bare ASGI app") for name, app in ours().items()}
    if find_spec("ratelimit"):
        found["asgi-ratelimit, memory, no headers"] = (asgi_ratelimit_app(), "bare ASGI app")
    found["Starlette app"] = (starlette_app(middleware=False), "")
    found["Starlette + Headgate, headers"] = (starlette_app(middleware=True), "Starlette app")
    if find_spec("slowapi"):
        found["Starlette + slowapi, headers"] = (slowapi_app(), "Starlette app")
    found["FastAPI app"] = (fastapi_app(limited=False), "")
    found["FastAPI + Depends(RateLimit)"] = (fastapi_app(limited=True), "FastAPI app")
    return found


def main() -> None:
    options = arguments(__doc__)
    requests, rounds = (300, 3) if options.quick else (5_000, 9)
    report = Report("asgi_overhead", "What a limit adds to a request", quick=options.quick)
    apps = contenders()
    series = {name: Series() for name in apps}
    for turn in range(rounds + 1):
        progress(f"round {turn} of {rounds}")
        for name, (app, _) in apps.items():
            sample = timed(driven(app, requests), requests)
            if turn:  # the first warms up
                series[name].add(sample)
    table = report.table("CPU per request, us", "app", "median", "min", "over the bare app (min)")
    over: dict[str, float] = {}
    for name, (_, base) in apps.items():
        one = series[name]
        if base:
            over[name] = (one.cpu_min - series[base].cpu_min) / 1000
        table.add(name, one.cpu_median / 1000, one.cpu_min / 1000, over.get(name))
    report.data["over_us"] = over
    for name in ("Headgate, headers", "Headgate, headers, behind a trusted proxy"):
        report.at_most(f"ASGI middleware over the bare app: {name}", over[name], MOST_US, "us")
    report.finish()


if __name__ == "__main__":
    main()
