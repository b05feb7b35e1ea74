"""`JsonRpcGuard`: JSON-RPC 2.0 to the letter, behind a limiter for each peer (A13)."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from headgate.errors import InvalidInput, RateLimited
from headgate.gates.peer import CircuitState, PeerLimiter
from headgate.integrations.jsonrpc import JsonRpcError, JsonRpcGuard
from headgate.testing import ManualClock

logging.getLogger("headgate.jsonrpc").setLevel(logging.CRITICAL)


def subtract(minuend, subtrahend):
    return minuend - subtrahend


async def double(number: float) -> float:
    return 2 * number


def explode():
    raise RuntimeError("secret")


def decline():
    raise JsonRpcError(-1, "declined", {"why": "because"})


async def never():
    await asyncio.Event().wait()


async def cancelled_inside():
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def limited():
    decision = PeerLimiter(1, 1, clock=ManualClock()).check("x", 5)
    raise RateLimited(decision, "downstream")


CIRCULAR: list = []
CIRCULAR.append(CIRCULAR)
METHODS = {
    "subtract": subtract,
    "double": double,
    "update": lambda *values: None,
    "get_data": lambda: ["hello", 5],
    "sum": lambda *values: sum(values),
    "notify_hello": lambda *values: None,
    "echo": lambda value: value,
    "explode": explode,
    "decline": decline,
    "never": never,
    "cancelled": cancelled_inside,
    "limited": limited,
    "object": object,
    "infinite": lambda: float("inf"),
    "circular": lambda: CIRCULAR,
    "bad_data": lambda: (_ for _ in ()).throw(JsonRpcError(1, "x", object())),
    "bad_code": lambda: (_ for _ in ()).throw(JsonRpcError("x", "x")),
    "stop": lambda: next(iter(())),
}
ABSENT = object()


def make(**options) -> JsonRpcGuard:
    rate = options.pop("rate", 1000)
    peers = PeerLimiter(rate, rate, failure_threshold=3, clock=ManualClock())
    return JsonRpcGuard(METHODS, peers=peers, **options)


def request(method, params=ABSENT, request_id=ABSENT, **more):
    entry = {"jsonrpc": "2.0", "method": method, **more}
    if params is not ABSENT:
        entry["params"] = params
    if request_id is not ABSENT:
        entry["id"] = request_id
    return entry


async def ask(rpc: JsonRpcGuard, message, peer="p"):
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    answer = await rpc.answer(peer, raw)
    return None if answer.body is None else json.loads(answer.body)


def code(answer) -> int:
    return answer["error"]["code"]


def ok(result, request_id):
    return {"jsonrpc": "2.0", "result": result, "id": request_id}


# --- the examples of the specification ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (request("subtract", [42, 23], 1), ok(19, 1)),
        (request("subtract", [23, 42], 2), ok(-19, 2)),
        (request("subtract", {"subtrahend": 23, "minuend": 42}, 3), ok(19, 3)),
        (request("subtract", {"minuend": 42, "subtrahend": 23}, 4), ok(19, 4)),
        (request("double", [2], "text"), ok(4, "text")),
        (request("get_data", request_id=None), ok(["hello", 5], None)),
        (request("update", [1, 2, 3, 4, 5]), None),
        (request("foobar"), None),
        ([request("sum", [1, 2, 4]), request("notify_hello", [7])], None),
    ],
)
async def test_calls_that_go_well_and_notifications(message, expected):
    assert await ask(make(), message) == expected


async def test_a_batch_of_everything():
    batch = [
        request("sum", [1, 2, 4], "1"),
        request("notify_hello", [7]),
        request("subtract", [42, 23], "2"),
        {"foo": "boo"},
        request("foo.get", {"name": "myself"}, "5"),
        request("get_data", request_id="9"),
    ]
    answers = await ask(make(), batch)
    assert [a.get("result", a.get("error", {}).get("code")) for a in answers] == [
        7,
        19,
        -32600,
        -32601,
        ["hello", 5],
    ]
    assert [a["id"] for a in answers] == ["1", "2", None, "5", "9"]


@pytest.mark.parametrize(
    ("message", "codes"),
    [
        (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700),
        (b'[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},', -32700),
        (b"", -32700),
        (b"\xff\xfe", -32700),
        ('{"jsonrpc":"2.0"}'.encode("utf-16"), -32700),
        (b"NaN", -32700),
        (b'{"jsonrpc":"2.0","method":"echo","params":[Infinity],"id":1}', -32700),
        (b"[" * 100_000, -32700),
        (b"1" * 5_000, -32700),
        (b"[]", -32600),
        (b"[1]", [-32600]),
        (b"[1,2,3]", [-32600, -32600, -32600]),
        (b"null", -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (json.dumps(request("subtract", "bar")).encode(), -32600),
        (json.dumps(request("subtract", None, 1)).encode(), -32600),
        (json.dumps(request(1, "bar")).encode(), -32600),
        (json.dumps(request(None)).encode(), -32600),
        (b'{"jsonrpc":"1.0","method":"get_data","id":1}', -32600),
        (b'{"jsonrpc":2.0,"method":"get_data","id":1}', -32600),
        (b'{"method":"get_data","id":1}', -32600),
        (json.dumps(request("nothing", [], 1)).encode(), -32601),
        (json.dumps(request("rpc.discover", [], 1)).encode(), -32601),
        (json.dumps(request("subtract", [1], 1)).encode(), -32602),
        (json.dumps(request("subtract", [1, 2, 3], 1)).encode(), -32602),
        (json.dumps(request("subtract", {"a": 1, "b": 2}, 1)).encode(), -32602),
    ],
)
async def test_faults_of_the_peer(message, codes):
    rpc = make()
    answer = await ask(rpc, message)
    if isinstance(codes, list):
        assert [code(each) for each in answer] == codes
    else:
        assert code(answer) == codes
        if codes in (-32700, -32600):
            assert answer["id"] in (None, 1)
    for _ in range(2):
        await ask(rpc, message)
    assert rpc.peers.circuit_state("p") is CircuitState.OPEN


@pytest.mark.parametrize("request_id", [True, [], {}, [1]])
async def test_an_id_of_another_type_is_no_id(request_id):
    answer = await ask(make(), request("get_data", request_id=request_id))
    assert code(answer) == -32600
    assert answer["id"] is None


async def test_an_id_that_would_come_back_as_no_json():
    answer = await ask(make(), b'{"jsonrpc":"2.0","method":"get_data","id":1e999}')
    assert (code(answer), answer["id"]) == (-32600, None)


@pytest.mark.parametrize("request_id", [0, -1, 1.5, "", "\ud800", 10**200, None])
async def test_ids_come_back_as_they_were(request_id):
    assert (await ask(make(), request("get_data", request_id=request_id)))["id"] == request_id


async def test_a_fault_keeps_the_id_that_could_be_read():
    assert (await ask(make(), request(7, request_id=5)))["id"] == 5


# --- what handlers do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["explode", "cancelled", "object", "infinite", "circular", "bad_data", "bad_code", "stop"],
)
async def test_a_failing_handler_is_an_internal_error_and_not_the_peers_fault(method):
    rpc = make()
    for _ in range(5):
        answer = await ask(rpc, request(method, request_id=1))
        assert answer["error"] == {"code": -32603, "message": "Internal error"}
    assert rpc.peers.circuit_state("p") is CircuitState.CLOSED
    assert rpc.stats().failed == 5
    assert rpc.stats().in_flight == 0


async def test_a_failing_handler_does_not_wipe_out_faults_either():
    rpc = make()
    for _ in range(2):
        await ask(rpc, b"no json")
    await ask(rpc, request("explode", request_id=1))
    await ask(rpc, b"no json")
    assert rpc.peers.circuit_state("p") is CircuitState.OPEN


async def test_an_error_of_the_application_is_a_success_of_the_peer():
    rpc = make()
    for _ in range(2):
        await ask(rpc, b"no json")
    answer = await ask(rpc, request("decline", request_id=1))
    assert answer["error"] == {"code": -1, "message": "declined", "data": {"why": "because"}}
    for _ in range(2):
        await ask(rpc, b"no json")
    assert rpc.peers.circuit_state("p") is CircuitState.CLOSED


async def test_a_type_error_inside_a_handler_is_not_about_params():
    rpc = JsonRpcGuard({"m": lambda: len(5)})  # type: ignore[arg-type]
    assert code(await ask(rpc, request("m", request_id=1))) == -32603


async def test_a_function_that_does_not_tell_its_arguments():
    rpc = JsonRpcGuard({"dict": dict})
    assert await ask(rpc, request("dict", {"a": 1}, 1)) == ok({"a": 1}, 1)


async def test_a_handler_that_hangs_is_cancelled():
    rpc = make(handler_timeout=1e-9)
    assert code(await ask(rpc, request("never", request_id=1))) == -32603
    assert rpc.stats().in_flight == 0
    assert rpc.peers.circuit_state("p") is CircuitState.CLOSED


async def test_cancelling_the_caller_cancels_the_handler_and_says_nothing():
    rpc = make()
    task = asyncio.ensure_future(ask(rpc, request("never", request_id=1)))
    await asyncio.wait([task], timeout=0)
    assert rpc.stats().in_flight == 1
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert rpc.stats().in_flight == 0


async def test_what_the_handler_was_refused_is_passed_on():
    answer = await ask(make(), request("limited", request_id=1))
    assert code(answer) == -32001
    assert answer["error"]["data"]["retry_after"] is None


# --- limits ------------------------------------------------------------------------------------------------


async def test_rate_limited_and_circuit_open():
    rpc = make(rate=2)
    for _ in range(2):
        assert await ask(rpc, request("get_data", request_id=1)) == ok(["hello", 5], 1)
    refused = await ask(rpc, request("get_data", request_id=7))
    assert code(refused) == -32001
    assert refused["id"] == 7
    assert refused["error"]["data"] == {
        "peer": "p",
        "policy": "peer",
        "limit": 2,
        "remaining": 0,
        "retry_after": 0.5,
    }
    assert await ask(rpc, request("get_data", request_id=1), "other") == ok(["hello", 5], 1)
    for _ in range(3):
        rpc.peers.record_failure("p")
    opened = await ask(rpc, request("get_data", request_id=8))
    assert code(opened) == -32002
    assert opened["error"]["data"]["retry_after"] == 30.0
    assert rpc.stats().refused == 2


async def test_a_refused_notification_is_silent_and_told_to_the_door():
    rpc = make(rate=1)
    await ask(rpc, request("update"))
    answer = await rpc.answer("p", json.dumps(request("update")).encode())
    assert answer.body is None
    assert isinstance(answer.refusal, RateLimited)


async def test_each_request_of_a_batch_is_charged():
    rpc = make(rate=3)
    answers = await ask(rpc, [request("get_data", request_id=n) for n in range(5)])
    assert ["result" in each for each in answers] == [True, True, True, False, False]
    assert [code(each) for each in answers[3:]] == [-32001, -32001]


async def test_a_long_message_of_a_refused_peer_is_not_even_read():
    rpc = make(rate=1)
    await ask(rpc, request("get_data", request_id=1))
    long = await ask(rpc, request("echo", ["x" * 5000], 2))
    assert (code(long), long["id"]) == (-32001, None)
    short = await ask(rpc, request("echo", ["x"], 2))
    assert (code(short), short["id"]) == (-32001, 2)
    assert rpc.peers.circuit_state("p") is CircuitState.CLOSED


async def test_the_probe_of_a_half_open_circuit_may_be_long_too():
    rpc = make()
    for _ in range(3):
        rpc.peers.record_failure("p")
    assert (await ask(rpc, request("echo", ["x" * 5000], 2)))["id"] is None
    rpc.clock.advance(31)  # type: ignore[attr-defined]
    assert (await ask(rpc, request("echo", ["x" * 5000], 2)))["id"] == 2
    assert rpc.peers.circuit_state("p") is CircuitState.CLOSED


async def test_a_message_or_batch_that_is_too_long():
    rpc = make(max_message_bytes=100, max_batch=2)
    assert code(await ask(rpc, request("echo", ["x" * 100], 1))) == -32600
    assert code(await ask(rpc, [1, 2, 3])) == -32600
    assert len(await ask(rpc, [1, 2])) == 2


async def test_places_for_all_and_for_each_peer():
    rpc = make(max_concurrency=3, max_per_peer=2)
    message = request("never", request_id=1)
    tasks = [asyncio.ensure_future(ask(rpc, message, peer)) for peer in ("a", "a", "b")]
    await asyncio.wait(tasks, timeout=0)
    assert rpc.stats().in_flight == 3
    mine = await ask(rpc, message, "a")
    assert (code(mine), mine["error"]["data"]["policy"]) == (-32001, "max_per_peer")
    every = await ask(rpc, message, "c")
    assert (code(every), every["error"]["data"]["policy"]) == (-32001, "max_concurrency")
    assert every["error"]["message"] == "Overloaded"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await ask(rpc, request("get_data", request_id=1), "c") == ok(["hello", 5], 1)
    assert not rpc._places._by_peer
    for peer in "abc":
        assert rpc.peers.circuit_state(peer) is CircuitState.CLOSED


async def test_others_have_their_turn_during_a_batch():
    rpc = make()
    seen = []
    rpc._handlers["echo"].function = seen.append
    batch = [request("echo", [n]) for n in range(50)]
    other = asyncio.ensure_future(ask(rpc, request("echo", ["other"])))
    await ask(rpc, batch)
    await other
    assert seen.index("other") < 5


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        (["x"], {}, "must be a mapping"),
        (None, {}, "must be a mapping"),
        ({}, {"peers": 5}, "peers must be a PeerLimiter"),
        ({"rpc.x": len}, {}, "reserved"),
        ({"": len}, {}, "reserved"),
        ({5: len}, {}, "reserved"),
        ({"a": 5}, {}, "must be callable"),
        ({}, {"max_message_bytes": 0}, "max_message_bytes"),
        ({}, {"max_batch": True}, "max_batch"),
        ({}, {"max_concurrency": 1.5}, "max_concurrency"),
        ({}, {"max_per_peer": -1}, "max_per_peer"),
        ({}, {"handler_timeout": 0}, "handler_timeout"),
        ({}, {"handler_timeout": float("nan")}, "handler_timeout"),
        ({}, {"handler_timeout": "5"}, "handler_timeout"),
    ],
)
def test_settings_that_make_no_sense(methods, options, message):
    with pytest.raises(InvalidInput, match=message):
        JsonRpcGuard(methods, **options)


@pytest.mark.parametrize(
    ("peer", "message"), [("p", "{}"), ("p", None), ("", b"{}"), (5, b"{}"), ("x" * 2000, b"{}")]
)
async def test_a_message_or_a_peer_that_is_none(peer, message):
    with pytest.raises(InvalidInput):
        await make().answer(peer, message)


async def test_stats():
    rpc = make(rate=5)
    await ask(rpc, [request("get_data", request_id=1), request("explode", request_id=2), 3])
    await ask(rpc, b"-")
    await ask(rpc, request("update"))
    await ask(rpc, request("update"))
    stats = rpc.stats()
    assert (stats.messages, stats.answered, stats.failed) == (4, 2, 1)
    assert (stats.faults, stats.refused, stats.in_flight) == (2, 1, 0)
