"""Shared counters on a real Redis or Valkey: keys, expiry, and what else may be found there."""

from __future__ import annotations

import contextlib
import random
from itertools import count

import pytest
from redis import asyncio as redis

from headgate.clock import SystemClock
from headgate.coordination.redis_counters import RedisCounters
from headgate.engine.counters import (
    CHECK,
    PEEK,
    RENEW,
    RESERVE,
    SETTLE,
    STORE_EPOCH_NS,
    UNREADABLE,
    Counter,
    LeaseRequest,
    Question,
)
from headgate.errors import InvalidInput, StoreUnavailable
from headgate.policy.model import LimitSpec
from headgate.rate import Rate
from tests.support import servers

pytestmark = pytest.mark.needs_redis

SECOND = 10**6
NAMES = count()
ALGORITHMS = [
    ("token_bucket", "10/s"),
    ("sliding_window_counter", "10/s"),
    ("fixed_window", "10/day tz=Europe/Paris"),
    ("sliding_window_log", "10/s"),
    ("dual", "10/s"),
]


@pytest.fixture
async def client(redis_server):
    async with redis.Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
async def store(redis_server):
    store = RedisCounters(f"redis://{servers.HOST}:{redis_server.port}/0", f"own-{next(NAMES)}")
    yield store
    await store.close()


def limit(rate="10/s", algorithm="token_bucket", version=1):
    return Counter("scope/limit", version, LimitSpec(algorithm, Rate.parse(rate)), "limit")


def checks(counter, *keys):
    return [Question(CHECK, [(counter, key)], 1) for key in keys]


def renew(counter, node="node", key="k"):
    lease = LeaseRequest(
        node, 1, left=0, back=0, need=1, ahead=5, demand=5.0, ttl_us=30 * SECOND, bound=5
    )
    return Question(RENEW, [(counter, key)], lease=lease)


async def test_keys_name_the_cluster_and_the_key(store, client):
    log = limit("10/min", "sliding_window_log")
    await store.ask(checks(log, "user:42"))
    (prefix,) = {key.rsplit(b":{", 1)[0] for key in await client.keys("*{user:42}*")}
    assert prefix.startswith(b"headgate:own-")
    found = sorted(await client.keys(prefix + b":*"))
    assert [key.removeprefix(prefix) for key in found] == [
        b":{user:42}:a71c4b245d24d120",
        b":{user:42}:a71c4b245d24d120:log",
    ]


async def test_keys_end_when_they_say_nothing(store, client):
    for algorithm, rate in ALGORITHMS[:2]:
        counter = limit(rate, algorithm)
        key = store._wire.key_of(counter, algorithm)
        await store.ask(checks(counter, algorithm))
        assert 0 < await client.pttl(key) <= 4_000
    log = limit("10/hour", "sliding_window_log")
    key = store._wire.key_of(log, "log")
    await store.ask(checks(log, "log"))
    for each in (key, f"{key}:log"):
        assert 3_600_000 < await client.pttl(each) <= 7_300_000
    await store.ask([renew(limit(), key="leased")])
    assert 29_000 < await client.pttl(store._wire.key_of(limit(), "leased")) <= 32_000


async def test_looking_and_refusing_leave_nothing_behind(store, client):
    counter = limit()
    await store.ask([Question(PEEK, [(counter, "k")], 1), Question(CHECK, [(counter, "k")], 11)])
    assert not await client.exists(store._wire.key_of(counter, "k"))


async def test_the_clock_is_the_servers(store):
    (answer,) = await store.ask(checks(limit(), "k"))
    now_us = (SystemClock().wall_ns() - STORE_EPOCH_NS) // 1_000
    assert abs(answer.at_us - now_us) < 60 * SECOND


async def test_scripts_that_were_flushed_are_sent_again(store, client):
    for left in (9, 8):
        await client.script_flush()
        (answer,) = await store.ask(checks(limit("10/day"), "k"))
        assert answer.standings[0].remaining == left


async def test_a_greeting_brings_the_script(store, client):
    await client.script_flush()
    await store.ping()
    await client.config_resetstat()
    await store.ask(checks(limit(), "k"))
    assert "cmdstat_eval" not in await client.info("commandstats")


async def test_a_client_that_decodes(redis_server):
    async with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        store = RedisCounters(client, f"own-{next(NAMES)}")
        hold = Question(RESERVE, [(limit("10/day"), "ключ")], 3, hold="h", ttl_us=SECOND)
        (answer,) = await store.ask([hold])
        assert answer.standings[0].remaining == 7
        (answer,) = await store.ask([Question(SETTLE, [], 1, hold="h")])
        assert answer.standings[0].remaining == 9
        await store.close()
        await client.ping()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("set", b"rubbish"),
        ("set", b""),
        ("set", b"\xc1"),
        ("set", b"\xa3hg1"),
        ("set", b"\xa3hg1\x01\xa9not,a,one\xc2"),
        ("set", b"\xa3hg1\x01\xb31,10,1000000000\xc2\xa1x\xa1y"),
        ("rpush", b"a list"),
        ("hset", b"a hash"),
    ],
)
@pytest.mark.parametrize(("algorithm", "rate"), ALGORITHMS)
async def test_what_is_not_ours_fails_alone(store, client, kind, value, algorithm, rate):
    counter = limit(rate, algorithm)
    key = store._wire.key_of(counter, "bad")
    put = {"set": client.set, "rpush": client.rpush, "hset": lambda k, v: client.hset(k, v, v)}
    await put[kind](key, value)
    both = Question(CHECK, [(counter, "good"), (counter, "bad")], 1)
    questions = [*checks(counter, "good", "bad"), both, *checks(counter, "good", "bad")]
    answers = await store.ask(questions)
    assert [answer.failed for answer in answers] == ["", UNREADABLE, UNREADABLE, "", UNREADABLE]
    assert answers[3].standings[0].remaining == 8  # nothing of what failed was spent
    with contextlib.suppress(StoreUnavailable):
        assert await store.leases(counter, "bad") == []
    await client.delete(key)
    (answer,) = await store.ask(checks(counter, "bad"))
    assert answer.standings[0].remaining == 9


