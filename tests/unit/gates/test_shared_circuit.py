"""Breakers that share a circuit: what each sees, what it asks, and what happens when the store is lost."""

from __future__ import annotations

import asyncio

import pytest

from headgate.backpressure.breaker_rule import CircuitState
from headgate.engine.circuits import Circuits
from headgate.errors import CircuitOpen, InvalidInput, StoreUnavailable
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.testing import ManualClock


class Failure(Exception):
    """The callee's."""


class Line:
    """The way to a store: it counts the questions, and can be cut."""

    def __init__(self, clock):
        self.store = Circuits(clock)
        self.questions = []
        self.cut = False
        self.closed = []

    def ask(self, name, rule, question):
        self.questions.append(question)
        if self.cut:
            raise StoreUnavailable("the line is cut")
        return self.store.ask(name, rule, question)

    async def ask_async(self, name, rule, question):
        await asyncio.sleep(0)  # noqa: TID251 - others may run meanwhile, as they do while one waits
        return self.ask(name, rule, question)

    def close(self):
        self.closed.append("sync")

    async def close_async(self):
        self.closed.append("async")


@pytest.fixture
def clock():
    return ManualClock(10**18)


@pytest.fixture
def line(clock):
    return Line(clock)


@pytest.fixture
def make(clock, line):
    def make(**settings):
        settings = {"failure_threshold": 3} | settings
        return CircuitBreaker("db", clock=clock, uniform=lambda: 0.5, shared=line, **settings)

    return make


def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(Failure), breaker:
            raise Failure


def tell(clock, *breakers):
    """Let a call of each carry what there is to be told."""
    clock.advance(0.1)
    for breaker in breakers:
        breaker.record(breaker.allow(), None)


def test_failures_here_and_there_add_up(make, clock):
    one, two = make(), make()
    fail(one)
    fail(two)
    tell(clock, one, two)
    assert one.state is two.state is CircuitState.CLOSED
    fail(one)
    tell(clock, one, two)
    assert one.state is two.state is CircuitState.OPEN
    with pytest.raises(CircuitOpen, match=r"retry after 5\.0"):
        two.enter()


def test_probes_are_counted_across_all(make, clock):
    breakers = [make() for _ in range(5)]
    fail(breakers[0], 3)
    tell(clock, *breakers)
    clock.advance(5.1)
    permits = [breaker.allow() for breaker in breakers for _ in range(40)]
    assert sum(map(bool, permits)) == 3
    assert {breaker.state for breaker in breakers} == {CircuitState.HALF_OPEN}


def test_a_probe_there_closes_it_here(make, clock):
    one, two = make(recovery_threshold=1, ramp=()), make(recovery_threshold=1, ramp=())
    fail(one, 3)
    tell(clock, one, two)
    clock.advance(5.1)
    with one:
        pass
    assert one.state is CircuitState.CLOSED
    tell(clock, two)
    assert two.state is CircuitState.CLOSED


def test_a_failed_probe_there_keeps_it_open_here(make, clock):
    one, two = make(), make()
    fail(one, 3)
    tell(clock, one, two)
    clock.advance(5.1)
    fail(one)
    assert not two.allow()
    assert two.report().retry_after == pytest.approx(10, abs=0.2)


def test_a_ramp_is_climbed_together(make, clock):
    one, two = make(recovery_threshold=1), make(recovery_threshold=1)
    fail(one, 3)
    tell(clock, one, two)
    clock.advance(5.1)
    with one:
        pass
    for _ in range(2000):
        clock.advance(0.05)
        for breaker in (one, two):
            permit = breaker.allow()
            breaker.record(permit)
        if one.state is CircuitState.CLOSED:
            break
    tell(clock, one, two)
    assert one.state is two.state is CircuitState.CLOSED


