"""JSON-RPC: any bytes get an answer that the specification allows, and places are never lost or made up."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.gates.peer import PeerLimiter
from headgate.integrations.jsonrpc import JsonRpcError, JsonRpcGuard
from headgate.testing import ManualClock

logging.getLogger("headgate.jsonrpc").setLevel(logging.CRITICAL)
ABSENT = object()


def declined(*_: Any) -> None:
    raise JsonRpcError(7, "declined")


METHODS = {"echo": lambda value: value, "declined": declined, "fail": lambda: 1 / 0}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("echo")
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.one_of(st.just("2.0"), st.just("2.0"), values),
        "method": st.one_of(st.sampled_from([*METHODS, "nothing"]), values),
        "params": st.one_of(st.lists(scalars, max_size=2), st.just({"value": 1}), values),
        "id": st.one_of(st.integers(0, 9), values),
    },
)
documents = st.one_of(entries, st.lists(st.one_of(entries, values), max_size=4), values)


def run(message: bytes) -> bytes | None:
    peers = PeerLimiter(10**6, 10**6, failure_threshold=10**6, clock=ManualClock())
    return asyncio.run(JsonRpcGuard(METHODS, peers=peers).answer("p", message)).body


def has_no_json(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, list):
        return any(map(has_no_json, value))
    return isinstance(value, dict) and any(map(has_no_json, value.values()))


def expected(entry: Any) -> tuple[str, Any, Any] | None:
    """The naive reading of the specification: (what, result or code, id)."""
    if not isinstance(entry, dict):
        return "error", -32600, None
    request_id = entry.get("id", ABSENT)
    known = request_id is ABSENT or (
        isinstance(request_id, (str, int, float, type(None))) and not isinstance(request_id, bool)
    )
    shown = None if request_id is ABSENT or not known else request_id
    params = entry.get("params", [])
    valid = known and entry.get("jsonrpc") == "2.0" and isinstance(entry.get("method"), str)
    if not valid or not isinstance(params, (list, dict)):
        return "error", -32600, shown
    answer: tuple[str, Any] = ("error", -32602)
    if entry["method"] not in METHODS:
        answer = "error", -32601
    elif entry["method"] == "echo" and isinstance(params, list) and len(params) == 1:
        answer = "result", params[0]
    elif entry["method"] == "echo" and isinstance(params, dict) and list(params) == ["value"]:
        answer = "result", params["value"]
    elif entry["method"] == "declined" and not (isinstance(params, dict) and params):
        answer = "error", 7
    elif entry["method"] == "fail" and not params:
        answer = "error", -32603
    return None if request_id is ABSENT else (*answer, shown)


def seen(answer: dict[str, Any]) -> tuple[str, Any, Any]:
    assert answer["jsonrpc"] == "2.0"
    assert set(answer) in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"})
    if "error" in answer:
        return "error", answer["error"]["code"], answer["id"]
    return "result", answer["result"], answer["id"]


@given(documents)
@settings(max_examples=150)
def test_documents_against_the_naive_reading(document):
    body = run(json.dumps(document).encode())
    if has_no_json(document):
        assert seen(json.loads(body)) == ("error", -32700, None)
    elif not isinstance(document, list):
        wanted = expected(document)
        assert (None if body is None else seen(json.loads(body))) == wanted
    elif not document:
        assert seen(json.loads(body)) == ("error", -32600, None)
    else:
        wanted = [one for one in map(expected, document) if one is not None]
        assert ([] if body is None else list(map(seen, json.loads(body)))) == wanted
        assert body != b"[]"


@given(st.one_of(st.binary(max_size=40), st.text('{}[]",:0123e-. \\utrnl"', max_size=40)))
@settings(max_examples=150)
def test_any_bytes_get_an_answer(message):
    body = run(message.encode() if isinstance(message, str) else message)
    if body is not None:
        answer = json.loads(body)
        for each in answer if isinstance(answer, list) else [answer]:
            seen(each)


class Places(RuleBasedStateMachine):
    """Calls of a few peers that begin, end, fail and are cancelled in any order; counted by hand."""

    most, most_per_peer = 4, 2

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        peers = PeerLimiter(10**6, 10**6, failure_threshold=2, clock=ManualClock())
        self.rpc = JsonRpcGuard(
            {"work": self.work},
            peers=peers,
            max_concurrency=self.most,
            max_per_peer=self.most_per_peer,
        )
        self.ends: list[asyncio.Future[object]] = []
        self.running: list[tuple[str, asyncio.Future[object], asyncio.Task[Any]]] = []

    async def work(self) -> object:
        end = self.loop.create_future()
        self.ends.append(end)
        return await end

    def settle(self) -> None:
        for _ in range(5):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(peer=st.sampled_from("abc"))
    def begin(self, peer: str) -> None:
        mine = sum(p == peer for p, _, _ in self.running)
        message = b'{"jsonrpc":"2.0","method":"work","id":1}'
        task = self.loop.create_task(self.rpc.answer(peer, message))
        self.settle()
        if mine < self.most_per_peer and len(self.running) < self.most:
            assert not task.done()
            self.running.append((peer, self.ends.pop(), task))
        else:
            policy = "max_per_peer" if mine >= self.most_per_peer else "max_concurrency"
            assert task.result().refusal.decision.policy == policy

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["well", "badly", "cancelled", "refused"]))
    def end(self, data: st.DataObject, how: str) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        _, end, task = self.running.pop(index)
        if how == "well":
            end.set_result("done")
        elif how == "badly":
            end.set_exception(RuntimeError("badly"))
        elif how == "refused":
            end.cancel()
        else:
            task.cancel()
        self.settle()
        assert task.done()
        assert task.cancelled() == (how == "cancelled")

    @invariant()
    def counts_agree(self) -> None:
        assert self.rpc.stats().in_flight == len(self.running)
        for peer in "abc":
            assert self.rpc.peers.circuit_state(peer).value == "closed"

    def teardown(self) -> None:
        for _, _, task in self.running:
            task.cancel()
        self.settle()
        self.loop.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=40, stateful_step_count=25)
