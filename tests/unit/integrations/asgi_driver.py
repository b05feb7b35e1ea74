"""Drives an ASGI app without a server: one request or one websocket, and all that it sends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    sent: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return next(value for header, value in self.headers if header == name)

    def __contains__(self, name: str) -> bool:
        return any(header == name for header, _ in self.headers)

    def names(self) -> list[str]:
        return [name for name, _ in self.headers]


def scope_of(
    path: str = "/",
    kind: str = "http",
    client: tuple[str, int] | None = ("203.0.113.5", 4711),
    headers: dict[str, str] | list[tuple[str, str]] = (),
    **more: Any,
) -> dict[str, Any]:
    path, _, query = path.partition("?")
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http" if kind == "http" else "ws",
        "server": ("testserver", 80),
        "client": client,
        "headers": [(b"host", b"testserver")]
        + [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
    }
    if kind == "http":
        scope["method"] = "GET"
    else:
        scope["subprotocols"] = []
    return scope | more


async def ask(app: Any, path: str = "/", **options: Any) -> Answer:
    """Send one request, or open one websocket and close it."""
    scope = scope_of(path, **options)
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    if scope["type"] == "http":
        incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    else:
        incoming.put_nowait({"type": "websocket.connect"})
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    answer = Answer()

    async def send(message: dict[str, Any]) -> None:
        answer.sent.append(message)
        if message["type"].endswith("http.response.start"):
            answer.status = message["status"]
        if "headers" in message:
            answer.headers = [(n.decode(), v.decode("latin-1")) for n, v in message["headers"]]
        answer.body += message.get("body", b"")

    await app(scope, incoming.get, send)
    return answer
