"""Shared counters on a real cluster: levels in several slots, slots that move, servers that die."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager

import pytest

from headgate.coordination.counter_places import CONFIRM, HOLD_NS
from headgate.coordination.redis_cluster_counters import (
    PLACES,
    RedisClusterPlaces,
    place_tags,
    redis_cluster_counters,
)
from headgate.coordination.spread_counters import SpreadCounters
from headgate.engine.counters import (
    CHECK,
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    UNKNOWN_HOLD,
    LeaseRequest,
    Question,
)
from headgate.errors import InvalidInput, StoreUnavailable
from tests.support.counters import check, counter, left, passes
from tests.support.valkeys import valkey_cluster, wait_until

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]
SECOND = 1_000_000_000


@asynccontextmanager
async def opened(cluster, name=None, timeout_ns=SECOND // 2):
    places = RedisClusterPlaces(cluster.url, name or secrets.token_hex(4), timeout_ns)
    store = SpreadCounters(places)
    try:
        yield store, places
    finally:
        await store.close()


def tag_of(places, key):
    return f"{{{place_tags()[places.place_of(key)]}}}"


def node_of(cluster, places, key):
    return cluster.node_of(tag_of(places, key))


def keys_by_node(cluster, places, count=2):
    """For each server, keys that it has."""
    found = {node.port: [] for node in cluster.nodes}
    for number in range(10_000):
        line = found[node_of(cluster, places, f"k{number}").port]
        if len(line) < count:
            line.append(f"k{number}")
        if all(len(line) == count for line in found.values()):
            return list(found.values())
    raise AssertionError


def test_places_are_spread_over_the_servers(redis_cluster):
    nodes = [redis_cluster.node_of(f"{{{tag}}}").port for tag in place_tags()]
    assert min(nodes.count(node.port) for node in redis_cluster.nodes) == PLACES // 3


async def test_all_or_nothing_over_all_servers(redis_cluster):
    async with opened(redis_cluster) as (store, places):
        (a, b), (c, _), (d, _) = keys_by_node(redis_cluster, places)
        limit, small = counter(), counter(2, name="small")
        (answer,) = await store.ask([check(limit, a, b, c, d, cost=3)])
        assert passes(answer)
        assert [standing.remaining for standing in answer.standings] == [7, 7, 7, 7]
        question = Question(CHECK, [(limit, a), (limit, c), (small, d)], 3)
        (answer,) = await store.ask([question])
        assert [standing.wait_ns == 0 for standing in answer.standings] == [True, True, False]
        assert [standing.remaining for standing in answer.standings] == [7, 7, 2]
        for _ in range(200):
            if await left(store, limit, a, b, c, d) == [7, 7, 7, 7]:
                break
        assert await left(store, limit, a, b, c, d) == [7, 7, 7, 7]
        assert await left(store, small, d) == [2]


async def test_many_at_once_never_take_more_than_there_is(redis_cluster):
    name = secrets.token_hex(4)
    limit = counter(50, "1h")
    async with (
        opened(redis_cluster, name) as (one, places),
        opened(redis_cluster, name) as (two, _),
    ):
        keys = [line[0] for line in keys_by_node(redis_cluster, places)]
        admitted = 0
        for _ in range(10):
            batches = await asyncio.gather(
                *(store.ask([check(limit, *keys) for _ in range(10)]) for store in (one, two))
            )
            admitted += sum(passes(answer) for batch in batches for answer in batch)
        assert 40 <= admitted <= 50
        for _ in range(500):
            if await left(one, limit, *keys) == [50 - admitted] * 3:
                break
        assert await left(one, limit, *keys) == [50 - admitted] * 3


async def test_leases_refunds_and_holds(redis_cluster):
    async with opened(redis_cluster) as (store, places):
        (a, _), (b, _), (c, _) = keys_by_node(redis_cluster, places)
        limit = counter(100)
        lease = LeaseRequest(
            "n", 1, left=0, back=0, need=1, ahead=4, demand=1.0, ttl_us=1_000_000, bound=10
        )
        (answer,) = await store.ask([Question(RENEW, [(limit, a)], lease=lease)])
        assert (answer.granted, answer.held) == (5, 4)
        ((node, held, expires_us),) = await store.leases(limit, a)
        assert (node, held) == ("n", 4)
        assert 0 < expires_us <= 1_000_000

        levels = [(limit, b), (limit, c)]
        (answer,) = await store.ask([Question(CHECK, levels, 5)])
        await store.ask([Question(REFUND, levels, 2, answer.at_us)])
        assert await left(store, limit, b, c) == [97, 97]

        reserve = Question(RESERVE, levels, 10, hold="h/{1}", ttl_us=60_000_000)
        assert passes((await store.ask([reserve]))[0])
        assert await left(store, limit, b, c) == [87, 87]
        (answer,) = await store.ask([Question(SETTLE, [], 1, hold="h/{1}")])
        assert [standing.remaining for standing in answer.standings] == [96, 96]
        (answer,) = await store.ask([Question(SETTLE, [], 1, hold="h/{1}")])
        assert answer.failed == UNKNOWN_HOLD


async def test_holds_that_are_due_are_released(redis_cluster):
    async with opened(redis_cluster) as (store, places):
        (a, _), (b, _), _ = keys_by_node(redis_cluster, places)
        limit = counter(100)
        places.now_us = 10_000_000
        levels = [(limit, a), (limit, b)]
        await store.ask([Question(RESERVE, levels, 10, hold="h", ttl_us=1_000_000)])
        assert await store.release_expired() == 0
        places.now_us += 1_000_001
        assert await store.release_expired() == 2
        assert await left(store, limit, a, b) == [100, 100]


async def test_permits_stay_out_over_places(redis_cluster):
    async with opened(redis_cluster) as (store, places):
        (a, _), (b, _), _ = keys_by_node(redis_cluster, places)
        permits, limit = counter(2, algorithm="concurrency", name="p"), counter()
        levels = [(permits, a), (limit, b)]
        (answer,) = await store.ask([Question(CHECK, levels, 1)])
        assert await left(store, permits, a) == [1]
        await store.ask([Question(REFUND, levels, 1, answer.at_us)])
        assert await left(store, permits, a) == [2]
        assert await left(store, limit, b) == [10]


async def test_newer_settings_are_in_force_for_older_questions(redis_cluster):
    name = secrets.token_hex(4)
    async with (
        opened(redis_cluster, name) as (one, places),
        opened(redis_cluster, name) as (two, _),
    ):
        keys = [line[0] for line in keys_by_node(redis_cluster, places)]
        assert passes((await one.ask([check(counter(10), *keys)]))[0])
        assert passes((await two.ask([check(counter(5, "2m", version=2), *keys)]))[0])
        (answer,) = await one.ask([check(counter(10), *keys)])
        assert [(one.limit, one.remaining) for one in answer.standings] == [(5, 2)] * 3


async def test_scripts_are_flushed_everywhere(redis_cluster):
    async with opened(redis_cluster) as (store, places):
        keys = [line[0] for line in keys_by_node(redis_cluster, places)]
        limit = counter()
        for expected in (9, 8):
            for node in redis_cluster.nodes:
                node.command("SCRIPT", "FLUSH")
            (answer,) = await store.ask([check(limit, *keys)])
            assert [standing.remaining for standing in answer.standings] == [expected] * 3


async def test_who_is_greeted_has_the_script(redis_cluster):
    async with opened(redis_cluster) as (store, _):
        for node in redis_cluster.nodes:
            node.command("SCRIPT", "FLUSH")
        await store.ping()
        sha = store._places._script.sha
        assert [node.command("SCRIPT", "EXISTS", sha) for node in redis_cluster.nodes] == [[1]] * 3


async def test_a_slot_that_moves_keeps_its_counts(redis_cluster):
    first, second, _ = redis_cluster.nodes
    async with opened(redis_cluster) as (store, places):
        key = keys_by_node(redis_cluster, places)[0][0]
        slot = redis_cluster.slot_of(tag_of(places, key))
        limit = counter()
        await store.ask([check(limit, key)])
        redis_cluster.begin_move(slot, first, second)
        try:
            (answer,) = await store.ask([check(limit, key)])  # the key is still where it was
            assert answer.standings[0].remaining == 8
            assert redis_cluster.move_keys(slot, first, second) >= 1
            (answer,) = await store.ask([check(limit, key)])  # ASK
            assert answer.standings[0].remaining == 7
            redis_cluster.end_move(slot, second)
            (answer,) = await store.ask([check(limit, key)])  # MOVED
            assert answer.standings[0].remaining == 6
            answers = await store.ask([check(limit, key)] * 3)
            assert answers[-1].standings[0].remaining == 3
        finally:
            redis_cluster.end_move(slot, second)
            redis_cluster.begin_move(slot, second, first)
            redis_cluster.move_keys(slot, second, first)
            redis_cluster.end_move(slot, first)


async def test_a_server_is_killed_before_between_and_after_the_steps(tmp_path):
    limit = counter(100, "1h")
    with valkey_cluster(tmp_path) as cluster:
        async with opened(cluster) as (store, places):
            (a, a2), (b, b2), (c, _) = keys_by_node(cluster, places)
            victim = node_of(cluster, places, b)
            await store.ask([check(limit, a, b, c)])
            ask = places.ask

            async def killing(asked):
                if any(step.kind == CONFIRM for steps in asked.values() for step in steps):
                    victim.kill()
                return await ask(asked)

            # Between the steps: all had admitted it, so the answer is yes; what is alive has it spent.
            places.ask = killing
            (answer,) = await store.ask([check(limit, a, b, c)])
            places.ask = ask
            assert passes(answer)
            assert await left(store, limit, a, c) == [98, 98]

            # Afterwards: nothing is known of questions about it, the others are answered.
            mixed = [check(limit, a, b, c), check(limit, a), check(limit, b2), check(limit, a2, c)]
            one, two, three, four = await store.ask(mixed)
            assert [one, three] == [None, None]
            assert passes(two)
            assert passes(four)
            for _ in range(500):
                if await left(store, limit, a, c) == [97, 97]:
                    break
            assert await left(store, limit, a, c) == [97, 97]
            with pytest.raises(StoreUnavailable):
                await store.ask([check(limit, b)])
            await store.ping()

            # It is back, with nothing: it kept nothing on disk.
            victim.restart()
            wait_until(lambda: "cluster_state:ok" in str(victim.command("CLUSTER", "INFO")))
            (answer,) = await store.ask([check(limit, b)])
            assert passes(answer)


async def test_a_server_that_hangs_costs_no_more_than_the_timeout(redis_cluster):
    limit = counter(100, "1d")
    async with opened(redis_cluster, timeout_ns=SECOND // 10) as (store, places):
        (a, _), (b, _), _ = keys_by_node(redis_cluster, places)
        await store.ask([check(limit, a, b)])
        victim = node_of(redis_cluster, places, b)
        victim.pause()
        try:
            loop = asyncio.get_running_loop()
            began = loop.time()
            one, two = await store.ask([check(limit, a, b), check(limit, a)])
            assert loop.time() - began < 2
            assert one is None
            assert passes(two)
        finally:
            victim.resume()
        # When it wakes it makes the reservation and cancels it; or the other way round: it ends by itself.
        for _ in range(2_000):
            _, answer = await store.ask([check(limit, a, cost=0), check(limit, b, cost=0)])
            if answer is not None and not store._tasks:
                break
        places.now_us = answer.at_us + HOLD_NS // 1_000
        await store.release_expired()
        assert await left(store, limit, a, b) == [98, 99]


async def test_nobody_is_there():
    store = redis_cluster_counters("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    for call in (store.ask([check(counter(), "a")]), store.ping(), store.release_expired()):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()


def test_what_is_no_address():
    with pytest.raises(InvalidInput, match="counters must be kept"):
        redis_cluster_counters(object())