def test_while_it_goes_well_one_call_in_a_tenth_of_a_second_asks(make, clock, line):
    breaker = make()
    for _ in range(1000):
        with breaker:
            clock.advance(0.001)
    assert 9 <= len(line.questions) <= 11
    assert sum(len(question.outcomes) for question in line.questions) >= 900


def test_failures_are_told_sooner(make, clock, line):
    breaker = make(failure_threshold=100)
    fail(breaker)
    asked = len(line.questions)
    clock.advance(0.01)
    fail(breaker)
    assert len(line.questions) == asked + 1
    fail(breaker)
    assert len(line.questions) == asked + 1


def test_who_was_refused_as_a_probe_does_not_ask_again_at_once(make, clock, line):
    breaker = make(max_probes=1)
    fail(breaker, 3)
    tell(clock, breaker)
    clock.advance(5.1)
    assert breaker.allow()
    assert not breaker.allow()
    asked = len(line.questions)
    assert not any(breaker.allow() for _ in range(100))
    assert len(line.questions) == asked
    clock.advance(0.1)
    assert not breaker.allow()
    assert len(line.questions) == asked + 1


def test_a_cancelled_probe_makes_room_for_others(make, clock):
    one, two = make(max_probes=1), make(max_probes=1)
    fail(one, 3)
    tell(clock, one, two)
    clock.advance(5.1)
    permit = one.allow()
    assert permit
    one.record(permit, None)
    assert two.allow()


def test_without_the_store_each_goes_on_alone_from_where_it_stood(make, clock, line, caplog):
    breaker = make()
    with breaker:
        pass
    line.cut = True
    fail(breaker, 3)
    tell(clock, breaker)
    assert breaker.report().scope == "store_lost"
    assert "goes on by itself" in caplog.text
    fail(breaker, 2)
    assert breaker.state is CircuitState.CLOSED  # what was on its way to the store is lost with it
    fail(breaker)
    assert breaker.state is CircuitState.OPEN


def test_lost_while_open_it_stays_open_and_probes_by_itself(make, clock, line):
    breaker = make()
    fail(breaker, 3)
    tell(clock, breaker)
    line.cut = True
    clock.advance(1)
    assert not breaker.allow()
    assert breaker.report().scope == "store_lost"
    clock.advance(5)
    assert sum(bool(breaker.allow()) for _ in range(50)) == 3


def test_a_lost_store_is_asked_once_a_second(make, clock, line):
    breaker = make()
    line.cut = True
    for _ in range(1000):
        with breaker:
            clock.advance(0.01)
    assert len(line.questions) == 10


def test_when_the_store_is_back_its_word_counts(make, clock, line, caplog):
    one, two = make(), make()
    line.cut = True
    tell(clock, one)
    fail(one, 3)
    assert one.state is CircuitState.OPEN
    line.cut = False
    with two:
        pass
    clock.advance(1)
    with one:  # it asks, and the store says closed
        pass
    assert one.report().scope == "shared"
    assert one.state is CircuitState.CLOSED
    assert "is shared again" in caplog.text


def test_permits_from_before_a_loss_say_nothing_after_it(make, clock, line):
    breaker = make(failure_threshold=1)
    permit = breaker.allow()
    line.cut = True
    tell(clock, breaker)
    assert breaker.report().scope == "store_lost"
    assert not breaker.record(permit, False)
    assert breaker.state is CircuitState.CLOSED


def test_a_store_that_forgot_everything_is_followed(make, clock, line):
    breaker = make()
    fail(breaker, 3)
    tell(clock, breaker)
    assert breaker.state is CircuitState.OPEN
    line.store = Circuits(clock)
    tell(clock, breaker)
    assert breaker.state is CircuitState.CLOSED
    with breaker:
        pass


def test_forced_here_it_is_forced_there(make, clock):
    one, two = make(), make()
    one.force_open()
    tell(clock, two)
    assert two.state is CircuitState.FORCED_OPEN
    assert not two.allow()
    two.reset()
    tell(clock, one)
    assert one.allow()


