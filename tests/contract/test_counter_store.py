"""What every store of shared counters does: in memory, on a real Redis or Valkey, on a real cluster of them.

The clock of each is moved by hand, so that windows end when a test says so.
"""

from __future__ import annotations

from itertools import count

import pytest

from headgate.coordination.memory_counters import MemoryCounters
from headgate.coordination.redis_cluster_counters import RedisClusterPlaces
from headgate.coordination.redis_counters import RedisCounters
from headgate.coordination.spread_counters import SpreadCounters
from headgate.decision import NEVER
from headgate.engine.counters import (
    CHECK,
    PAY,
    PEEK,
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    STORE_EPOCH_NS,
    UNKNOWN_HOLD,
    Counter,
    LeaseRequest,
    Question,
)
from headgate.policy.model import LimitSpec
from headgate.rate import Rate
from headgate.testing import ManualClock
from tests.support import servers

pytestmark = pytest.mark.needs_redis

SECOND = 10**6
START = 59_580_000 * SECOND
NAMES = count()
_LOOKS = 1000


class Rig:
    """A store whose clock stands still until it is moved."""

    def __init__(self, store, move):
        self.store = store
        self.move = move

    async def ask(self, *questions):
        return await self.store.ask(questions)

    async def one(self, question):
        (answer,) = await self.store.ask([question])
        assert answer is not None
        return answer

    async def left(self, counter, key="k"):
        answer = await self.one(Question(PEEK, [(counter, key)], 1))
        return answer.standings[0].remaining

    async def comes_back(self, left, counter, key):
        """Whether so much is left soon: servers that have to agree give back after the answer."""
        for _ in range(_LOOKS):
            if await self.left(counter, key) == left:
                return True
        return False


def moved_by_hand(store, clock):
    """A store on servers, whose scripts are told what time it is."""
    clock.now_us = START

    def move(us):
        clock.now_us += us

    return Rig(store, move)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def rig(request):
    if request.param == "memory":
        clock = ManualClock(0, STORE_EPOCH_NS + START * 1000)
        yield Rig(MemoryCounters(clock), lambda us: clock.advance_ns(us * 1000))
        return
    name = f"contract-{next(NAMES)}"
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        store = RedisCounters(f"redis://{servers.HOST}:{server.port}/0", name)
        yield moved_by_hand(store, store)
    else:
        cluster = request.getfixturevalue("redis_cluster")
        places = RedisClusterPlaces(cluster.url, name, 10**9)
        store = SpreadCounters(places)
        yield moved_by_hand(store, places)
    await store.close()


def limit(rate="10/s", algorithm="token_bucket", version=1, name="limit", **options):
    return Counter(
        f"scope/{name}", version, LimitSpec(algorithm, Rate.parse(rate), **options), name
    )


def check(counter, key="k", cost=1):
    return Question(CHECK, [(counter, key)], cost)


def renew(counter, node, seq, *, key="k", left=0, back=0, need=0, ahead=0, demand=1.0, bound=5):
    lease = LeaseRequest(
        node,
        seq,
        left=left,
        back=back,
        need=need,
        ahead=ahead,
        demand=demand,
        ttl_us=2 * SECOND,
        bound=bound,
    )
    return Question(RENEW, [(counter, key)], lease=lease)


async def test_a_check_spends_and_says_how_things_stand(rig):
    bucket = limit("10/s burst 5")
    answers = await rig.ask(*[check(bucket, cost=2)] * 3)
    found = [(a.standings[0].wait_ns, a.standings[0].remaining) for a in answers]
    assert found == [(0, 3), (0, 1), (100_000_000, 1)]
    standing = answers[2].standings[0]
    assert (standing.limit, standing.window_ns, standing.delay_ns) == (10, 10**9, 0)
    assert standing.reset_ns == 400_000_000
    rig.move(100_000)
    assert (await rig.one(check(bucket, cost=2))).standings[0].wait_ns == 0


async def test_a_peek_spends_nothing(rig):
    bucket = limit()
    await rig.ask(*[Question(PEEK, [(bucket, "k")], 3)] * 5)
    assert await rig.left(bucket) == 10


async def test_costs_above_the_capacity_never_pass(rig):
    for cost in (11, 2**40, 2**62):
        answer = await rig.one(check(limit(), cost=cost))
        assert answer.standings[0].wait_ns == NEVER
    assert await rig.left(limit()) == 10


async def test_a_cost_of_nothing_passes_and_spends_nothing(rig):
    bucket = limit("1/hour")
    await rig.ask(check(bucket), check(bucket, cost=0))
    assert (await rig.one(check(bucket, cost=0))).standings[0].wait_ns == 0


