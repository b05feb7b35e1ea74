"""Threads and tasks in a breaker, in every order that matters, and many threads at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from itertools import permutations, product

import pytest

from headgate.backpressure.breaker import Breaker
from headgate.backpressure.breaker_rule import CircuitState
from headgate.errors import CircuitOpen
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.testing import ManualClock
from tests.support.build import compiled_build

in_plain_python = pytest.mark.skipif(
    compiled_build(), reason="compiled code is not interrupted there, and cannot be patched"
)


class Failure(Exception):
    """The callee's."""


class Suspend:
    """What a task awaits until it is sent on."""

    def __await__(self):
        yield


def half_open(**settings):
    clock = ManualClock(10**18)
    breaker = CircuitBreaker("db", failure_threshold=10, clock=clock, **settings)
    breaker.open()
    clock.advance(60)
    assert breaker.state is CircuitState.HALF_OPEN
    return breaker, clock


# --- tasks, by hand ----------------------------------------------------------------------------------


async def caller(breaker, inside, end):
    async with breaker:
        inside.add(end)
        try:
            await Suspend()
        finally:
            inside.discard(end)
        if isinstance(end[1], BaseException):
            raise end[1]


ORDERS = sorted(set(permutations("aabbcc")))


@pytest.mark.parametrize("ends", ["".join(ends) for ends in product("+-x", repeat=3)])
def test_three_tasks_in_all_orders_and_all_ends(ends):
    """Two steps each, to enter and to leave; succeeding (+), failing (-) or cancelled (x)."""
    for order in ORDERS:
        run_in_order(order, dict(zip("abc", ends, strict=True)))


def run_in_order(order, ends):
    breaker, _ = half_open(max_probes=2, recovery_threshold=2, ramp=())
    errors = {"+": None, "-": Failure(), "x": asyncio.CancelledError()}
    inside: set[object] = set()
    tasks = {name: caller(breaker, inside, (name, errors[ends[name]])) for name in "abc"}
    done = set()
    successes, opened, closed = 0, False, False
    for name in order:
        if name in done:
            continue
        probing = not opened and not closed
        try:
            tasks[name].send(None)
        except StopIteration:
            done.add(name)
            # Who entered before the state changed is not heard after it.
            if probing:
                successes += 1
                closed = successes == 2
        except Failure:
            done.add(name)
            opened = opened or probing
        except asyncio.CancelledError:
            done.add(name)
        except CircuitOpen:
            done.add(name)
            assert opened or len(inside) == 2
        else:
            assert not opened
        if probing:
            assert len(inside) <= 2
    expected = CircuitState.OPEN if opened else CircuitState.HALF_OPEN
    assert breaker.state is (CircuitState.CLOSED if closed else expected)
    assert breaker.report().probes == 0


def test_a_failure_after_others_closed_it_is_counted_as_any_other():
    """A probe's outcome is of the epoch of probes; when that is over it says nothing."""
    breaker, _ = half_open(recovery_threshold=1, ramp=())
    early, late = breaker.allow(), breaker.allow()
    assert breaker.record(early)
    assert breaker.state is CircuitState.CLOSED
    assert not breaker.record(late, False)
    assert breaker.state is CircuitState.CLOSED


# --- threads, step by step ---------------------------------------------------------------------------


class Interrupted(Breaker):
    """A calculator that lets somebody else run at the moment when its state is read."""

    def __init__(self, rule):
        self.before = self.after = None
        super().__init__(rule)

    @property
    def state(self):
        self.run("before")
        found = self._state
        self.run("after")
        return found

    @state.setter
    def state(self, value):
        self._state = value

    def run(self, moment):
        todo = getattr(self, moment, None)
        setattr(self, moment, None)
        if todo:
            thread = threading.Thread(target=todo)
            thread.start()
            thread.join()


def interrupted(**settings):
    breaker = CircuitBreaker("db", clock=ManualClock(10**18), **settings)
    breaker._core.breaker = Interrupted(breaker.rule)
    return breaker