def test_forced_while_the_store_is_lost_holds_here_until_it_is_back(make, clock, line):
    breaker = make()
    line.cut = True
    breaker.force_open()
    assert breaker.state is CircuitState.FORCED_OPEN
    breaker.disable()
    assert breaker.state is CircuitState.DISABLED
    line.cut = False
    clock.advance(1)
    assert breaker.allow()
    assert breaker.state is CircuitState.CLOSED


def test_listeners_hear_of_what_others_did(make, clock):
    events = []
    one, _two = make(), make(listeners=[events.append])
    fail(one, 3)
    tell(clock, one, _two)
    assert [(event.before.value, event.after.value) for event in events] == [("closed", "open")]
    assert events[0].reason == "3 of 3 calls failed, 0 were slow"


def test_the_report_has_the_counts_of_all(make, clock):
    one, two = make(failure_threshold=10), make(failure_threshold=10)
    fail(one, 2)
    fail(two, 3)
    tell(clock, one, two)
    report = two.report()
    assert (report.scope, report.failures, report.failures_in_row) == ("shared", 5, 5)


async def test_tasks_share_too(make, clock):
    one, two = make(), make()
    for breaker in (one, two, one):
        with pytest.raises(Failure):
            async with breaker:
                raise Failure
        clock.advance(0.1)
        assert await breaker.record_async(await breaker.allow_async(), None) is False
    with pytest.raises(CircuitOpen):
        async with one:
            pass
    clock.advance(6)

    async def probe(breaker):
        return bool(await breaker.allow_async())

    found = await asyncio.gather(*(probe(breaker) for breaker in (one, two) for _ in range(100)))
    assert sum(found) == 3


async def test_decorated_coroutines_share(make, clock):
    breaker = make(failure_threshold=2, failed_result=lambda result: result is None)

    @breaker
    async def fetch(result):
        return result

    assert await fetch(1) == 1
    await fetch(None)
    await fetch(None)
    clock.advance(0.01)
    with pytest.raises(CircuitOpen):
        await fetch(1)


async def test_a_task_that_is_cancelled_while_it_asks_leaves_nothing_stuck(make, clock, line):
    breaker = make()
    task = asyncio.create_task(breaker.allow_async())
    await asyncio.sleep(0)  # noqa: TID251 - it is asking now
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked = len(line.questions)
    clock.advance(0.1)
    assert await breaker.allow_async()
    assert len(line.questions) == asked + 1


async def test_a_coroutine_that_is_closed_awaits_nothing(make, clock):
    breaker = make()
    never = asyncio.Event()

    @breaker
    async def fetch():
        await never.wait()

    running = fetch()
    running.send(None)  # asks the store
    running.send(None)  # waits for the event
    running.close()
    assert breaker.state is CircuitState.CLOSED


async def test_closing_lets_go_of_the_store(make, line):
    breaker = make()
    breaker.close()
    await breaker.close_async()
    assert line.closed == ["sync", "async"]
    own = CircuitBreaker()
    own.close()
    await own.close_async()


def test_a_clock_that_jumps_back_does_not_stop_the_asking(make, clock, line):
    breaker = make()
    with breaker:
        pass
    clock.advance(-1e8)
    asked = len(line.questions)
    with breaker:
        pass
    assert len(line.questions) == asked + 1
    line.cut = True
    tell(clock, breaker)
    assert breaker.report().scope == "store_lost"
    clock.advance(-1e8)
    line.cut = False
    with breaker:
        pass
    assert breaker.report().scope == "shared"


@pytest.mark.parametrize("store", ["http://127.0.0.1", "redis", 7, object()])
def test_stores_that_are_none(store):
    with pytest.raises(InvalidInput, match="shared must be an address"):
        CircuitBreaker("db", shared=store)


def test_a_shared_circuit_needs_a_name(line):
    with pytest.raises(InvalidInput, match="needs a name"):
        CircuitBreaker(shared=line)
