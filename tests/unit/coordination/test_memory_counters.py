"""The store of counters in memory, beyond what all stores do."""

from __future__ import annotations

import pytest

from headgate.coordination.memory_counters import MemoryCounters
from headgate.engine.counters import CHECK, STORE_EPOCH_NS, Counter, Question
from headgate.errors import StoreUnavailable
from headgate.policy.model import LimitSpec
from headgate.rate import Rate
from headgate.testing import ManualClock

COUNTER = Counter("scope/limit", 1, LimitSpec("token_bucket", Rate.parse("10/s")), "limit")


def check(key):
    return Question(CHECK, [(COUNTER, key)], 1)


async def test_one_that_is_down_does_not_answer():
    store = MemoryCounters(ManualClock())
    store.is_down = True
    for asked in (store.ask([check("k")]), store.leases(COUNTER, "k"), store.ping()):
        with pytest.raises(StoreUnavailable):
            await asked
    with pytest.raises(StoreUnavailable):
        await store.release_expired()
    store.is_down = False
    (answer,) = await store.ask([check("k")])
    assert answer.standings[0].remaining == 9
    await store.close()


def test_its_clock_is_the_wall():
    clock = ManualClock(5_000, STORE_EPOCH_NS + 10**9)
    store = MemoryCounters(clock)
    assert store.now_us() == 1_000_005
    clock.advance(1)
    assert store.ask_now([check("k")])[0].at_us == 2_000_005


@pytest.mark.slow
def test_keys_that_say_nothing_are_forgotten():
    clock = ManualClock()
    store = MemoryCounters(clock)
    for number in range(20):
        store.ask_now([check(f"key-{number}-{place}") for place in range(1_000)])
        clock.advance(1)
    assert len(store._counting) <= 11_000
    store = MemoryCounters(clock)
    store.ask_now([check("k")] * 10)
    store.ask_now([check(f"{place}") for place in range(10_000)])
    assert store.ask_now([check("k")])[0].standings[0].wait_ns > 0  # and no others are