async def test_all_levels_admit_or_nothing_is_spent(rig):
    tenant, user = limit("100/s", name="tenant"), limit("1/min", name="user")
    both = Question(CHECK, [(tenant, "acme"), (user, "ann")], 1)
    first, second = await rig.ask(both, both)
    assert [s.wait_ns for s in first.standings] == [0, 0]
    assert [s.wait_ns for s in second.standings] == [0, 60 * 10**9]
    assert [s.remaining for s in second.standings] == [99, 0]
    assert await rig.comes_back(99, tenant, "acme")


@pytest.mark.parametrize(
    "algorithm",
    [
        "token_bucket",
        "leaky_bucket",
        "leaky_bucket_queue",
        "sliding_window_log",
        "sliding_window_counter",
        "fixed_window",
        "dual",
        "concurrency",
    ],
)
async def test_every_algorithm_limits_refunds_and_recovers(rig, algorithm):
    counter = limit("5/min", algorithm, name=algorithm)
    answers = await rig.ask(*[check(counter)] * 6)
    assert [a.standings[0].wait_ns == 0 for a in answers] == [True] * 5 + [False]
    back = Question(REFUND, [(counter, "k")], 2, answers[0].at_us)
    assert (await rig.one(back)).standings[0].remaining == 2
    rig.move(121 * SECOND)
    assert await rig.left(counter) == 5
    # What was spent in a window that is over is not given back any more.
    await rig.ask(check(counter), back)
    assert await rig.left(counter) == 4


@pytest.mark.parametrize("algorithm", ["token_bucket", "fixed_window", "sliding_window_log"])
async def test_a_refund_by_who_never_heard_the_time_is_of_now(rig, algorithm):
    counter = limit("5/min", algorithm, name=algorithm)
    await rig.ask(*[check(counter)] * 4)
    back = Question(REFUND, [(counter, "k")], 2)
    assert (await rig.one(back)).standings[0].remaining == 3


async def test_a_queue_tells_how_long_to_hold_back(rig):
    queue = limit("10/s burst 3", "leaky_bucket_queue")
    answers = await rig.ask(*[check(queue)] * 4)
    delays = [a.standings[0].delay_ns for a in answers]
    assert delays == [0, 100_000_000, 200_000_000, 0]
    assert answers[3].standings[0].wait_ns == 100_000_000


async def test_calendar_days(rig):
    daily = limit("3/day tz=Asia/Kolkata", "fixed_window")
    answer = (await rig.ask(*[check(daily)] * 4))[3]
    wait_us = answer.standings[0].wait_ns // 1000
    # Midnight there is half past six in the evening UTC.
    assert (START + wait_us) % (86_400 * SECOND) == (18 * 3600 + 1800) * SECOND
    rig.move(wait_us)
    assert await rig.left(daily) == 3
    rig.move(400 * 86_400 * SECOND)
    assert (await rig.one(check(daily))).standings[0].remaining == 2


async def test_what_was_admitted_elsewhere_is_charged_as_far_as_possible(rig):
    bucket = limit()
    pay = Question(PAY, [(bucket, "k")], 7)
    first, second = await rig.ask(pay, pay)
    assert (first.standings[0].remaining, second.standings[0].remaining) == (3, 0)


async def test_keys_and_counters_are_apart(rig):
    one, other = limit("1/hour", name="one"), limit("1/hour", name="other")
    await rig.ask(check(one, "a"))
    assert [await rig.left(one, "b"), await rig.left(other, "a")] == [1, 1]


KEYS = [
    "",
    " ",
    "{",
    "}",
    "{}",
    "}{",
    "a}:b",
    "a\nb\r\n",
    "a\0b",
    "ключ",
    "🔑",
    "k" * 1000,
    "k:log",
]


async def test_a_key_may_be_any_text(rig):
    once = limit("1/day", "sliding_window_log")
    for _ in range(2):
        answers = await rig.ask(*[check(once, key) for key in KEYS])
        assert len(answers) == len(KEYS)
    assert [await rig.left(once, key) for key in KEYS] == [0] * len(KEYS)
    assert await rig.left(once, "another") == 1


async def test_what_was_spent_outlives_a_change_of_settings(rig):
    before, after = limit("10/min"), limit("20/min", "sliding_window_log", version=2)
    await rig.ask(check(before, cost=8))
    assert await rig.left(after) == 12
    # Whoever does not know of the change yet is answered under the new settings.
    answer = await rig.one(check(before))
    assert (answer.standings[0].limit, answer.standings[0].remaining) == (20, 11)
    smaller = limit("5/min", version=3)
    assert await rig.left(smaller) == 0


async def test_permits_that_are_out_stay_out_when_the_limit_changes(rig):
    before, after = limit("3/min", "concurrency"), limit("5/min", "concurrency", version=2)
    taken = (await rig.ask(check(before), check(before)))[1]
    rig.move(SECOND)
    assert await rig.left(after) == 3
    await rig.ask(Question(REFUND, [(after, "k")], 1, taken.at_us))
    assert await rig.left(after) == 4


