"""A user who may do no more than Headgate needs, exactly as docs/how-to/redis.md has it."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path

import pytest
import redis

from headgate.backpressure.breaker_rule import BreakerRule
from headgate.coordination.backend import Card
from headgate.coordination.redis_address import RedisAddress
from headgate.coordination.redis_backend import RedisBackend
from headgate.coordination.redis_circuits import RedisCircuits
from headgate.coordination.redis_cluster_counters import redis_cluster_counters
from headgate.coordination.redis_counters import RedisCounters
from headgate.coordination.redis_pressures import RedisPressures
from headgate.engine.circuits import CircuitQuestion
from headgate.engine.counters import PAY, REFUND, RENEW, RESERVE, SETTLE, LeaseRequest, Question
from headgate.engine.pressures import PressureNote
from tests.support.counters import check, counter, left, passes
from tests.support.servers import HOST
from tests.support.valkeys import valkey, wait_until

pytestmark = pytest.mark.needs_redis
SECOND = 1_000_000_000
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"
ALGORITHMS = (
    "token_bucket",
    "sliding_window_log",
    "sliding_window_counter",
    "fixed_window",
    "leaky_bucket",
    "leaky_bucket_queue",
    "dual",
    "concurrency",
)


def rules():
    """Of the user, as `ACL SETUSER` takes them."""
    (line,) = re.findall(r"^    user headgate (.+)$", PAGE.read_text(), re.MULTILINE)
    return line.split()


@pytest.fixture
def server(tmp_path):
    with valkey(tmp_path / "v") as server:
        server.command("ACL", "SETUSER", "headgate", *rules())
        server.command("ACL", "SETUSER", "default", "off")
        yield server


@pytest.fixture
def address(server):
    return RedisAddress.read(f"redis://headgate:a-long-password@{HOST}:{server.port}")


async def use(store, limit, *keys):
    """Everything that counters are asked."""
    (answer,) = await store.ask([check(limit, *keys)])
    assert passes(answer)
    levels = [(limit, key) for key in keys]
    lease = LeaseRequest(
        "n", 1, left=0, back=0, need=1, ahead=1, demand=1.0, ttl_us=1_000_000, bound=5
    )
    hold = secrets.token_hex(4)
    for question in (
        Question(REFUND, levels, 1, answer.at_us),
        Question(PAY, levels[:1], 1),
        Question(RENEW, levels[:1], lease=lease),
        Question(RESERVE, levels, 1, hold=hold, ttl_us=1_000_000),
        Question(SETTLE, [], 1, hold=hold),
        Question(RESERVE, levels, 1, hold=hold, ttl_us=1),
    ):
        (answer,) = await store.ask([question])
        assert not answer.failed
    await store.leases(limit, keys[0])
    wanted = len(keys)
    for _ in range(1_000):
        wanted -= await store.release_expired()
        if wanted <= 0:
            break
    await store.ping()
    await left(store, limit, *keys)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_counters_of_every_algorithm(address, algorithm):
    store = RedisCounters(address, "main")
    limit = counter(100, algorithm=algorithm)
    await use(store, limit, "a")
    # Under other settings, and with many entries.
    await store.ask([check(limit, "a") for _ in range(50)])
    await store.ask([check(counter(50, version=2), "a")])
    await store.close()


def test_circuits_and_pressures(address, monkeypatch):
    heard = []
    for kind in (RedisCircuits, RedisPressures):
        monkeypatch.setattr(f"{kind.__module__}.address_of", lambda store, what: address)
    circuits = RedisCircuits("redis://", SECOND)
    circuits.ask("payments", BreakerRule(in_row=2), CircuitQuestion(0, "001"))
    circuits.close()
    board = RedisPressures("redis://", "main", SECOND)
    board.follow(heard.append)
    wait_until(lambda: board.live)
    board.exchange(PressureNote("n", 0.5, 1.0, 1))
    wait_until(lambda: heard)
    board.close()


async def test_agreement(address):
    backend = RedisBackend(address, "main")
    assert await backend.change({("policies", "p"): 0}, {("policies", "p"): "text"}, [])
    assert [record.text for record in await backend.list("policies")] == ["text"]
    assert (await backend.get(("policies", "p"))).text == "text"
    card = Card("n", "run", "{}")
    assert (await backend.beat(card, SECOND)).members
    news = backend.follow()
    await asyncio.wait_for(anext(news), 5)
    await news.aclose()
    await backend.leave(card)
    await backend.close()


@pytest.mark.slow
async def test_a_cluster(redis_cluster):
    for node in redis_cluster.nodes:
        node.command("ACL", "SETUSER", "headgate", *rules())
    url = redis_cluster.url.replace("://", "://headgate:a-long-password@")
    store = redis_cluster_counters(url, secrets.token_hex(4))
    await use(store, counter(100), "a", "b", "c", "d")
    await store.close()
    circuits = RedisCircuits(url, SECOND)
    circuits.ask("payments", BreakerRule(in_row=2), CircuitQuestion(0, "001"))
    circuits.close()
    for node in redis_cluster.nodes:
        node.command("ACL", "DELUSER", "headgate")


@pytest.mark.parametrize(
    "words",
    [
        ("GET", "others:key"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return redis.call('GET', 'others:key')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("PUBLISH", "others", "x"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ],
)
def test_what_the_user_may_not(server, words):
    with (
        redis.Redis(port=server.port, username="headgate", password="a-long-password") as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|ACL|can't run"),
    ):
        client.execute_command(*words)
