"""Questions over several places: all or nothing, whoever refuses, dies or loses an answer in between."""

from __future__ import annotations

import asyncio
import random

import pytest

from headgate.coordination.counter_places import CANCEL, CONFIRM, HOLD_NS
from headgate.coordination.spread_counters import SpreadCounters
from headgate.engine.counters import (
    CHECK,
    PEEK,
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    UNKNOWN_HOLD,
    Answer,
    Counter,
    LeaseRequest,
    Question,
)
from headgate.engine.counting import Counting
from headgate.errors import StoreUnavailable
from headgate.lab.virtual_loop import run_virtual
from headgate.policy.model import Policy


class MemoryPlaces:
    """A place for each first letter. What is on its way takes a millisecond there, and one back.

    ``away`` places hear nothing; from ``mute`` ones nothing comes back.
    """

    def __init__(self, clock):
        self.clock = clock
        self.counting = {}
        self.notes = {}
        self.away = set()
        self.mute = set()
        self.asked = []
        self.on_ask = None

    def place_of(self, key):
        return ord(key[0])

    def now_us(self):
        return self.clock.now_ns() // 1000 + 1_000_000

    async def ask(self, asked):
        found = {}
        await self.clock.sleep_async(0.001)
        if self.on_ask is not None:
            self.on_ask(asked)
        for place, questions in asked.items():
            self.asked.extend((chr(place), question.kind) for question in questions)
            if place in self.away:
                found[place] = [None] * len(questions)
                continue
            answers = [self.carry_out(place, question) for question in questions]
            found[place] = [None] * len(questions) if place in self.mute else answers
        await self.clock.sleep_async(0.001)
        return found

    def carry_out(self, place, question):
        counting = self.counting.setdefault(place, Counting())
        at_us = self.now_us()
        if question.kind == CONFIRM:
            hold = counting._holds.pop(question.hold, None)
            return Answer(at_us, [], failed="" if hold else UNKNOWN_HOLD)
        if question.kind == CANCEL:
            question = Question(SETTLE, (), 0, hold=question.hold)
        return counting.ask(question, at_us)

    async def note(self, holds):
        self.notes.update(holds)
        return set(holds) if 0 not in self.away else set()

    async def find(self, holds):
        if 0 in self.away:
            return {}
        return {hold: self.notes[hold][0] if hold in self.notes else None for hold in holds}

    async def release_expired(self, most):
        return sum(
            counting.release_expired(self.now_us(), most) for counting in self.counting.values()
        )

    async def close(self):
        pass

    def left(self, counter, key):
        return (
            self.counting[self.place_of(key)]
            .ask(Question(PEEK, [(counter, key)], 1), self.now_us())
            .standings[0]
            .remaining
        )

    def holds(self):
        return sum(len(counting._holds) for counting in self.counting.values())


def counter(limit=10, window="1m", algorithm="fixed_window", name="c"):
    policy = Policy.from_dict(
        {"name": name, "algorithm": algorithm, "limit": limit, "window": window}
    )
    return Counter(name, 1, policy.levels[0].spec, name)


def virtual(test):
    def run():
        run_virtual(test)

    run.__name__ = test.__name__
    return run


def check(limit, *keys, cost=1):
    return Question(CHECK, [(limit, key) for key in keys], cost)


async def settled(clock):
    """When all that is on its way has arrived."""
    await clock.sleep_async(0.010)


