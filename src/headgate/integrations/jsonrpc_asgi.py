"""JSON-RPC 2.0 over HTTP: an ASGI app around a `JsonRpcGuard`.

A message is the body of a POST. The answer has status 200, whatever the answer to the call is, with these
exceptions, for the sake of clients and proxies that know HTTP alone: 204 when nobody waits for an answer,
429 or 503 with ``Retry-After`` for a single request that was refused, 413 for a message that is too
long. Their bodies are JSON-RPC all the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

from headgate.errors import (
    HeadgateError,
    MethodNotAllowed,
    MissingKey,
    RequestTimeout,
    UnsupportedMediaType,
)
from headgate.gates.numbers import valid_call
from headgate.headers import error_problem
from headgate.inputs import valid_key
from headgate.integrations.asgi import refuse, retry_after
from headgate.integrations.attributes import by_client_address, describe
from headgate.integrations.jsonrpc import JsonRpcGuard
from headgate.integrations.jsonrpc_calls import instance, valid_patience

if TYPE_CHECKING:
    from headgate.integrations.asgi import Fields, Receive, Scope, Send
    from headgate.integrations.attributes import KeyFunction
    from headgate.integrations.jsonrpc import JsonRpcAnswer

__all__ = ["JsonRpcApp"]

_JSON: Final = (b"application/json", b"application/json-rpc", b"application/jsonrequest")


@final
class JsonRpcApp:
    """An ASGI app, to be served alone or mounted in another.

    ::

        app = JsonRpcApp(JsonRpcGuard({"echo": echo}))
        api.mount("/rpc", app)

    Args:
        guard: answers the messages.
        key: reads the peer from the scope (see `headgate.integrations.attributes`); the client's address
            when left out. A request without it is answered with 400.
        message_timeout: seconds in which the body must have arrived; None for any.
    """

    def __init__(
        self,
        guard: JsonRpcGuard,
        *,
        key: KeyFunction | None = None,
        message_timeout: float | None = 10.0,
    ) -> None:
        self.guard = instance("guard", guard, JsonRpcGuard)
        self._key: KeyFunction = by_client_address()
        if key is not None:
            valid_call("key", key)
            self._key = key
        self._timeout = valid_patience("message_timeout", message_timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan of an app that is served alone."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"a JSON-RPC app speaks http, not {scope['type']!r}")
        try:
            peer = self._peer(scope)
            body = await self._receive(peer, receive)
        except HeadgateError as error:
            fields = [(b"allow", b"POST")] if isinstance(error, MethodNotAllowed) else []
            await refuse(scope, send, error, error_problem(error), fields)
        else:
            if body is not None:
                await self._respond(peer, body, send)

    async def _receive(self, peer: str, receive: Receive) -> bytes | None:
        try:
            async with asyncio.timeout(self._timeout):
                return await _body(receive, self.guard.max_message_bytes)
        except TimeoutError:
            self.guard.peers.record_failure(peer)
            raise RequestTimeout(
                f"the body did not arrive in {self._timeout:g} s; send it faster"
            ) from None

    async def _respond(self, peer: str, body: bytes, send: Send) -> None:
        if len(body) > self.guard.max_message_bytes:
            answer = await self.guard.fault(peer, self.guard.too_large())
            status = 413 if answer.refusal is None else answer.refusal.status
        else:
            answer = await self.guard.answer(peer, body)
            status = _status(answer)
        fields: Fields = [] if answer.refusal is None else retry_after(answer.refusal.decision)
        if answer.body is not None:
            fields += [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(answer.body)),
            ]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body or b""})

    def _peer(self, scope: Scope) -> str:
        if scope["method"] != "POST":
            raise MethodNotAllowed("JSON-RPC is spoken with POST")
        if not _is_json(scope):
            raise UnsupportedMediaType("a message must be sent as application/json")
        peer = self._key(scope)
        if not peer:
            what = describe(self._key)
            raise MissingKey(
                f"peers are told apart by {what}, and this one lacks it", attribute=what
            )
        return valid_key(peer)


def _status(answer: JsonRpcAnswer) -> int:
    if answer.body is None:
        return 204
    if answer.refusal is None or answer.is_batch:
        return 200
    return answer.refusal.status


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower() in _JSON
    return True  # curl and small clients often send none


async def _body(receive: Receive, most: int) -> bytes | None:
    """The body, as far as it is no longer than one byte above ``most``; None when the peer left."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return b"".join(pieces)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _live(receive: Receive, send: Send) -> None:
    """Servers tell an app that stands alone when they start and stop."""
    while True:
        message: Any = await receive()
        kind = message["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
