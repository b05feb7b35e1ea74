"""What becomes of questions to a Redis that is killed, paused, slow, cut off, full, flushed, or replaced."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager

import pytest

from headgate.coordination.courier import Courier
from headgate.coordination.redis_connections import RedisAddress
from headgate.coordination.redis_counters import RedisCounters
from headgate.engine.counters import PEEK, RENEW, RESERVE, SETTLE, LeaseRequest, Question
from headgate.errors import StoreUnavailable
from tests.contract.test_redis_connections import all_errors, made
from tests.support.counters import check, counter, left, passes
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import HOST
from tests.support.valkeys import TLS, sentinel_group, tls_valkey, valkey

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]
MS = 1_000_000
SECOND = 1_000 * MS
LOOKS = 5_000
TIMEOUT_MS = 200
AT_ONCE = 0.19


@asynccontextmanager
async def counters(url, timeout_ms=TIMEOUT_MS, cluster=None):
    store = RedisCounters(RedisAddress.read(url), cluster or secrets.token_hex(4), timeout_ms * MS)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def carried(store, **options):
    courier = Courier(store, **options)
    try:
        yield courier
    finally:
        await courier.close()


async def ask(courier, question):
    """The answer to one question, by the courier."""
    answer = asyncio.get_running_loop().create_future()
    courier.send(question, answer.set_result)
    return await answer


async def answered(store, question):
    """Ask until there is an answer; after how many seconds it came."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(LOOKS):
        try:
            (answer,) = await store.ask([question])
        except StoreUnavailable:
            continue
        return answer, loop.time() - began
    pytest.fail("there is no answer")


async def seconds_of_failing(store, question):
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreUnavailable):
        await store.ask([question])
    return loop.time() - began


@pytest.fixture
def killable(tmp_path):
    with valkey(tmp_path / "v") as server:
        yield server


async def test_killed_and_back(killable):
    limit = counter()
    async with counters(killable.url) as store:
        assert passes((await store.ask([check(limit, "k")]))[0])
        killable.kill()
        assert await seconds_of_failing(store, check(limit, "k")) < AT_ONCE
        killable.start()
        answer, seconds = await answered(store, check(limit, "k"))
        assert seconds < 2
        assert answer.standings[0].remaining == 9  # it kept nothing on disk


async def test_paused_and_back(killable):
    limit = counter()
    async with counters(killable.url) as store:
        await store.ask([check(limit, "k")])
        killable.pause()
        for _ in range(2):  # on the connection that there was, and on a new one
            assert 0.19 < await seconds_of_failing(store, check(limit, "k")) < 0.6
        killable.resume()
        answer, seconds = await answered(store, check(limit, "k"))
        assert seconds < 2
        # What it was sent before it was paused, it may carry out when it wakes: that is spent, never freed.
        assert 6 <= answer.standings[0].remaining <= 8


async def test_a_pause_costs_the_courier_one_timeout_and_not_its_line(killable):
    limit = counter(1_000)
    async with (
        counters(killable.url, timeout_ms=500) as store,
        carried(store, timeout_ns=100 * MS, batches=2, batch=10) as courier,
    ):
        assert passes(await ask(courier, check(limit, "k")))
        killable.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(*(ask(courier, check(limit, "k")) for _ in range(200)))
        assert answers == [None] * 200
        assert loop.time() - began < 0.6
        killable.resume()
        began = loop.time()
        assert passes(await ask(courier, check(limit, "k")))
        assert loop.time() - began < 2


async def test_slow_and_still_one_round_trip_for_many(killable):
    limit = counter(10_000)
    with fault_proxy(killable.port) as proxy:
        async with counters(proxy.url, timeout_ms=1000) as store, carried(store) as courier:
            await ask(courier, check(limit, "k"))
            proxy.delay(to_server=0.01, to_client=0.01)
            loop = asyncio.get_running_loop()
            began = loop.time()
            answers = await asyncio.gather(*(ask(courier, check(limit, "k")) for _ in range(1_000)))
            assert all(passes(answer) for answer in answers)
            assert loop.time() - began < 4  # one by one it would be 20 s
            assert courier.figures.batches <= 6
            assert await left(store, limit, "k") == [10_000 - 1_001]


async def test_cut_off_and_back(killable):
    limit = counter()
    with fault_proxy(killable.port) as proxy:
        async with counters(proxy.url) as store:
            await store.ask([check(limit, "k")])
            proxy.hold()
            assert 0.19 < await seconds_of_failing(store, check(limit, "k")) < 0.6
            proxy.restore()
            _, seconds = await answered(store, check(limit, "k"))
            assert seconds < 2


async def test_an_answer_that_is_lost_is_not_asked_for_again(killable):
    limit = counter()
    with fault_proxy(killable.port) as proxy:
        async with counters(proxy.url) as store:
            await store.ask([check(limit, "k")])
            proxy.hold(to_server=False)
            await seconds_of_failing(store, check(limit, "k"))
            proxy.restore()
            answer, _ = await answered(store, Question(PEEK, [(limit, "k")], 1))
            assert answer.standings[0].remaining == 8  # spent once, and nobody knows: never twice


