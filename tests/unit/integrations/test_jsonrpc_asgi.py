"""JSON-RPC over HTTP, driven without a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.errors import InvalidInput
from headgate.gates.peer import CircuitState, PeerLimiter
from headgate.integrations.attributes import by_header
from headgate.integrations.jsonrpc import JsonRpcGuard
from headgate.integrations.jsonrpc_asgi import JsonRpcApp
from headgate.testing import ManualClock
from tests.unit.integrations.asgi_driver import Answer, scope_of

PEER = "203.0.113.5"
CALL = b'{"jsonrpc":"2.0","method":"echo","params":[1],"id":1}'
NOTE = b'{"jsonrpc":"2.0","method":"echo","params":[1]}'


def make(rate=100, limits=None, **options) -> JsonRpcApp:
    peers = PeerLimiter(rate, rate, failure_threshold=3, clock=ManualClock())
    guard = JsonRpcGuard({"echo": lambda value: value}, peers=peers, **(limits or {}))
    return JsonRpcApp(guard, **options)


async def post(app: JsonRpcApp, *pieces: bytes, ends: bool = True, **options: Any) -> Answer:
    scope = scope_of(**{"method": "POST", **options})
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if ends:
        messages.append({"type": "http.request"})
    answer = Answer()

    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message):
        answer.sent.append(message)
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(n.decode(), v.decode()) for n, v in message["headers"]]
        answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


async def test_a_call_in_pieces_and_a_notification():
    app = make()
    answer = await post(app, CALL[:10], CALL[10:])
    assert (answer.status, json.loads(answer.body)["result"]) == (200, 1)
    assert answer["content-type"] == "application/json"
    assert int(answer["content-length"]) == len(answer.body)
    silent = await post(app, NOTE)
    assert (silent.status, silent.body, silent.headers) == (204, b"", [])
    assert app.guard.peers.peers() == [PEER]


async def test_faults_are_answers_like_others():
    answer = await post(make(), b"no json")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (200, -32700)


async def test_refusals_speak_http_too():
    app = make(rate=1)
    await post(app, CALL)
    refused = await post(app, CALL)
    assert (refused.status, refused["retry-after"]) == (429, "1")
    assert json.loads(refused.body)["error"]["code"] == -32001
    batch = await post(app, b"[" + CALL + b"]")
    assert (batch.status, batch["retry-after"]) == (200, "1")
    assert (await post(app, NOTE)).status == 204
    for _ in range(3):
        app.guard.peers.record_failure(PEER)
    opened = await post(app, CALL)
    assert (opened.status, opened["retry-after"]) == (503, "30")
    assert json.loads(opened.body)["error"]["code"] == -32002


async def test_a_body_is_read_no_further_than_its_limit():
    app = make(limits={"max_message_bytes": 100})
    answer = await post(app, *[b"x" * 60] * 5, ends=False)
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == -32600
    for _ in range(2):
        await post(app, b"x" * 200)
    assert app.guard.peers.circuit_state(PEER) is CircuitState.OPEN
    assert (await post(app, b"x" * 200)).status == 503


async def test_a_body_that_does_not_end():
    app = make(message_timeout=1e-6)
    for _ in range(3):
        answer = await post(app, CALL[:5], ends=False)
        assert answer.status == 408
        assert json.loads(answer.body)["code"] == "request_timeout"
    assert app.guard.peers.circuit_state(PEER) is CircuitState.OPEN


async def test_a_client_that_leaves():
    sent = []
    messages = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    await make()(scope_of(method="POST"), receive, sent.append)
    assert sent == []


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"method": "GET"}, 405, "method_not_allowed"),
        ({"headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"client": None}, 400, "missing_key"),
    ],
)
async def test_what_is_no_message(options, status, code):
    answer = await post(make(), CALL, **options)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert ("allow" in answer) == (status == 405)


async def test_content_types_and_other_keys():
    app = make(key=by_header("x-node"))
    headers = {"content-type": "Application/JSON; charset=utf-8", "x-node": "n1"}
    assert (await post(app, CALL, headers=headers)).status == 200
    assert app.guard.peers.peers() == ["n1"]
    assert (await post(app, CALL)).status == 400
    assert (await post(app, CALL, headers={"x-node": "n" * 2000})).status == 422


async def test_it_can_stand_alone():
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    app = make()
    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="speaks http"):
        await app({"type": "websocket"}, receive, send)


@pytest.mark.parametrize("options", [{"guard": 5}, {"key": 5}, {"message_timeout": -1}])
def test_settings_that_make_no_sense(options):
    with pytest.raises(InvalidInput):
        JsonRpcApp(**{"guard": JsonRpcGuard({}), **options})
