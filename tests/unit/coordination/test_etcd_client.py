"""The client of etcd's gateway, against answers that are made up: real ones are in tests/integration."""

from __future__ import annotations

import json
import ssl

import httpx
import pytest

from headgate.coordination.backend import Card
from headgate.coordination.etcd_backend import EtcdBackend
from headgate.coordination.etcd_client import (
    EtcdAccess,
    EtcdClient,
    decode,
    encode,
    number,
    prefix_end,
)
from headgate.errors import StoreUnavailable, TooLarge

ONE, TWO = "http://one:2379", "http://two:2379"


def errors_of(kind):
    """All errors of a driver, below this one."""
    found = [kind]
    for each in kind.__subclasses__():
        found += errors_of(each)
    return found


def client(answer, endpoints=ONE, **access):
    """A client that gets what ``answer(request)`` returns or raises."""
    made = EtcdClient(EtcdAccess(endpoints, **{"deadline": 0.3, **access}))
    made._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return made


def refusal(text, code, status=400):
    return httpx.Response(status, json={"error": text, "message": text, "code": code})


async def ask(made, path="kv/range"):
    try:
        return await made.call(path, {})
    finally:
        await made.close()


async def read_watch(made, told=None):
    try:
        async with made.watch("a", "b", 0, 1.0) as messages:
            async for message in messages:
                (told if told is not None else []).append(message)
    finally:
        await made.close()


@pytest.mark.parametrize(
    "kind",
    [*errors_of(httpx.HTTPError), OSError, ConnectionResetError, RuntimeError, httpx.StreamError],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("how", [ask, read_watch])
async def test_no_error_of_the_driver_leaks(kind, how):
    def answer(request):
        try:
            raise kind("because")
        except TypeError:
            raise kind("because", request=request, response=httpx.Response(500)) from None

    with pytest.raises(StoreUnavailable, match=r"the etcd at http://one:2379 does not answer"):
        await how(client(answer))


@pytest.mark.parametrize(
    "content", [b"", b"nginx", b"[]", b"\xff", b"<html>", b'"text"', b"[" * 100_000]
)
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_what_is_no_etcd_is_told_apart(content, status):
    with pytest.raises(StoreUnavailable, match="is no etcd"):
        await ask(client(lambda request: httpx.Response(status, content=content)))


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("etcdserver: permission denied", 7, "grant it readwrite"),
        ("etcdserver: authentication failed, invalid user ID or password", 3, "check etcd_user"),
        ("etcdserver: user name is empty", 3, "set etcd_user"),
        ("etcdserver: mvcc: database space exceeded", 9, "refused: etcdserver: mvcc: database"),
    ],
)
async def test_a_refusal_is_said_in_words(text, code, told):
    with pytest.raises(StoreUnavailable, match=told):
        await ask(client(lambda request: refusal(text, code)))


@pytest.mark.parametrize(
    "text", ["etcdserver: request is too large", "etcdserver: too many operations in txn request"]
)
async def test_what_is_too_much_is_said_so(text):
    with pytest.raises(TooLarge, match="in several parts"):
        await ask(client(lambda request: refusal(text, 3)))


async def test_the_endpoint_that_answered_last_is_asked_first():
    asked = []

    def answer(request):
        asked.append(request.url.host)
        if request.url.host == "one":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"ok": True})

    made = client(answer, f"{ONE},{TWO}")
    assert await made.call("kv/range", {}) == {"ok": True}
    assert await made.call("kv/range", {}) == {"ok": True}
    assert asked == ["one", "two", "two"]
    await made.close()


async def test_a_member_without_a_leader_is_asked_again_for_as_long_as_there_is_time():
    answers = iter([refusal("etcdserver: no leader", 14, 503)] * 2)

    def answer(request):
        assert request.headers["grpc-metadata-hasleader"] == "true"
        return next(answers, httpx.Response(200, json={"ok": True}))

    assert await ask(client(answer)) == {"ok": True}