async def test_connections_that_were_reset_are_made_anew(killable):
    limit = counter()
    with fault_proxy(killable.port) as proxy:
        async with counters(proxy.url) as store:
            await store.ask([check(limit, "k")])
            proxy.drop(refuse=False)
            answer, seconds = await answered(store, check(limit, "k"))
            assert answer.standings[0].remaining == 8
            assert seconds < AT_ONCE
            proxy.drop()
            assert await seconds_of_failing(store, check(limit, "k")) < AT_ONCE


async def test_the_primary_is_killed_and_the_replica_takes_over(tmp_path):
    limit = counter(1_000, "1h")
    with sentinel_group(tmp_path) as group:
        async with counters(group.url, timeout_ms=200) as store:
            for _ in range(10):
                await store.ask([check(limit, "k")])
            primary = group.primary
            assert primary.command("WAIT", "1", "5000") == 1  # replication is asynchronous
            primary.kill()
            answer, seconds = await answered(store, check(limit, "k"))
            assert answer.standings[0].remaining == 989
            assert seconds < 10
            assert group.primary_port() != primary.port


async def test_scripts_are_flushed(killable):
    limit = counter()
    async with counters(killable.url) as store:
        for expected in (9, 8):
            killable.command("SCRIPT", "FLUSH")
            (answer,) = await store.ask([check(limit, "k")])
            assert answer.standings[0].remaining == expected


async def test_out_of_memory_nothing_is_half_done(killable):
    limit, other = counter(), counter(20, name="other")
    async with counters(killable.url) as store:
        await store.ask([check(limit, "a")])
        killable.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        killable.command("CONFIG", "SET", "maxmemory", "1")
        reserve = Question(RESERVE, [(limit, "a")], 1, hold="h", ttl_us=1_000_000)
        lease = LeaseRequest(
            "n", 1, left=0, back=0, need=1, ahead=1, demand=1.0, ttl_us=1_000_000, bound=5
        )
        renew = Question(RENEW, [(limit, "a")], lease=lease)
        both = check(limit, "a", "b")
        for questions in ([both], [check(limit, "a"), check(other, "c")], [reserve], [renew]):
            with pytest.raises(StoreUnavailable, match=r"OutOfMemory|OOM"):
                await store.ask(questions)
        assert await left(store, limit, "a", "b") == [9, 10]  # whoever only looks is answered
        killable.command("CONFIG", "SET", "maxmemory", "0")
        assert await left(store, limit, "a", "b") == [9, 10]
        assert await left(store, other, "c") == [20]
        (answer,) = await store.ask([Question(SETTLE, [], 1, hold="h")])
        assert answer.failed
        assert passes((await store.ask([both]))[0])


async def test_a_primary_that_became_a_replica_is_left(killable):
    limit = counter()
    with fault_proxy(killable.port) as proxy:
        async with counters(proxy.url) as store:
            await store.ask([check(limit, "k")])
            killable.command("REPLICAOF", HOST, "1")
            with pytest.raises(StoreUnavailable, match="ReadOnly"):
                await store.ask([check(limit, "k")])
            killable.command("REPLICAOF", "NO", "ONE")
            (answer,) = await store.ask([check(limit, "k")])
            assert answer.standings[0].remaining == 8
            assert proxy.connections == 2


async def test_a_wrong_password_is_said_without_it(tmp_path, caplog):
    with valkey(tmp_path / "v", "--requirepass", "right") as server:
        async with counters(f"redis://:right@{HOST}:{server.port}") as store:
            assert passes((await store.ask([check(counter(), "k")]))[0])
        async with (
            counters(f"redis://:sEcReT@{HOST}:{server.port}") as store,
            carried(store) as courier,
        ):
            assert await ask(courier, check(counter(), "k")) is None
    assert "Authentication" in caplog.text
    assert "sEcReT" not in caplog.text


async def test_tls_and_a_wrong_authority(tmp_path):
    with tls_valkey(tmp_path) as proxy:
        place = f"rediss://{HOST}:{proxy.port}"
        async with counters(f"{place}?ssl_ca_certs={TLS / 'certificate.pem'}", 1000) as store:
            assert passes((await store.ask([check(counter(), "k")]))[0])
        async with counters(f"{place}?ssl_ca_certs={TLS / 'other.pem'}", 1000) as store:
            with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await store.ask([check(counter(), "k")])


class Failing:
    """A client of which every command fails."""

    def __init__(self, error):
        self.error = error

    async def execute_command(self, *words, **options):
        raise self.error

    ping = zrem = evalsha = eval = execute_command


async def test_no_error_of_the_driver_gets_through(caplog):
    for kind in all_errors():
        store = RedisCounters(Failing(made(kind)))
        for call in (
            store.ask([check(counter(), "k")]),
            store.ask([Question(SETTLE, [], 1, hold="h")]),
            store.leases(counter(), "k"),
            store.release_expired(),
            store.ping(),
        ):
            with pytest.raises(StoreUnavailable):
                await call