async def test_leases_are_debited_first(rig):
    bucket = limit("100/s")
    answer = await rig.one(renew(bucket, "a", 1, need=3, ahead=50, bound=10))
    assert (answer.granted, answer.held, answer.outstanding) == (13, 10, 10)
    assert await rig.left(bucket) == 87
    assert await rig.store.leases(bucket, "k") == [("a", 10, 2 * SECOND)]
    again = await rig.one(renew(bucket, "a", 1, need=3, ahead=50, bound=10))
    assert (again.granted, again.held) == (13, 10)
    old = await rig.one(renew(bucket, "a", 0, need=3, ahead=50, bound=10))
    assert (old.granted, old.held) == (0, 0)
    assert await rig.left(bucket) == 87


async def test_leases_are_given_back(rig):
    window = limit("100/hour", "sliding_window_log")
    await rig.one(renew(window, "a", 1, need=1, ahead=50, bound=10))
    answer = await rig.one(renew(window, "a", 2, left=6, back=6, bound=10))
    assert (answer.granted, answer.outstanding) == (0, 0)
    assert await rig.left(window) == 95
    assert await rig.store.leases(window, "k") == [("a", 0, 2 * SECOND)]


async def test_a_node_that_dies_loses_its_lease(rig):
    window = limit("100/hour", "sliding_window_log")
    await rig.one(renew(window, "a", 1, ahead=50, bound=10))
    rig.move(2 * SECOND)
    assert await rig.store.leases(window, "k") == []
    answer = await rig.one(renew(window, "b", 1, need=1, bound=10))
    assert (answer.granted, answer.outstanding) == (1, 0)
    assert await rig.left(window) == 99


async def test_permits_are_never_leased(rig):
    permits = limit("10/min", "concurrency")
    answer = await rig.one(renew(permits, "a", 1, need=1, ahead=5))
    assert (answer.granted, answer.held) == (1, 0)


async def test_a_hold_is_settled_once_by_anybody(rig):
    bucket, tenant = limit("10/hour"), limit("100/hour", name="tenant")
    levels = [(bucket, "k"), (tenant, "t")]
    held = await rig.one(Question(RESERVE, levels, 6, hold="h1", ttl_us=SECOND))
    assert [s.wait_ns for s in held.standings] == [0, 0]
    refused = await rig.one(Question(RESERVE, levels, 6, hold="h2", ttl_us=SECOND))
    assert refused.standings[0].wait_ns > 0
    settled = await rig.one(Question(SETTLE, [], 2, hold="h1"))
    assert [s.remaining for s in settled.standings] == [8, 98]
    for hold in ("h1", "h2", "h3"):
        answer = await rig.one(Question(SETTLE, [], 2, hold=hold))
        assert (answer.failed, answer.standings) == (UNKNOWN_HOLD, [])
    assert await rig.left(bucket) == 8


async def test_a_hold_at_its_cost_or_more(rig):
    bucket = limit("10/hour")
    for hold in ("h1", "h2"):
        await rig.one(Question(RESERVE, [(bucket, "k")], 2, hold=hold, ttl_us=SECOND))
    answer = await rig.one(Question(SETTLE, [], -1, hold="h1"))
    assert answer.standings[0].remaining == 6
    answer = await rig.one(Question(SETTLE, [], 100, hold="h2"))
    assert answer.standings[0].remaining == 0


async def test_holds_that_are_due_are_released(rig):
    bucket, permits = limit("10/hour"), limit("3/hour", "concurrency", name="permits")
    for number in range(3):
        levels = [(bucket, "k"), (permits, "k")]
        hold = Question(RESERVE, levels, 1, hold=f"h{number}", ttl_us=(number + 1) * SECOND)
        await rig.one(hold)
    assert await rig.store.release_expired() == 0
    rig.move(2 * SECOND)
    assert await rig.store.release_expired(1) == 1
    assert await rig.store.release_expired() == 1
    assert await rig.store.release_expired() == 0
    assert [await rig.left(bucket), await rig.left(permits)] == [9, 2]
    rig.move(2 * SECOND)
    late = await rig.one(Question(SETTLE, [], 1, hold="h2"))
    assert late.failed == UNKNOWN_HOLD
    assert [await rig.left(bucket), await rig.left(permits)] == [10, 3]


async def test_the_clock_goes_back(rig):
    window = limit("5/min", "sliding_window_log")
    await rig.ask(*[check(window)] * 5)
    rig.move(-30 * SECOND)
    answer = await rig.one(check(window))
    assert answer.standings[0].wait_ns == 90 * 10**9
    rig.move(-3600 * SECOND)  # as if it was another time
    assert await rig.left(window) == 5


async def test_nothing_to_ask(rig):
    assert list(await rig.store.ask([])) == []
    await rig.store.ping()
    assert await rig.store.leases(limit(), "never seen") == []
