"""The load shedder as programs use it."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading

import pytest

from headgate.errors import InvalidInput, InvalidKey, Overloaded, RateLimited
from headgate.gates.load_shedder import LoadShedder
from headgate.testing import ManualClock


class Source:
    """A number that a test sets, as a queue, a load, or a chance."""

    def __init__(self, value: object = 0) -> None:
        self.value = value

    def __call__(self) -> object:
        return self.value


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_ns=10**15)


@pytest.fixture
def chance() -> Source:
    return Source(0.5)


# By queue -------------------------------------------------------------------------------------------


def test_by_queue_it_is_a_matter_of_chance_between_once_and_twice_the_bound(clock, chance):
    queue = Source(0)
    shedder = LoadShedder("queue", queue=queue, max_queue=100, clock=clock, uniform=chance)
    assert shedder.allow().remaining == 100
    queue.value = 149
    assert shedder.allow()
    queue.value = 151
    assert not shedder.allow()
    chance.value = 0.52
    assert shedder.allow()
    queue.value = 200
    chance.value = 0.999
    assert not shedder.allow("critical")
    assert shedder.stats().shed == {"critical": 1, "high": 0, "normal": 1, "low": 0}
    assert shedder.stats().arrived == {"critical": 1, "high": 0, "normal": 4, "low": 0}


def test_without_a_queue_what_is_inside_guards_waits(clock, chance):
    shedder = LoadShedder("queue", max_queue=2, seats=1, clock=clock, uniform=chance)
    guards = [shedder.guard() for _ in range(5)]
    chance.value = 0.4
    for guard in guards[:4]:
        guard.__enter__()
    with pytest.raises(Overloaded):  # 4 inside, 3 of them wait: half is shed
        guards[4].__enter__()
    assert shedder.stats().in_guards == 4
    guards[0].__exit__(None, None, None)
    with guards[4]:
        assert shedder.stats().in_guards == 4
    for guard in guards[1:4]:
        guard.__exit__(None, None, None)
    assert shedder.stats().in_guards == 0


# By load --------------------------------------------------------------------------------------------


def test_by_load_and_tier(clock, chance):
    load = Source(0.8)
    shedder = LoadShedder("load", load=load, rate=1.0, clock=clock, uniform=chance)
    chance.value = 0.0
    assert all(shedder.allow(tier) for tier in range(4))
    load.value = 1.3
    clock.advance(0.1)
    chance.value = 0.049
    assert [bool(shedder.allow(tier)) for tier in range(4)] == [False, False, False, False]
    chance.value = 0.051
    assert [bool(shedder.allow(tier)) for tier in range(4)] == [True, False, False, False]
    chance.value = 0.251
    assert [bool(shedder.allow(tier)) for tier in range(4)] == [True, True, False, False]
    chance.value = 0.501
    assert [bool(shedder.allow(tier)) for tier in range(4)] == [True] * 4


def test_the_load_is_looked_at_every_100_ms(clock, chance):
    load = Source(0.0)
    shedder = LoadShedder("load", load=load, rate=10.0, clock=clock, uniform=chance)
    assert shedder.allow()
    load.value = 2.0
    clock.advance(0.0999)
    assert shedder.allow()
    assert shedder.is_calm
    clock.advance(0.0001)
    assert not shedder.allow()
    assert not shedder.is_calm
    load.value = 0.0
    shedder.refresh()
    assert shedder.is_calm
    assert shedder.allow()


def test_by_pressure_it_adds_up(clock, chance):
    load = Source(1.8)
    shedder = LoadShedder("pressure", load=load, clock=clock, uniform=chance)
    answers = []
    for _ in range(10):
        answers.append(bool(shedder.allow()))
        clock.advance(0.1)
    assert answers == [True] * 5 + [False] * 5  # 0.1, 0.2, ... of them
    assert shedder.stats().part_shed == pytest.approx(0.99)
    load.value = 0.0
    for _ in range(30):
        clock.advance(0.1)
        shedder.refresh()
    assert shedder.is_calm


def test_multipliers_go_on_for_the_tiers_beyond(clock, chance):
    chance.value = 0.0
    shedder = LoadShedder(
        "load", load=Source(1000.0), multipliers=[0.0], clock=clock, uniform=chance
    )
    assert all(shedder.allow(tier) for tier in range(4))


def test_a_tier_that_is_never_shed_leaves_the_others_to_chance(clock, chance):
    settings = {"load": Source(1.3), "rate": 1.0, "multipliers": [0.0, 1.0]}
    shedder = LoadShedder("load", **settings, clock=clock, uniform=chance)
    assert shedder.allow("low")  # half are shed, and this one is of the other half
    chance.value = 0.49
    assert not shedder.allow("low")
    assert shedder.allow("critical")


# Tiered ---------------------------------------------------------------------------------------------


def overloaded(clock: ManualClock, chance: Source, **settings: object) -> LoadShedder:
    """Twice as much as can be done came for a while: 100 a period, of which 50 are done."""
    queue = Source(0)
    shedder = LoadShedder("tiered", queue=queue, clock=clock, uniform=chance, **settings)
    for _ in range(30):
        for number in range(100):
            chance.value = number / 100
            queue.value += bool(
                shedder.allow("high" if number % 2 else "low", key=f"user:{number}")
            )
        queue.value = max(0, queue.value - 50)
        clock.advance(0.1)
    return shedder


def test_tiered_it_learns_from_what_becomes_of_the_queue(clock, chance):
    shedder = overloaded(clock, chance)
    assert shedder.stats().capacity_per_second == pytest.approx(500, rel=0.1)
    assert 0.4 < shedder.stats().part_shed < 0.7
    before = shedder.stats()
    chance.value = 0.5
    for number in range(1000):
        shedder.allow("high", key=f"other:{number}")
        shedder.allow("low", key=f"other:{number}")
    after = shedder.stats()
    assert after.shed["high"] - before.shed["high"] < 100
    assert after.shed["low"] - before.shed["low"] > 900


def test_the_same_users_pass_all_hour_long_and_others_in_the_next(clock, chance):
    shedder = overloaded(clock, chance)

    def served() -> set[int]:
        chance.value = 0.5
        tiers = ("high", "low")
        return {n for n in range(2000) if shedder.allow(tiers[n % 2], key=f"user:{n}")}

    first = served()
    assert served() == first
    clock.advance_ns(3600 * 10**9)
    second = served()
    assert first - second
    assert second - first


def test_with_guards_it_counts_for_itself(clock, chance):
    shedder = LoadShedder(clock=clock, uniform=chance, max_queue=3, seats=2)
    guards = [shedder.guard() for _ in range(6)]
    for guard in guards[:5]:
        guard.__enter__()
    with pytest.raises(Overloaded) as caught:
        guards[5].__enter__()
    assert caught.value.decision.policy == "shedder"
    guards[0].__exit__(None, None, None)
    with guards[5]:
        pass
    for guard in guards[1:5]:
        guard.__exit__(None, None, None)
    clock.advance(0.1)
    with shedder.guard():
        assert shedder.stats().in_guards == 1
    assert shedder.stats().in_guards == 0


def test_allow_alone_needs_something_to_look_at():
    for mode in ("tiered", "queue"):
        with pytest.raises(InvalidInput, match="use guard"):
            LoadShedder(mode).allow()


# Refusals -------------------------------------------------------------------------------------------


def test_a_refusal_says_when_to_come_back_each_time_another(clock, chance):
    shedder = LoadShedder(
        "queue", queue=Source(10**6), name="mine", retry_after=2.0, clock=clock, uniform=chance
    )
    waits = []
    for value in (0.0, 0.25, 0.75):
        chance.value = value
        decision = shedder.allow()
        assert not decision.allowed
        assert decision.policy == "mine"
        waits.append(decision.retry_after)
    assert waits == [1.0, 1.5, 2.5]


def test_the_error_is_ours_and_has_the_key(clock, chance):
    shedder = LoadShedder("queue", queue=Source(10**6), clock=clock, uniform=chance)
    with pytest.raises(Overloaded, match="more work than can be done") as caught:
        shedder.guard("low", key="user:1").__enter__()
    assert isinstance(caught.value, RateLimited)
    assert (caught.value.key, caught.value.status, caught.value.code) == (
        "user:1",
        503,
        "overloaded",
    )
    assert shedder.stats().in_guards == 0


# Decorators -----------------------------------------------------------------------------------------


async def test_functions_of_every_kind_are_inside_while_they_run(clock):
    shedder = LoadShedder(clock=clock)
    inside = shedder.stats

    @shedder.guard("high")
    def plain(number: int) -> int:
        """Doubles."""
        assert inside().in_guards == 1
        return 2 * number

    @shedder.guard()
    async def coroutine(number: int) -> int:
        assert inside().in_guards == 1
        return 2 * number

    @shedder.guard()
    def generator(number: int):
        assert inside().in_guards == 1
        yield number
        raise KeyError

    @shedder.guard()
    async def async_generator(number: int):
        assert inside().in_guards == 1
        yield number

    assert plain(2) == 4
    assert (plain.__name__, plain.__doc__) == ("plain", "Doubles.")
    assert await coroutine(2) == 4
    started = generator(1)
    assert inside().in_guards == 0
    assert next(started) == 1
    assert inside().in_guards == 1
    with pytest.raises(KeyError):
        next(started)
    assert [value async for value in async_generator(3)] == [3]
    assert inside().in_guards == 0
    assert inside().arrived == {"critical": 0, "high": 1, "normal": 3, "low": 0}


def test_a_decorator_finds_the_key_in_the_arguments(clock):
    shedder = LoadShedder("queue", queue=Source(10**6), clock=clock)

    @shedder.guard(key=lambda user: f"user:{user}")
    def work(user: str, more: int = 0) -> None:
        raise AssertionError

    with pytest.raises(Overloaded) as caught:
        work(more=1, user="ann")
    assert caught.value.key == "user:ann"
    with pytest.raises(InvalidInput, match="for decorators"):
        shedder.guard(key=lambda user: user).__enter__()


async def test_async_with(clock):
    shedder = LoadShedder(clock=clock)
    async with shedder.guard("low") as decision:
        assert decision.allowed
        assert shedder.stats().in_guards == 1
    assert shedder.stats().in_guards == 0


def test_what_is_inside_may_fail(clock):
    shedder = LoadShedder(clock=clock)
    with pytest.raises(ZeroDivisionError), shedder.guard():
        raise ZeroDivisionError
    assert shedder.stats().in_guards == 0


# Bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "none"},
        {"mode": 7},
        {"mode": None},
        {"mode": "load"},
        {"mode": "pressure"},
        {"mode": "load", "load": 0.5},
        {"queue": 3},
        {"load": float},
        {"threshold": 0.8},
        {"mode": "load", "load": float, "max_queue": 3},
        {"mode": "queue", "capacity": 3.0},
        {"max_queue": 0},
        {"max_queue": -1},
        {"max_queue": 1.5},
        {"max_queue": True},
        {"max_queue": 10**30},
        {"max_queue": "3"},
        {"seats": 0},
        {"capacity": 0},
        {"capacity": -1.0},
        {"capacity": math.nan},
        {"capacity": math.inf},
        {"capacity": True},
        {"capacity": "3"},
        {"target_delay": 0},
        {"target_delay": -0.1},
        {"target_delay": math.nan},
        {"target_delay": math.inf},
        {"retry_after": 0},
        {"retry_after": math.nan},
        {"retry_after": math.inf},
        {"retry_after": 10**400},
        {"retry_after": None},
        {"name": 7},
        {"mode": "load", "load": float, "threshold": math.nan},
        {"mode": "load", "load": float, "threshold": -0.1},
        {"mode": "load", "load": float, "threshold": True},
        {"mode": "load", "load": float, "rate": math.inf},
        {"mode": "load", "load": float, "rate": -1},
        {"mode": "load", "load": float, "multipliers": []},
        {"mode": "load", "load": float, "multipliers": [1.0] * 5},
        {"mode": "load", "load": float, "multipliers": [math.nan]},
        {"mode": "load", "load": float, "multipliers": ["1"]},
        {"mode": "load", "load": float, "multipliers": "1"},
        {"mode": "load", "load": float, "multipliers": 3},
    ],
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InvalidInput):
        LoadShedder(**settings)


@pytest.mark.parametrize("priority", ["urgent", "", None, True, False, -1, 4, 1.0, [], "HIGH"])
def test_priorities_that_are_none(priority):
    shedder = LoadShedder("queue", queue=Source(0))
    with pytest.raises(InvalidInput):
        shedder.allow(priority)
    with pytest.raises(InvalidInput):
        shedder.guard(priority)
    assert sum(shedder.stats().arrived.values()) == 0


@pytest.mark.parametrize("key", [None, 3, b"k", "k" * 1025])
def test_keys_that_are_none(key):
    shedder = LoadShedder("queue", queue=Source(0))
    with pytest.raises(InvalidKey):
        shedder.allow(key=key)
    with pytest.raises(InvalidKey):
        shedder.guard(key=key)


@pytest.mark.parametrize("waiting", [None, "3", 1.5, True, math.nan])
def test_a_queue_that_returns_no_number(waiting):
    shedder = LoadShedder("queue", queue=Source(waiting))
    with pytest.raises(InvalidInput, match="queue must return"):
        shedder.allow()


@pytest.mark.parametrize("mode", ["tiered", "queue", "load", "pressure"])
def test_a_source_that_fails_breaks_no_request_and_is_logged_once(mode, clock, chance, caplog):
    def failing() -> int:
        raise OSError("gone")

    name = "load" if mode in {"load", "pressure"} else "queue"
    shedder = LoadShedder(mode, clock=clock, uniform=chance, **{name: failing})
    for _ in range(5):
        assert shedder.allow("low")
        clock.advance(0.1)
    assert [record.message for record in caplog.records] == [
        f"the {name} of the shedder 'shedder' failed; it counts as not known"
    ]


def test_queues_out_of_bounds_do_no_harm(clock, chance):
    queue = Source(-5)
    shedder = LoadShedder("queue", queue=queue, clock=clock, uniform=chance)
    assert shedder.allow().remaining == 300
    queue.value = 10**30
    assert not shedder.allow()


@pytest.mark.parametrize("load", [None, "1", True, []])
def test_a_load_that_is_no_number(load):
    with pytest.raises(InvalidInput, match="load must return"):
        LoadShedder("load", load=Source(load)).allow()


@pytest.mark.parametrize("mode", ["load", "pressure"])
def test_a_load_that_is_not_known_sheds_nothing(mode, clock, chance):
    load = Source(math.nan)
    shedder = LoadShedder(mode, load=load, clock=clock, uniform=chance)
    assert shedder.allow()
    load.value = math.inf
    for _ in range(10):
        clock.advance(0.1)
        shedder.refresh()
    assert not shedder.allow()
    load.value = -math.inf
    for _ in range(30):
        clock.advance(0.1)
        shedder.refresh()
    assert shedder.allow()


@pytest.mark.parametrize("jump", [-(10**17), 10**17])
@pytest.mark.parametrize("mode", ["load", "pressure", "tiered", "queue"])
def test_a_clock_that_jumps_by_years_leaves_it_working(mode, jump, clock, chance):
    source = Source(1000)
    name = "load" if mode in {"load", "pressure"} else "queue"
    shedder = LoadShedder(mode, clock=clock, uniform=chance, **{name: source})
    for _ in range(40):
        shedder.allow("low")
        clock.advance(0.1)
    assert not shedder.allow("low")
    clock.advance_ns(jump)
    source.value = 0
    for _ in range(40):
        shedder.allow("low")
        clock.advance(0.1)
    assert shedder.allow("low")


# Threads --------------------------------------------------------------------------------------------


def test_threads_lose_no_count(clock):
    shedder = LoadShedder("queue", max_queue=10**6, clock=clock)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(2_000):
            with shedder.guard("high"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shedder.stats().in_guards == 0
    assert shedder.stats().arrived["high"] == 8_000


def test_a_queue_that_blocks_holds_nobody_up(clock):
    """The caller's own code is never run under our lock."""
    shedder: LoadShedder
    entered, release = threading.Event(), threading.Event()

    def slow() -> int:
        if threading.current_thread().name == "slow":
            entered.set()
            release.wait(10)
        return 0

    shedder = LoadShedder("queue", queue=slow, clock=clock)
    thread = threading.Thread(target=shedder.allow, name="slow")
    thread.start()
    assert entered.wait(10)
    assert shedder.allow()
    release.set()
    thread.join()