async def test_who_never_finds_a_leader_is_told_so():
    with pytest.raises(StoreUnavailable, match="no leader"):
        await ask(client(lambda request: refusal("etcdserver: no leader", 14, 503), deadline=0.1))


async def test_a_login_that_ran_out_is_made_again_once():
    tokens = iter(["first", "second"])
    asked = []

    def answer(request):
        asked.append(request.url.path.rpartition("/")[2])
        if asked[-1] == "authenticate":
            assert json.loads(request.content) == {"name": "ann", "password": "secret"}
            return httpx.Response(200, json={"token": next(tokens)})
        if request.headers["authorization"] == "first":
            return refusal("etcdserver: invalid auth token", 16, 401)
        return httpx.Response(200, json={"ok": True})

    assert await ask(client(answer, user="ann", password="secret")) == {"ok": True}
    assert asked == ["authenticate", "range", "authenticate", "range"]


async def test_a_watch_tells_what_comes_and_fails_when_it_ends():
    lines = b'{"result": {"created": true}}\n{"result": {"events": [1]}}\n'
    made = client(lambda request: httpx.Response(200, content=lines))
    told = []
    with pytest.raises(StoreUnavailable, match="the stream ended"):
        await read_watch(made, told)
    assert told == [{"created": True}, {"events": [1]}]


@pytest.mark.parametrize(
    "content",
    [
        b'{"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}\n',
        b'{"error": {"grpc_code": 7, "message": "etcdserver: permission denied"}}\n',
        b'{"error": "etcdserver: permission denied", "code": 7}\n',
        b"rubbish\n",
    ],
)
async def test_a_watch_that_is_refused_on_the_way(content):
    with pytest.raises(StoreUnavailable):
        await read_watch(client(lambda request: httpx.Response(200, content=content)))


async def test_a_watch_whose_login_ran_out_logs_in_again_the_next_time():
    def answer(request):
        if request.url.path.endswith("authenticate"):
            return httpx.Response(200, json={"token": "t"})
        return refusal("etcdserver: invalid auth token", 16, 401)

    made = client(answer, user="ann")
    with pytest.raises(StoreUnavailable):
        await read_watch(made)
    assert made._token == ""


def test_certificates_are_looked_at_whichever_endpoint_speaks_tls():
    made = EtcdClient(EtcdAccess(f"{ONE},https://two:2379"))
    assert isinstance(made._tls, ssl.SSLContext)
    assert made._tls.verify_mode is ssl.CERT_REQUIRED


def test_what_the_gateway_speaks_in():
    assert decode(encode("/headgate/é")) == "/headgate/é"
    assert number({"a": "9223372036854775807"}, "a") == 2**63 - 1
    assert number({}, "a") == 0
    assert prefix_end("/headgate/") == "/headgate0"


async def test_a_lease_that_ran_out_between_two_steps_is_replaced_the_next_time():
    granted = iter(["7", "8"])
    lost = iter([refusal("etcdserver: requested lease not found", 5, 404)])
    header = {"revision": "3"}

    def answer(request):
        path = request.url.path.removeprefix("/v3/")
        if path == "lease/grant":
            return httpx.Response(200, json={"ID": next(granted), "TTL": "5"})
        member = {"key": encode("/headgate/c/members/one"), "value": encode('["run", ""]')}
        read = [{"response_range": {"header": header}}, {"response_range": {"kvs": [member]}}]
        return next(lost, httpx.Response(200, json={"responses": read}))

    backend = EtcdBackend(client(answer), "c")
    with pytest.raises(StoreUnavailable, match="lease not found"):
        await backend.beat(Card("one", "run", ""), 5 * 10**9)
    roll = await backend.beat(Card("one", "run", ""), 5 * 10**9)
    assert roll.lease_ns == 5 * 10**9
    assert backend._lease == 8
    await backend.close()
