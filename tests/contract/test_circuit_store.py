"""What every store of circuits must do, and what the one on Redis or Valkey does when that is in trouble."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
from itertools import count

import pytest
import redis
from redis import asyncio as redis_asyncio

from headgate.backpressure.breaker import IGNORED, REFUSED
from headgate.backpressure.breaker_rule import (
    CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    RAMP,
    BreakerRule,
    CircuitState,
)
from headgate.clock import SystemClock
from headgate.coordination.redis_circuits import RedisCircuits
from headgate.engine.circuits import CircuitQuestion, Circuits, CircuitStore
from headgate.errors import ConfigurationError, InvalidInput, StoreUnavailable
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.testing import ManualClock
from headgate.wiring.circuits import open_circuits
from tests.support import servers

pytestmark = pytest.mark.needs_redis

SECOND = 10**9
RULE = BreakerRule(in_row=2, successes=1, lease_ns=3600 * SECOND)
AT_ONCE = BreakerRule(
    in_row=2, successes=1, open_ns=1_000, longest_ns=1_000, lease_ns=3600 * SECOND
)
NAMES = count()


@pytest.fixture
def name():
    return f"circuit-{os.getpid()}-{next(NAMES)}"


@pytest.fixture
def url(redis_server):
    return f"redis://{servers.HOST}:{redis_server.port}/0"


@pytest.fixture(params=["here", "address", "client"])
def store(request, url):
    if request.param == "here":
        yield Circuits(SystemClock())
        return
    client = redis.Redis.from_url(url)
    made = RedisCircuits(url if request.param == "address" else client, 5 * SECOND)
    yield made
    made.close()
    client.close()


def test_it_is_what_breakers_ask(store):
    assert isinstance(store, CircuitStore)


def test_outcomes_are_counted_and_open_it(store, name):
    first = store.ask(name, RULE, CircuitQuestion())
    assert (first.state, first.calls, first.lease) == (CLOSED, 0, 0)
    told = store.ask(name, RULE, CircuitQuestion(first.epoch, "001"))
    assert (told.state, told.calls, told.failures, told.in_row) == (CLOSED, 3, 1, 1)
    opened = store.ask(name, RULE, CircuitQuestion(first.epoch, "1"))
    assert (opened.state, opened.openings, opened.tripped_failures) == (OPEN, 1, 2)
    assert 0 < opened.wait_ns <= 5 * SECOND
    assert opened.epoch > first.epoch
    stale = store.ask(name, RULE, CircuitQuestion(first.epoch, "111"))
    assert (stale.state, stale.openings) == (OPEN, 1)


def test_leases_are_granted_while_there_are_some(store, name):
    first = store.ask(name, AT_ONCE, CircuitQuestion())
    store.ask(name, AT_ONCE, CircuitQuestion(first.epoch, "11"))
    found = store.ask(name, AT_ONCE, CircuitQuestion(probes=True))
    while found.lease == REFUSED:  # a microsecond is soon over
        found = store.ask(name, AT_ONCE, CircuitQuestion(probes=True))
    leases = [found.lease]
    leases += [store.ask(name, AT_ONCE, CircuitQuestion(probes=True)).lease for _ in range(5)]
    assert [lease > 0 for lease in leases] == [True] * 3 + [False] * 3
    assert found.state == HALF_OPEN
    given_back = CircuitQuestion(found.epoch, lease=leases[0], ended=IGNORED)
    assert store.ask(name, AT_ONCE, given_back).probes == 2
    done = store.ask(name, AT_ONCE, CircuitQuestion(found.epoch, lease=leases[1]))
    assert done.state == RAMP


def test_states_by_hand_and_circuits_apart(store, name):
    forced = store.ask(name, RULE, CircuitQuestion(force=FORCED_OPEN))
    assert forced.state == FORCED_OPEN
    assert store.ask(name, RULE, CircuitQuestion()).state == FORCED_OPEN
    assert store.ask(f"{name}-other", RULE, CircuitQuestion()).state == CLOSED


async def test_tasks_ask_the_same(store, name):
    first = await store.ask_async(name, RULE, CircuitQuestion())
    await store.ask_async(name, RULE, CircuitQuestion(first.epoch, "11"))
    assert store.ask(name, RULE, CircuitQuestion()).state == OPEN
    await store.close_async()


# --- on a server -------------------------------------------------------------------------------------


def test_each_event_loop_has_connections_of_its_own(url, name):
    store = RedisCircuits(url, 5 * SECOND)

    async def ask():
        found = await store.ask_async(name, RULE, CircuitQuestion())
        await store.close_async()
        return found.state

    assert [asyncio.run(ask()) for _ in range(3)] == [CLOSED] * 3
    store.close()


async def test_a_client_for_asyncio(url, name):
    async with redis_asyncio.Redis.from_url(url) as client:
        store = RedisCircuits(client, 5 * SECOND)
        assert (await store.ask_async(name, RULE, CircuitQuestion())).state == CLOSED
        with pytest.raises(InvalidInput, match="is for asyncio"):
            store.ask(name, RULE, CircuitQuestion())


@pytest.mark.parametrize("decode", [True, False])
async def test_flushed_scripts_are_sent_again(url, name, decode):
    with redis.Redis.from_url(url, decode_responses=decode) as client:
        store = RedisCircuits(client, 5 * SECOND)
        for _ in range(2):
            client.script_flush()
            assert store.ask(name, RULE, CircuitQuestion()).state == CLOSED
            client.script_flush()
            assert (await store.ask_async(name, RULE, CircuitQuestion())).state == CLOSED
    own = RedisCircuits(url, 5 * SECOND)
    own._sync_client().script_flush()
    assert (await own.ask_async(name, RULE, CircuitQuestion())).state == CLOSED
    await own.close_async()
    own.close()


@pytest.mark.parametrize("value", [b"rubbish", b"\x80", b""])
def test_what_is_no_circuit_is_an_error_of_the_store(url, name, value):
    store = RedisCircuits(url, 5 * SECOND)
    store._sync_client().set(f"headgate:circuit:{name}", value)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        store.ask(name, RULE, CircuitQuestion())
    store.close()


def test_it_expires_unless_it_is_forced(url, name):
    store = RedisCircuits(url, 5 * SECOND)
    client = store._sync_client()
    store.ask(name, RULE, CircuitQuestion())
    assert 86_000 < client.ttl(f"headgate:circuit:{name}") <= 86_400
    store.ask(name, RULE, CircuitQuestion(force=FORCED_OPEN))
    assert client.ttl(f"headgate:circuit:{name}") == -1
    store.close()


async def test_nobody_there(name):
    store = RedisCircuits(f"redis://{servers.HOST}:{servers.free_port()}", SECOND)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.ask(name, RULE, CircuitQuestion())
        with pytest.raises(StoreUnavailable):
            await store.ask_async(name, RULE, CircuitQuestion())
    await store.close_async()
    store.close()


async def test_a_server_that_hangs_is_not_waited_for(tmp_path, name):
    with servers.redis_server(tmp_path) as server:
        url = f"redis://{servers.HOST}:{server.port}"
        store = RedisCircuits(url, SECOND // 20)
        client = redis.Redis.from_url(url, socket_timeout=0.05)
        by_client = RedisCircuits(client, SECOND // 20)
        assert store.ask(name, RULE, CircuitQuestion()).state == CLOSED
        assert (await store.ask_async(name, RULE, CircuitQuestion())).state == CLOSED
        server.process.send_signal(signal.SIGSTOP)
        try:
            for ask in (store.ask_async, by_client.ask_async):
                with pytest.raises(StoreUnavailable):
                    await ask(name, RULE, CircuitQuestion())
            with pytest.raises(StoreUnavailable):
                store.ask(name, RULE, CircuitQuestion())
        finally:
            server.process.send_signal(signal.SIGCONT)
        await store.close_async()
        store.close()
        client.close()


def test_a_breaker_outlives_its_store(tmp_path):
    clock = ManualClock(10**18)
    with servers.redis_server(tmp_path) as server:
        url = f"valkey://{servers.HOST}:{server.port}"
        settings = {"failure_threshold": 2, "shared": url, "shared_timeout": 5.0, "clock": clock}
        one, two = CircuitBreaker("db", **settings), CircuitBreaker("db", **settings)
        for breaker in (one, two):
            breaker.record(breaker.allow(), False)
            clock.advance(1)
            breaker.record(breaker.allow(), None)
        assert one.report().scope == "shared"
        assert two.state is CircuitState.OPEN
    clock.advance(1)
    assert not two.allow()
    assert two.report().scope == "store_lost"
    clock.advance(6)
    assert sum(bool(two.allow()) for _ in range(50)) == 3
    one.close()
    two.close()


def test_without_the_driver_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_redis(name, *rest):
        if name == "redis":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_redis)
    with pytest.raises(ConfigurationError, match="headgate\\[redis\\]"):
        open_circuits("redis://127.0.0.1", SECOND)


def test_an_address_that_cannot_be_read():
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_circuits("redis://127.0.0.1:port", SECOND)
