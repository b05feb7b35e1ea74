"""The scripts of shared counters against the counters in Python, over random histories on a real server."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import asyncio as redis

from headgate.coordination.redis_counters import RedisCounters
from headgate.engine.counters import (
    CHECK,
    PAY,
    PEEK,
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    Counter,
    LeaseRequest,
    Question,
)
from headgate.engine.counting import Counting
from headgate.policy.model import LimitSpec
from headgate.rate import Rate

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]

SECOND = 10**6
DAY = 86_400 * SECOND
START = 59_580 * 1000 * SECOND  # November 2026
EXACT = 2**53
NAMES = count()


def spec(name: str, rate: str, granularity: int = 1, max_delay_ns: int | None = None) -> LimitSpec:
    return LimitSpec(name, Rate.parse(rate), granularity, max_delay_ns)


SPECS = [
    spec("token_bucket", "10/s burst 3"),
    spec("token_bucket", "7/s"),
    spec("token_bucket", "1000000/1ms burst 1000000"),
    spec("token_bucket", "1/day"),
    spec("token_bucket", "1000000000000/1000s"),
    spec("leaky_bucket", "1000/min burst 20"),
    spec("leaky_bucket", "3/1700ns"),
    spec("leaky_bucket_queue", "10/s burst 5"),
    spec("leaky_bucket_queue", "17/s", max_delay_ns=123_456_789),
    spec("sliding_window", "10/s"),
    spec("sliding_window_counter", "10/s", 4),
    spec("sliding_window_counter", "1000000000000/year", 7),
    spec("sliding_window_counter", "13/1700ns", 3),
    spec("sliding_window_counter", "100/day", 60),
    spec("fixed_window", "10/s"),
    spec("fixed_window", "9/1700ns"),
    spec("fixed_window", "5/hour"),
    spec("fixed_window", "5/day tz=Europe/Paris"),
    spec("fixed_window", "50/month tz=America/St_Johns"),
    spec("sliding_window_log", "10/s"),
    spec("sliding_window_log", "8/1700ns"),
    spec("sliding_window_log", "100/day"),
    spec("concurrency", "5/2s"),
    spec("concurrency", "60/min"),
    spec("dual", "10/s burst 4"),
    spec("dual", "30/min burst 10", 6),
]
STEPS = [0, 0, 0, 1, 7, 1_000, 50_000, SECOND // 10, SECOND // 2, SECOND, 2 * SECOND, 61 * SECOND]
PAUSES = st.sampled_from(
    [*STEPS, *STEPS, 3_600 * SECOND, DAY, 40 * DAY, -1, -1_000, -SECOND, -DAY, -400 * DAY]
)
COSTS = st.sampled_from([0, 1, 1, 1, 1, 2, 3, 5, 11, 1_000, 10**11, 2**62])
NODES = st.sampled_from(["a", "b", "c", "ü\n{}"])
KEYS = st.sampled_from(["k", "other"])


@st.composite
def moves(draw):
    """One thing that happens: (pause, kind, limits, key, and what the kind needs)."""
    kind = draw(
        st.sampled_from([CHECK] * 6 + [RENEW] * 6 + [PEEK, REFUND, REFUND, PAY, RESERVE, SETTLE])
    )
    limits = [0] if draw(st.booleans()) else draw(st.sampled_from([[0], [1], [0, 1], [1, 0]]))
    if kind == RENEW:
        limits = limits[:1]
    return {
        "pause": draw(PAUSES),
        "kind": kind,
        "limits": limits,
        "key": draw(KEYS),
        "cost": draw(COSTS),
        "ago": draw(st.integers(0, 4)),
        "node": draw(NODES),
        "seq": draw(st.sampled_from([1, 1, 1, 1, 0, -1, 5])),
        "left": draw(st.sampled_from([0, 0, 1, 3, 1_000])),
        "back": draw(st.sampled_from([0, 0, 1, 1_000])),
        "need": draw(st.sampled_from([0, 1, 1, 2, 7])),
        "ahead": draw(st.sampled_from([0, 3, 50, 10**9])),
        "demand": draw(st.sampled_from([0.0, 0.7, 3.3, 12.5, 1e4, 3e16, float("nan")])),
        "ttl": draw(st.sampled_from([SECOND // 10, 2 * SECOND, 50 * SECOND])),
        "bound": draw(st.sampled_from([1, 2, 5, 500])),
        "change": draw(st.sampled_from([None] * 12 + list(range(len(SPECS))))),
        "version": draw(st.sampled_from([0, 0, 0, 0, 1, 1, -1])),
        "together": draw(st.booleans()),
    }


class History:
    """Builds the questions of a history, which need what happened before."""

    def __init__(self, first: int, second: int, name: str) -> None:
        self.name = name
        self.counters = [self.counter(0, 1, first), self.counter(1, 1, second)]
        self.newest = [1, 1]
        self.at_us = START
        self.granted: list[int] = [START]
        self.holds: list[str] = ["unknown"]
        self.seqs: dict[str, int] = {}

    def counter(self, place: int, version: int, spec_number: int) -> Counter:
        return Counter(f"{self.name}/{place}", version, SPECS[spec_number], "test")

    def question(self, move) -> Question:
        self.at_us = max(0, self.at_us + move["pause"])
        self._change(move)
        kind = move["kind"]
        levels = [(self.counters[place], move["key"]) for place in move["limits"]]
        if kind == RENEW:
            return Question(kind, levels, lease=self._lease(move))
        granted_at = self.granted[-1 - min(move["ago"], len(self.granted) - 1)]
        hold = self.holds[-1 - min(move["ago"], len(self.holds) - 1)]
        cost = move["cost"]
        if kind == RESERVE:
            hold = f"{self.name}-{len(self.holds)}"
            self.holds.append(hold)
        if kind == SETTLE:
            return Question(kind, [], cost - 1, hold=hold)
        self.granted.append(self.at_us)
        return Question(kind, levels, cost, granted_at, hold=hold, ttl_us=move["ttl"])

    def _change(self, move) -> None:
        if move["change"] is None:
            return
        place = move["limits"][0]
        self.newest[place] += 1
        version = max(1, self.newest[place] - (2 if move["version"] < 0 else 0))
        self.counters[place] = self.counter(place, version, move["change"])

    def _lease(self, move) -> LeaseRequest:
        place = f"{move['limits']} {move['key']} {move['node']}"
        seq = self.seqs[place] = max(0, self.seqs.get(place, 0) + move["seq"])
        return LeaseRequest(
            move["node"],
            seq,
            left=move["left"],
            back=move["back"],
            need=move["need"],
            ahead=move["ahead"],
            demand=move["demand"],
            ttl_us=move["ttl"],
            bound=move["bound"],
        )


def same(one: int, other: int) -> bool:
    """Equal; to a microsecond where a double does not hold nanoseconds."""
    return one == other or (abs(one) >= EXACT and abs(one - other) <= 1_000)


def assert_same(theirs, ours) -> None:
    assert theirs.failed == ours.failed
    assert theirs.at_us == ours.at_us or ours.failed
    assert (theirs.granted, theirs.held, theirs.outstanding) == (
        ours.granted,
        ours.held,
        ours.outstanding,
    )
    assert same(theirs.again_ns, ours.again_ns)
    assert len(theirs.standings) == len(ours.standings)
    for their, our in zip(theirs.standings, ours.standings, strict=True):
        found = (their.remaining, their.limit, their.window_ns)
        assert found == (our.remaining, our.limit, our.window_ns)
        assert same(their.wait_ns, our.wait_ns), (their.wait_ns, our.wait_ns)
        assert same(their.delay_ns, our.delay_ns), (their.delay_ns, our.delay_ns)
        assert same(their.reset_ns, our.reset_ns), (their.reset_ns, our.reset_ns)


@pytest.fixture(scope="module")
def runner(redis_server):
    with asyncio.Runner() as runner:
        client = runner.run(_opened(redis_server.port))
        yield runner, client
        runner.run(client.aclose())


async def _opened(port):
    return redis.Redis(port=port)


async def replay(client, first, second, history) -> None:
    name = f"same-{next(NAMES)}"
    story = History(first, second, name)
    store = RedisCounters(client, name)
    reference = Counting()
    batch: list[Question] = []
    for number, move in enumerate(history):
        question = story.question(move)
        store.now_us = story.at_us
        batch.append(question)
        follower = history[number + 1] if number + 1 < len(history) else None
        if move["together"] and follower and follower["pause"] == 0 and follower["kind"] != SETTLE:
            continue
        theirs = await store.ask(batch)
        for each, answer in zip(batch, theirs, strict=True):
            assert answer is not None
            assert_same(answer, reference.ask(each, story.at_us))
        place, key = move["limits"][0], move["key"]
        counter = story.counters[place]
        assert await store.leases(counter, key) == reference.leases(counter, key, story.at_us)
        batch = []
    assert await store.release_expired(3) == reference.release_expired(story.at_us, 3)
    keys = await client.keys(f"headgate:{name}:*")
    if keys:
        await client.delete(*keys)


@given(
    first=st.integers(0, len(SPECS) - 1),
    second=st.integers(0, len(SPECS) - 1),
    history=st.lists(moves(), min_size=1, max_size=40),
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_script_is_the_reference(runner, first, second, history):
    loop, client = runner
    loop.run(replay(client, first, second, history))