@in_plain_python
@pytest.mark.parametrize("moment", ["before", "after"])
def test_opened_by_another_thread_while_one_asks(moment):
    """A call that slips through is of the epoch before: it went in just before the circuit opened."""
    breaker = interrupted(failure_threshold=1)
    setattr(breaker._core.breaker, moment, breaker.open)
    permit = breaker.allow()
    assert breaker.state is CircuitState.OPEN
    if permit:
        assert permit.epoch < breaker._core.breaker.epoch
    assert not breaker.record(permit, False)
    assert breaker.report().openings == 1


@in_plain_python
def test_closed_and_opened_again_while_one_asks():
    breaker = interrupted(failure_threshold=1)

    def there_and_back():
        breaker.open()
        breaker.reset()

    breaker._core.breaker.after = there_and_back
    permit = breaker.allow()
    assert permit
    assert not breaker.record(permit, False)
    assert breaker.state is CircuitState.CLOSED


def test_two_threads_that_end_one_permit_are_heard_once():
    breaker = CircuitBreaker("db", clock=ManualClock(10**18))
    for outcome in (True, False):
        permit = breaker.allow()
        heard, gate = [], threading.Barrier(8)

        def end(permit=permit, outcome=outcome, heard=heard, gate=gate):
            gate.wait()
            heard.append(breaker.record(permit, outcome))

        in_threads(end, 8)
        assert sorted(heard) == [False] * 7 + [True]


def test_a_listener_that_blocks_does_not_hold_up_calls():
    """It runs outside the lock: others go on, and the event that they cause is told by who tells already."""
    told, entered, go_on = [], threading.Event(), threading.Event()

    def listener(event):
        told.append(event.after.value)
        if len(told) == 1:
            entered.set()
            go_on.wait()

    breaker = CircuitBreaker("db", clock=ManualClock(10**18), listeners=[listener])
    first = threading.Thread(target=breaker.open)
    first.start()
    entered.wait()
    breaker.reset()
    assert breaker.allow()
    breaker.force_open()
    assert told == ["open"]
    go_on.set()
    first.join()
    assert told == ["open", "closed", "forced_open"]


def test_no_lock_is_held_while_the_protected_code_runs():
    breaker = CircuitBreaker("db")
    gate = threading.Barrier(10)

    @breaker
    def call():
        gate.wait(timeout=60)  # passes only when all ten are inside

    in_threads(call, 10)
    assert breaker.report().calls == 10


@in_plain_python
def test_a_finalizer_that_ends_a_call_in_the_middle_of_another_does_not_hang():
    breaker = interrupted(failure_threshold=5)
    held = breaker.allow()
    calculator = breaker._core.breaker
    permit = breaker.allow()

    def finalizer():
        breaker.record(held, None)

    # In this very thread, which holds the lock at that moment.
    calculator.run = lambda moment: None if calculator.before is None else run_here(calculator)

    def run_here(calculator):
        todo, calculator.before = calculator.before, None
        todo()

    calculator.before = finalizer
    assert breaker.record(permit, False)
    assert held.ended
    assert breaker.report().failures == 1


# --- threads, many -----------------------------------------------------------------------------------


def in_threads(work, count):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def restless():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.parametrize("window", [{}, {"window_calls": 100_000}])
def test_no_call_is_lost_or_counted_twice(restless, window):
    breaker = CircuitBreaker("db", clock=ManualClock(10**18), **window)

    def work():
        for _ in range(2_000):
            with breaker.guard():
                pass

    in_threads(work, 8)
    assert breaker.report().calls == 16_000


@pytest.mark.slow
def test_no_failure_is_lost_when_nothing_trips(restless):
    breaker = CircuitBreaker("db", clock=ManualClock(10**18))
    breaker.metrics_only()

    def work():
        for number in range(1_000):
            breaker.record(breaker.allow(), number % 2 == 0)

    in_threads(work, 8)
    report = breaker.report()
    assert (report.calls, report.failures) == (8_000, 4_000)


@pytest.mark.slow
def test_never_more_probes_than_there_may_be(restless):
    breaker, _ = half_open(recovery_threshold=1_000_000, ramp=())
    inside, most, lock = [0], [0], threading.Lock()

    def work():
        for _ in range(300):
            permit = breaker.allow()
            if not permit:
                continue
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            breaker.record(permit)

    in_threads(work, 8)
    assert 1 <= most[0] <= 3
    assert breaker.report().probes == 0