# Tasks ----------------------------------------------------------------------------------------------


class Pause:
    """What a coroutine awaits to stop until it is sent on."""

    def __await__(self):
        yield


@pytest.mark.parametrize("end", ["return", "raise", "cancel"])
def test_tasks_in_all_orders_are_inside_from_their_first_step_to_their_last(end, clock):
    for order in sorted(set(itertools.permutations([0, 0, 1, 1, 2, 2]))):
        shedder = LoadShedder("queue", max_queue=2, seats=1, clock=clock, uniform=lambda: 0.0)
        async_guard = shedder.guard

        async def work() -> None:
            async with async_guard():  # noqa: B023 - run within this turn of the loop
                await Pause()
                if end == "raise":
                    raise KeyError

        tasks = [work() for _ in range(3)]
        inside: set[int] = set()
        for number in order:
            if number in inside:
                inside.remove(number)
                with contextlib.suppress(StopIteration, KeyError, GeneratorExit):
                    if end == "cancel":
                        tasks[number].throw(GeneratorExit)
                    tasks[number].send(None)
            else:
                inside.add(number)
                tasks[number].send(None)
            assert shedder.stats().in_guards == len(inside)


def test_what_draws_must_be_callable():
    with pytest.raises(InvalidInput, match="uniform must be callable"):
        LoadShedder(uniform=0.5)


def test_a_guard_that_is_left_twice_makes_no_room(clock):
    shedder = LoadShedder(clock=clock)
    guard = shedder.guard()
    with guard:
        pass
    guard.__exit__(None, None, None)
    assert shedder.stats().in_guards == 0
    with guard:
        assert shedder.stats().in_guards == 1