@virtual
async def test_levels_of_one_place_are_one_step(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    (answer,) = await store.ask([check(limit, "a1", "a2")])
    assert [standing.remaining for standing in answer.standings] == [9, 9]
    assert places.asked == [("a", CHECK)]
    assert clock.now_ns() == 2_000_000
    await store.close()


@virtual
async def test_all_admit_and_all_are_spent(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    (answer,) = await store.ask([check(limit, "b1", "a1", "b2", cost=3)])
    assert [standing.wait_ns for standing in answer.standings] == [0, 0, 0]
    assert [places.left(limit, key) for key in ("b1", "a1", "b2")] == [7, 7, 7]
    assert places.holds() == 0
    assert clock.now_ns() == 4_000_000  # two ways there and back
    assert store.split == 1
    await store.close()


@virtual
async def test_one_refuses_and_nothing_is_spent(clock):
    places = MemoryPlaces(clock)
    store, limit, small = SpreadCounters(places, clock), counter(), counter(2, name="s")
    question = Question(CHECK, [(limit, "a"), (small, "b"), (limit, "c")], 3)
    began = clock.now_ns()
    (answer,) = await store.ask([question])
    assert clock.now_ns() - began == 2_000_000  # a no waits for nobody
    assert [standing.wait_ns != 0 for standing in answer.standings] == [False, True, False]
    assert [standing.remaining for standing in answer.standings] == [10, 2, 10]
    await settled(clock)
    assert [places.left(limit, "a"), places.left(small, "b"), places.left(limit, "c")] == [
        10,
        2,
        10,
    ]
    assert places.holds() == 0
    assert store.cancelled == 1
    await store.close()


@pytest.mark.parametrize("cost", [0, 2])
def test_looking_takes_one_step_and_spends_nothing(cost):
    @virtual
    async def run(clock):
        places = MemoryPlaces(clock)
        store, limit = SpreadCounters(places, clock), counter()
        kind = PEEK if cost else CHECK
        (answer,) = await store.ask([Question(kind, [(limit, "a"), (limit, "b")], cost)])
        assert [standing.remaining for standing in answer.standings] == [10, 10]
        assert {kind for _, kind in places.asked} == {kind}
        await store.close()

    run()


@pytest.mark.parametrize("how", ["away", "mute"])
def test_a_place_dies_before_it_answers(how):
    @virtual
    async def run(clock):
        places = MemoryPlaces(clock)
        store, limit = SpreadCounters(places, clock), counter()
        await store.ask([check(limit, "a"), check(limit, "b")])
        getattr(places, how).add(ord("b"))
        one, other = await store.ask([check(limit, "a", "b"), check(limit, "a")])
        assert one is None
        assert other.standings[0].remaining in (7, 8)
        await settled(clock)
        assert places.left(limit, "a") == 8
        getattr(places, how).clear()
        await clock.sleep_async(2)
        assert places.left(limit, "b") == 9
        assert places.holds() == 0
        assert store.abandoned == 0
        await store.close()

    run()


@pytest.mark.parametrize("how", ["away", "mute"])
def test_a_place_dies_between_the_two_steps(how):
    @virtual
    async def run(clock):
        places = MemoryPlaces(clock)
        store, limit = SpreadCounters(places, clock), counter()

        def die(asked):
            if any(step.kind == CONFIRM for steps in asked.values() for step in steps):
                getattr(places, how).add(ord("b"))
                places.on_ask = None

        places.on_ask = die
        (answer,) = await store.ask([check(limit, "a", "b")])
        assert [standing.wait_ns for standing in answer.standings] == [0, 0]
        assert [places.left(limit, key) for key in "ab"] == [9, 9]
        await clock.sleep_async(1)
        getattr(places, how).clear()
        await clock.sleep_async(2)
        await store.release_expired()
        assert [places.left(limit, key) for key in "ab"] == [9, 9]
        assert places.holds() == 0
        await store.close()

    run()


@virtual
async def test_who_asks_dies_and_what_was_reserved_is_released(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    asking = asyncio.create_task(store.ask([check(limit, "a", "b")]))
    await clock.sleep_async(0.0015)
    assert places.holds() == 2
    places.away.update((ord("a"), ord("b")))  # nothing that it does from here on arrives
    asking.cancel()
    await asyncio.wait([asking])
    await store.close()
    places.away.clear()
    heir = SpreadCounters(places, clock)
    assert await heir.release_expired() == 0
    await clock.sleep_async(HOLD_NS / 1e9)
    assert await heir.release_expired() == 2
    assert [places.left(limit, key) for key in "ab"] == [10, 10]
    await heir.close()


@virtual
async def test_an_answer_that_is_no_longer_wanted_is_cancelled(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    asking = asyncio.create_task(store.ask([check(limit, "a", "b"), check(limit, "a")]))
    await clock.sleep_async(0.0015)
    asking.cancel()
    await settled(clock)
    assert [places.left(limit, key) for key in "ab"] == [9, 10]
    assert places.holds() == 0
    await store.close()


def test_steps_are_tried_until_their_hold_is_over(caplog):
    @virtual
    async def run(clock):
        places = MemoryPlaces(clock)
        store, limit = SpreadCounters(places, clock), counter()
        places.mute.add(ord("b"))
        assert await store.ask([check(limit, "a", "b"), check(limit, "a")])
        places.away.add(ord("b"))
        await clock.sleep_async(HOLD_NS / 1e9 + 2)
        assert store.abandoned == 1
        places.away.clear()
        assert await store.release_expired() == 1
        assert places.left(limit, "b") == 10
        await store.close()

    run()
    assert len(caplog.records) == 1


@virtual
async def test_when_nobody_answers_it_is_unavailable(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    places.away.update((ord("a"), ord("b")))
    with pytest.raises(StoreUnavailable):
        await store.ask([check(limit, "a"), check(limit, "a", "b")])
    assert await store.ask([]) == []
    await store.close()


@virtual
async def test_permits_stay_out_until_they_are_given_back(clock):
    places = MemoryPlaces(clock)
    permits, limit = counter(2, algorithm="concurrency", name="p"), counter()
    store = SpreadCounters(places, clock)
    levels = [(permits, "a"), (limit, "b")]
    (answer,) = await store.ask([Question(CHECK, levels, 1)])
    assert places.left(permits, "a") == 1
    await store.ask([Question(REFUND, levels, 1, answer.at_us)])
    assert [places.left(permits, "a"), places.left(limit, "b")] == [2, 10]
    await store.close()


@virtual
async def test_a_refund_names_the_moment_of_each_place(clock):
    places = MemoryPlaces(clock)
    permits = counter(2, algorithm="concurrency", name="p")
    store = SpreadCounters(places, clock)
    ahead = {ord("a"): 7, ord("b"): 0, ord("c"): 300}
    places.now_us = lambda place=None: 1_000_000 + clock.now_ns() // 1000 + ahead.get(place, 0)
    carry_out, now_us = places.carry_out, places.now_us

    def by_its_own_clock(place, question):
        places.now_us = lambda: now_us(place)
        return carry_out(place, question)

    places.carry_out = by_its_own_clock
    levels = [(permits, key) for key in "abc"]
    (answer,) = await store.ask([Question(CHECK, levels, 1)])
    await clock.sleep_async(1)
    for level in levels:
        await store.ask([Question(REFUND, [level], 1, answer.at_us)])
    for place in map(ord, "abc"):
        (left,) = (
            carry_out(place, Question(PEEK, [(permits, chr(place))], 1)).standings[0].remaining,
        )
        assert left == 2
    await store.close()


@virtual
async def test_a_reservation_over_places_is_settled_by_anybody(clock):
    places = MemoryPlaces(clock)
    store, other, limit = SpreadCounters(places, clock), SpreadCounters(places, clock), counter()
    levels = [(limit, "b"), (limit, "a"), (limit, "b2")]
    (answer,) = await store.ask([Question(RESERVE, levels, 4, hold="h", ttl_us=10_000_000)])
    assert [standing.remaining for standing in answer.standings] == [6, 6, 6]
    (answer,) = await other.ask([Question(SETTLE, [], 1, hold="h")])
    assert [standing.remaining for standing in answer.standings] == [9, 9, 9]
    for hold in ("h", "never"):
        (answer,) = await other.ask([Question(SETTLE, [], 1, hold=hold)])
        assert answer.failed == UNKNOWN_HOLD
    await store.close()
    await other.close()


@virtual
async def test_a_reservation_that_one_refuses_leaves_nothing(clock):
    places = MemoryPlaces(clock)
    store, limit, small = SpreadCounters(places, clock), counter(), counter(2, name="s")
    levels = [(limit, "a"), (small, "b")]
    (answer,) = await store.ask([Question(RESERVE, levels, 4, hold="h", ttl_us=10_000_000)])
    assert answer.standings[1].wait_ns != 0
    await settled(clock)
    assert [places.left(limit, "a"), places.left(small, "b")] == [10, 2]
    (answer,) = await store.ask([Question(SETTLE, [], -1, hold="h")])
    assert answer.failed == UNKNOWN_HOLD
    await store.close()


@pytest.mark.parametrize("away", [0, ord("b")])
def test_a_reservation_of_which_too_little_is_known_leaves_nothing(away):
    @virtual
    async def run(clock):
        places = MemoryPlaces(clock)
        store, limit = SpreadCounters(places, clock), counter()
        places.away.add(away)
        levels = [(limit, "a"), (limit, "b")]
        question = Question(RESERVE, levels, 4, hold="h", ttl_us=10_000_000)
        assert (await store.ask([question, check(limit, "c")]))[0] is None
        places.away.clear()
        await clock.sleep_async(1)
        await store.ask([check(limit, "b")])
        assert [places.left(limit, key) for key in "ab"] == [10, 9]
        await store.close()

    run()


@virtual
async def test_a_settlement_that_is_not_known_can_be_repeated(clock):
    places = MemoryPlaces(clock)
    store, limit = SpreadCounters(places, clock), counter()
    levels = [(limit, "a"), (limit, "b")]
    await store.ask([Question(RESERVE, levels, 4, hold="h", ttl_us=10_000_000)])
    for away in (0, ord("b")):
        places.away = {away}
        settle = Question(SETTLE, [], 1, hold="h")
        assert (await store.ask([settle, check(limit, "c")]))[0] is None
    places.away.clear()
    await store.ask([settle])
    assert [places.left(limit, key) for key in "ab"] == [9, 9]
    await store.close()


@virtual
async def test_a_lease_has_one_place(clock):
    store, limit = SpreadCounters(MemoryPlaces(clock), clock), counter(100)
    lease = LeaseRequest(
        "n", 1, left=0, back=0, need=1, ahead=2, demand=1.0, ttl_us=1_000_000, bound=10
    )
    (answer,) = await store.ask([Question(RENEW, [(limit, "a")], lease=lease)])
    assert answer.granted == 3
    await store.close()


class Weather:
    """Several nodes that ask about three places which die and lose answers; and what they admitted."""

    def __init__(self, clock, seed):
        self.clock = clock
        self.chance = random.Random(seed)
        self.places = MemoryPlaces(clock)
        self.places.on_ask = self.change
        self.limits = {key: counter(12, "1h", name=key) for key in "abc"}
        self.stores = [SpreadCounters(self.places, clock) for _ in range(3)]
        self.admitted = dict.fromkeys("abc", 0)

    def change(self, asked):
        self.places.away = {ord(key) for key in "abc" if self.chance.random() < 0.15}
        self.places.mute = {ord(key) for key in "abc" if self.chance.random() < 0.15}

    async def node(self, store):
        for _ in range(8):
            keys = self.chance.sample("abc", self.chance.randint(2, 3))
            cost = self.chance.randint(1, 3)
            question = Question(CHECK, [(self.limits[key], key) for key in keys], cost)
            try:
                (answer,) = await store.ask([question])
            except StoreUnavailable:
                continue
            if not any(one.wait_ns for one in answer.standings):
                for key in keys:
                    self.admitted[key] += cost
            await self.clock.sleep_async(self.chance.random() * 0.01)

    async def run(self):
        async with asyncio.TaskGroup() as group:
            for store in self.stores:
                group.create_task(self.node(store))
        self.places.on_ask = None
        self.places.away, self.places.mute = set(), set()
        await self.clock.sleep_async(HOLD_NS / 1e9 + 2)
        await self.stores[0].release_expired()
        for store in self.stores:
            await store.close()


@pytest.mark.parametrize("seed", range(60))
def test_what_is_spent_is_what_was_admitted_once_the_weather_is_fine(seed):
    @virtual
    async def run(clock):
        weather = Weather(clock, seed)
        await weather.run()
        for key, limit in weather.limits.items():
            assert weather.admitted[key] <= 12
            assert 12 - weather.places.left(limit, key) == weather.admitted[key]
        assert weather.places.holds() == 0

    run()
