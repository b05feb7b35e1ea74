"""A plain ASGI app, limited by API key where there is one and by address where there is none.

uvicorn --app-dir examples asgi_app:app
"""

from __future__ import annotations

from typing import Any

from headgate.integrations.asgi import RateLimitMiddleware
from headgate.integrations.attributes import by_client_address, by_header


async def hello(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError("this app speaks HTTP only")
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello\n"})


def cost(scope: Any) -> int:
    return 5 if scope["path"].startswith("/export") else 1


app = RateLimitMiddleware(
    hello,
    "10/minute",
    name="api",
    key=by_header("X-API-Key"),
    missing=by_client_address(trusted_proxies=["10.0.0.0/8"]),
    cost=cost,
    exempt=lambda scope: scope["path"] == "/healthz",
)