@pytest.mark.parametrize("kind", ["set", "rpush"])
async def test_a_log_that_is_none_fails_alone(store, client, kind):
    counter = limit("10/hour", "sliding_window_log")
    await store.ask(checks(counter, "bad"))
    key = f"{store._wire.key_of(counter, 'bad')}:log"
    await client.delete(key)
    await (client.set if kind == "set" else client.rpush)(key, b"no log")
    answers = await store.ask(checks(counter, "bad", "good"))
    assert [answer.failed for answer in answers] == [UNREADABLE, ""]


@pytest.mark.slow
async def test_no_damage_to_a_key_harms_others(store, client):
    uniform = random.Random(7)
    counter = limit()
    key = store._wire.key_of(counter, "bad")
    await store.ask([renew(counter, key="bad"), *checks(counter, "bad")])
    sound = await client.get(key)
    for turn in range(300):
        damaged = bytearray(sound)
        for _ in range(uniform.randint(1, 3)):
            damaged[uniform.randrange(len(damaged))] = uniform.randrange(256)
        await client.set(key, bytes(damaged[: uniform.randint(1, len(damaged))]))
        answers = await store.ask(
            [*checks(counter, "bad", f"good{turn}"), renew(counter, key="bad")]
        )
        assert answers[1].failed == ""
        assert len(answers) == 3


async def test_holds_that_are_not_ours(store, client):
    await client.set(store._wire.hold_key("h"), b"rubbish")
    await client.set(store._wire.hold_key("i"), b"\x95\xa3hg1\x01\x02\x03\xa4[[1]")
    await client.zadd(store._wire.index_key, {"h": 1, "i": 1, "lost": 1})
    answers = await store.ask([Question(SETTLE, [], 0, hold=hold) for hold in "hi"])
    assert all(answer.failed for answer in answers)
    assert await store.release_expired() == 0
    assert await client.zcard(store._wire.index_key) == 0


async def test_an_index_that_is_none_stops_reservations_alone(store, client):
    await client.set(store._wire.index_key, b"rubbish")
    counter = limit("10/day")
    hold = Question(RESERVE, [(counter, "k")], 3, hold="h", ttl_us=SECOND)
    answers = await store.ask([*checks(counter, "k"), hold, *checks(counter, "k")])
    assert [answer.failed for answer in answers] == ["", UNREADABLE, ""]
    assert answers[2].standings[0].remaining == 8
    with pytest.raises(StoreUnavailable):
        await store.release_expired()


async def test_a_hold_is_settled_once_in_a_batch_too(store):
    counter = limit("10/day")
    await store.ask([Question(RESERVE, [(counter, "k")], 6, hold="h", ttl_us=SECOND)])
    answers = await store.ask([Question(SETTLE, [], 3, hold="h")] * 2)
    assert [bool(answer.failed) for answer in answers] == [False, True]
    assert answers[0].standings[0].remaining == 7


@pytest.mark.slow
async def test_a_hold_outlives_a_settlement_that_there_was_no_memory_for(tmp_path):
    with servers.redis_server(tmp_path) as server:
        store = RedisCounters(f"redis://{servers.HOST}:{server.port}/0")
        counter = limit("10/day")
        await store.ask([Question(RESERVE, [(counter, "k")], 6, hold="h", ttl_us=60 * SECOND)])
        await store._client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="Memory"):
            await store.ask([Question(SETTLE, [], 0, hold="h")])
        with pytest.raises(StoreUnavailable):
            await store.ask(checks(counter, "k"))
        (looked,) = await store.ask([Question(PEEK, [(counter, "k")], 1)])
        assert looked.standings[0].remaining == 4
        await store._client.config_set("maxmemory", 0)
        (settled,) = await store.ask([Question(SETTLE, [], 0, hold="h")])
        assert settled.standings[0].remaining == 10
        await store.close()


@pytest.mark.slow
async def test_a_large_log_is_searched_not_read(store, client):
    counter = limit("200000/hour", "sliding_window_log")
    store.now_us = 10**13
    await store.ask(checks(counter, "k"))
    for _ in range(3_000):  # entries of different moments, a few in one command each
        store.now_us += 1
        await store.ask(checks(counter, "k"))
    key = f"{store._wire.key_of(counter, 'k')}:log"
    assert await client.strlen(key) == 3_001 * 16 + 8
    store.now_us += 3_600 * SECOND - 1_000  # two thirds have left
    (answer,) = await store.ask(checks(counter, "k"))
    assert answer.standings[0].remaining == 200_000 - 1_000 - 1
    assert await client.strlen(key) == 1_001 * 16 + 8


def test_what_is_no_address():
    with pytest.raises(InvalidInput, match="counters must be kept at"):
        RedisCounters("http://127.0.0.1")


async def test_nobody_there():
    store = RedisCounters(f"redis://{servers.HOST}:{servers.free_port()}/0")
    with pytest.raises(StoreUnavailable):
        await store.ask(checks(limit(), "k"))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()
