"""The breaker that people use: its ways in, what counts, who is told, and what it refuses."""

from __future__ import annotations

import asyncio
import inspect
import logging
from concurrent.futures import CancelledError as FutureCancelledError

import pytest

from headgate.backpressure.breaker_rule import CircuitState
from headgate.decision import Decision
from headgate.errors import CircuitOpen, InvalidInput, Overloaded, RateLimited
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.testing import ManualClock

REFUSAL = Decision(False, 1, 0, 1, 1, 0, "p", 1)


class Failure(Exception):
    """The callee's."""


@pytest.fixture
def clock():
    return ManualClock(10**18)


@pytest.fixture
def make(clock):
    def make(name="db", **settings):
        return CircuitBreaker(name, clock=clock, uniform=lambda: 0.5, **settings)

    return make


def fail(breaker, times=1, error=Failure):
    for _ in range(times):
        with pytest.raises(error), breaker:
            raise error


def half_open(make, clock, **settings):
    breaker = make(failure_threshold=1, **settings)
    fail(breaker)
    clock.advance(5)
    assert breaker.state is CircuitState.HALF_OPEN
    return breaker


def test_failures_in_a_row_open_it_and_then_calls_are_refused(make, clock):
    breaker = make(failure_threshold=5, recovery_timeout=30.0)
    fail(breaker, 4)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(
        CircuitOpen, match=r"circuit of 'db' is open.*retry after 30.000 s"
    ) as caught:
        breaker.enter()
    assert caught.value.decision.retry_after == 30.0
    assert caught.value.decision.policy == "db"
    assert caught.value.key == "db"
    clock.advance(30)
    assert breaker.state is CircuitState.HALF_OPEN


def test_a_threshold_alone_leaves_the_rate_out(make):
    breaker = make(failure_threshold=5)
    for _ in range(20):
        fail(breaker, 4)
        with breaker:
            pass
    assert breaker.state is CircuitState.CLOSED


def test_by_default_half_of_twenty_open_it(make):
    breaker = make()
    for _ in range(10):
        with breaker:
            pass
    fail(breaker, 9)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker)
    assert breaker.state is CircuitState.OPEN


def test_threshold_and_rate_together_open_at_whichever_comes_first(make):
    by_row = make(failure_threshold=3, failure_rate=0.5)
    fail(by_row, 3)
    assert by_row.state is CircuitState.OPEN
    by_rate = make(failure_threshold=100, failure_rate=0.5)
    fail(by_rate, 20)
    assert by_rate.state is CircuitState.OPEN


def test_it_comes_back_by_probes_and_a_ramp(make, clock):
    breaker = half_open(make, clock)
    for _ in range(5):
        with breaker:
            pass
    assert breaker.state is CircuitState.RAMP
    for _ in range(200):
        clock.advance(0.5)
        with breaker:
            pass
    assert breaker.state is CircuitState.CLOSED


def test_slow_calls_open_it(make, clock):
    breaker = make(slow_call=1.0, window_calls=20)
    for took in [1.0] * 4 + [1.001] * 15:
        with breaker:
            clock.advance(took)
    assert breaker.report().slow == 15
    with breaker:
        clock.advance(1.0)
    assert breaker.state is CircuitState.CLOSED
    with breaker:
        clock.advance(1.001)
    assert breaker.state is CircuitState.OPEN


def test_a_clock_that_goes_back_makes_no_call_slow(make, clock):
    breaker = make(slow_call=1.0, min_calls=1)
    with breaker:
        clock.advance(-1e9)
    assert breaker.report().slow == 0


# --- what counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        FutureCancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        StopIteration(),
        StopAsyncIteration(),
        RateLimited(REFUSAL),
        CircuitOpen(REFUSAL),
        Overloaded(REFUSAL),
        BaseExceptionGroup("both", [asyncio.CancelledError(), RateLimited(REFUSAL)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_says_nothing_about_the_callee_is_not_counted(make, error):
    breaker = make(failure_threshold=1)
    with pytest.raises(type(error)), breaker.guard():
        raise error
    permit = breaker.allow()
    assert not breaker.record(permit, error)
    report = breaker.report()
    assert (report.state, report.calls) == (CircuitState.CLOSED, 0)


@pytest.mark.parametrize(
    "error",
    [
        Failure(),
        TimeoutError(),
        ExceptionGroup("some", [Failure(), ExceptionGroup("in", [OSError()])]),
    ],
)
def test_exceptions_count(make, error):
    breaker = make(failure_threshold=1)
    with pytest.raises(type(error)), breaker:
        raise error
    assert breaker.state is CircuitState.OPEN


def test_only_named_failures_count_and_of_those_not_the_ignored(make):
    breaker = make(failure_threshold=1, failures=(OSError, Failure), ignore=FileNotFoundError)
    for error in (ValueError, FileNotFoundError):
        fail(breaker, error=error)
    assert breaker.report().calls == 0
    fail(breaker, error=ConnectionError)
    assert breaker.state is CircuitState.OPEN


def test_a_probe_that_is_cancelled_gives_its_place_back(make, clock):
    breaker = half_open(make, clock, max_probes=1)
    with pytest.raises(asyncio.CancelledError), breaker:
        raise asyncio.CancelledError
    assert breaker.allow()
    assert not breaker.allow()


def test_results_can_be_failures(make):
    breaker = make(failure_threshold=2, failed_result=lambda status: status >= 500)

    @breaker
    def fetch(status):
        return status

    assert [fetch(status) for status in (200, 500, 200, 503)] == [200, 500, 200, 503]
    assert breaker.state is CircuitState.CLOSED
    assert fetch(500) == 500
    assert breaker.state is CircuitState.OPEN


def test_a_judge_of_results_that_raises_says_nothing_about_the_callee(make, clock):
    breaker = half_open(make, clock, max_probes=1, failed_result=lambda result: result.missing)

    @breaker
    def fetch():
        return None

    with pytest.raises(AttributeError):
        fetch()
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.allow()


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (120, 120),
        (0.5, 5),
        (float("inf"), 3600),
        (float("nan"), 5),
        (-1, 5),
        ("120", 5),
        (True, 5),
        (10**400, 3600),
    ],
)
def test_a_callee_that_asks_for_longer_is_given_it(make, told, seconds):
    error = Failure()
    error.retry_after = told
    breaker = make(failure_threshold=1)
    with pytest.raises(Failure), breaker:
        raise error
    assert breaker.report().retry_after == seconds


def test_where_the_callee_asks_can_be_said(make, caplog):
    breaker = make(failure_threshold=1, retry_after=lambda error: error.args[0])
    with pytest.raises(Failure), breaker:
        raise Failure(77)
    assert breaker.report().retry_after == 77
    wrong = make(failure_threshold=1, retry_after=lambda error: error.args[0])
    fail(wrong)
    assert wrong.report().retry_after == 5
    assert "retry_after raised" in caplog.text


@pytest.mark.parametrize("way", ["with", "decorator"])
def test_an_exception_that_cannot_say_for_how_long_is_a_failure_all_the_same(make, caplog, way):
    class Lazy(Failure):
        @property
        def retry_after(self):
            raise RuntimeError

    breaker = make(failure_threshold=1)

    def call():
        raise Lazy

    def block():
        with breaker:
            call()

    with pytest.raises(Lazy):
        (block if way == "with" else breaker(call))()
    assert breaker.state is CircuitState.OPEN
    assert "retry_after raised" in caplog.text


# --- ways in -----------------------------------------------------------------------------------------


def test_bare_use(make):
    breaker = make(failure_threshold=2)
    permit = breaker.allow()
    assert permit
    assert permit.decision.allowed
    assert breaker.record(permit)
    for outcome in (False, Failure()):
        assert breaker.record(breaker.allow(), outcome)
    refused = breaker.allow()
    assert not refused
    assert refused.decision.retry_after == 5.0
    assert not breaker.record(refused, False)


def test_told_twice_counts_once(make):
    breaker = make(failure_threshold=2)
    permit = breaker.allow()
    assert breaker.record(permit, False)
    assert not breaker.record(permit, False)
    assert breaker.state is CircuitState.CLOSED


def test_stale_permits_are_not_heard(make, clock):
    breaker = make(failure_threshold=1)
    stale = breaker.allow()
    fail(breaker)
    clock.advance(5)
    assert breaker.allow()
    assert not breaker.record(stale, False)
    assert breaker.state is CircuitState.HALF_OPEN


@pytest.mark.parametrize("permit", [None, True, 7, "permit", object()])
def test_what_is_no_permit_is_refused(make, permit):
    with pytest.raises(InvalidInput, match="permit must be what allow"):
        make().record(permit)


def test_a_permit_of_another_breaker_is_refused(make):
    with pytest.raises(InvalidInput, match="is of breaker 'other'"):
        make().record(make("other").allow())


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf"), 1e300, True, "1"])
def test_durations_that_are_none(make, duration):
    breaker = make(slow_call=1.0)
    permit = breaker.allow()
    with pytest.raises(InvalidInput, match="duration must be"):
        breaker.record(permit, True, duration)
    assert breaker.record(permit, True, 0.5)


@pytest.mark.parametrize("outcome", [1, 0, "ok", Failure])
def test_outcomes_that_are_none(make, outcome):
    breaker = make()
    with pytest.raises(InvalidInput, match="outcome must be"):
        breaker.record(breaker.allow(), outcome)


def test_a_duration_that_is_given_goes_before_the_measured_one(make, clock):
    breaker = make(slow_call=1.0)
    breaker.record(breaker.allow(), True, 1.5)
    permit = breaker.allow()
    clock.advance(5)
    breaker.record(permit, True, 0.1)
    assert breaker.report().slow == 1


def test_blocks_nest_and_interleave_with_other_breakers(make):
    one, two = make("one", failure_threshold=1), make("two", failure_threshold=1)
    one.__enter__()
    two.__enter__()
    with one:
        pass
    one.__exit__(None, None, None)
    two.__exit__(Failure, Failure(), None)
    assert one.state is CircuitState.CLOSED
    assert two.state is CircuitState.OPEN
    assert one.report().calls == 2


def test_blocks_in_generators_do_not_mix_up(make):
    breaker = make(failure_threshold=10)

    def generator():
        with breaker.guard():
            yield 1

    first, second = generator(), generator()
    assert next(first) == next(second) == 1
    first.close()
    assert list(second) == []
    assert breaker.report().calls == 1


def test_a_block_that_is_left_elsewhere_is_heard_all_the_same(make):
    import contextvars

    breaker = make(failure_threshold=1)
    contextvars.copy_context().run(breaker.__enter__)
    breaker.__exit__(Failure, Failure(), None)
    assert breaker.state is CircuitState.OPEN


def test_a_guard_is_for_one_call(make):
    guard = make().guard()
    with guard:
        pass
    with pytest.raises(InvalidInput, match="for one call"):
        guard.__enter__()


async def test_async_blocks(make):
    breaker = make(failure_threshold=1)
    async with breaker as permit:
        assert permit.admitted
    with pytest.raises(Failure):
        async with breaker.guard():
            raise Failure
    with pytest.raises(CircuitOpen):
        async with breaker:
            pass
    assert not await breaker.allow_async()


async def test_tasks_have_blocks_of_their_own(make):
    breaker = make()
    first_in, second_out = asyncio.Event(), asyncio.Event()

    async def first():
        async with breaker as permit:
            first_in.set()
            await second_out.wait()
        return permit.ended

    async def second():
        await first_in.wait()
        with pytest.raises(Failure):
            async with breaker:
                raise Failure
        second_out.set()

    ended, _ = await asyncio.gather(first(), second())
    assert ended
    assert (breaker.report().calls, breaker.report().failures) == (2, 1)


def test_functions_of_every_kind_stay_what_they_are(make):
    breaker = make(failure_threshold=1)

    @breaker
    def plain(number: int = 1) -> int:
        """Documented."""
        return number

    @breaker
    async def coroutine():
        return 2

    @breaker
    def generator():
        got = yield 3
        return got

    @breaker
    async def async_generator():
        yield 4

    class Client:
        @breaker
        def method(self):
            return self

        @breaker
        @staticmethod
        def static():
            return 5

        @breaker
        @classmethod
        def of_class(cls):
            return cls

    assert plain.__doc__ == "Documented."
    assert inspect.signature(plain).parameters["number"].default == 1
    assert plain(number=7) == 7
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    client = Client()
    assert client.method() is client
    assert (Client.static(), Client.of_class()) == (5, Client)
    running = generator()
    assert next(running) == 3
    with pytest.raises(StopIteration) as stopped:
        running.send("sent")
    assert stopped.value.value == "sent"


async def test_each_kind_of_function_counts_its_failures(make):
    async def coroutine():
        raise Failure

    def generator():
        yield 1
        raise Failure

    async def async_generator():
        yield 1
        raise Failure

    def plain():
        raise Failure

    for function in (plain, coroutine, generator, async_generator):
        breaker = make(failure_threshold=1)
        with pytest.raises(Failure):
            await run(breaker(function))
        assert breaker.state is CircuitState.OPEN
        with pytest.raises(CircuitOpen):
            await run(breaker(function))


async def run(function):
    if inspect.isasyncgenfunction(function):
        return [value async for value in function()]
    if inspect.isgeneratorfunction(function):
        return list(function())
    return await function() if inspect.iscoroutinefunction(function) else function()


async def test_generators_that_are_not_read_to_their_end_say_nothing(make):
    breaker = make(failure_threshold=1)

    @breaker
    def generator():
        yield 1
        yield 2

    @breaker
    async def async_generator():
        yield 1
        yield 2

    running = generator()
    assert next(running) == 1
    running.close()
    running_too = async_generator()
    assert await anext(running_too) == 1
    await running_too.aclose()
    assert breaker.report().calls == 0


def test_how_long_a_generator_is_read_makes_it_not_slow(make, clock):
    breaker = make(slow_call=1.0)

    @breaker
    def generator():
        yield 1

    for _ in generator():
        clock.advance(100)
    assert (breaker.report().calls, breaker.report().slow) == (1, 0)


@pytest.mark.parametrize("thing", [int, 7, None])
def test_what_is_no_function_is_not_decorated(make, thing):
    with pytest.raises(InvalidInput, match="decorates functions"):
        make()(thing)


# --- probes ------------------------------------------------------------------------------------------


async def test_of_two_hundred_tasks_three_probe(make, clock):
    breaker = half_open(make, clock)
    entered, done = [], asyncio.Event()

    async def caller(number):
        try:
            async with breaker:
                entered.append(number)
                await done.wait()
        except CircuitOpen:
            return False
        return True

    tasks = [asyncio.create_task(caller(number)) for number in range(200)]
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251 - lets the others run
    assert sum(task.done() for task in tasks) == 197
    assert len(entered) == 3
    done.set()
    assert sum(await asyncio.gather(*tasks)) == 3


def test_probes_that_hang_do_not_stick_it(make, clock):
    breaker = half_open(make, clock, call_timeout=30.0)
    hanging = [breaker.allow() for _ in range(3)]
    assert all(hanging)
    assert not breaker.allow()
    assert breaker.report().probes == 3
    clock.advance(30)
    assert breaker.report().probes == 0
    for _ in range(5):
        with breaker:
            pass
    assert breaker.state is CircuitState.RAMP
    assert not breaker.record(hanging[0])


# --- by hand, and who is told ------------------------------------------------------------------------


def test_states_by_hand(make):
    breaker = make(failure_threshold=1)
    breaker.force_open()
    assert not breaker.allow()
    breaker.disable()
    fail(breaker, 3)
    assert breaker.report().calls == 0
    breaker.metrics_only()
    fail(breaker, 3)
    assert breaker.report().failures == 3
    assert breaker.state is CircuitState.METRICS_ONLY
    breaker.open()
    assert breaker.state is CircuitState.OPEN
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED
    assert breaker.report().openings == 0


def test_listeners_hear_of_each_change_in_order(make, clock, caplog):
    events = []
    breaker = make(failure_threshold=1, recovery_threshold=1, ramp=(), listeners=[events.append])
    with caplog.at_level(logging.INFO, logger="headgate.breaker"):
        fail(breaker)
        clock.advance(5)
        with breaker:
            pass
        breaker.force_open()
    assert [(event.before.value, event.after.value) for event in events] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "forced_open"),
    ]
    assert events[0].reason == "1 of 1 calls failed, 0 were slow"
    assert events[0].name == "db"
    assert events[1].at_ns == clock.now_ns()
    assert events[3].reason == "by hand"
    assert "circuit 'db': closed to open" in caplog.text


def test_a_listener_that_raises_is_removed_and_breaks_nothing(make, caplog):
    heard = []

    def broken(event):
        heard.append(event)
        raise Failure

    breaker = make(failure_threshold=1, listeners=[broken])
    later = []
    breaker.listen(later.append)
    fail(breaker)
    breaker.reset()
    assert len(heard) == 1
    assert len(later) == 2
    assert "is removed" in caplog.text
    breaker.forget(later.append)
    breaker.forget(later.append)
    breaker.open()
    assert len(later) == 2


def test_a_listener_may_use_the_breaker(make):
    seen = []
    breaker = make(failure_threshold=1)

    def listener(event):
        seen.append((event.after, breaker.state))
        if event.after is CircuitState.OPEN:
            breaker.reset()

    breaker.listen(listener)
    fail(breaker)
    assert [after.value for after, _ in seen] == ["open", "closed"]


def test_the_report(make, clock):
    breaker = make(failure_threshold=2)
    with breaker:
        pass
    fail(breaker)
    report = breaker.report()
    assert (report.calls, report.failures, report.failures_in_row) == (2, 1, 1)
    assert (report.scope, report.share, report.retry_after) == ("local", 1.0, 0.0)
    fail(breaker)
    breaker.allow()
    report = breaker.report()
    assert (report.state, report.refused, report.openings) == (CircuitState.OPEN, 1, 1)
    assert (report.share, report.retry_after) == (0.0, 5.0)
    clock.advance(60)
    assert breaker.report().state is CircuitState.HALF_OPEN


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"failure_threshold": 0},
        {"failure_threshold": -1},
        {"failure_threshold": 1.5},
        {"failure_threshold": True},
        {"failure_threshold": "5"},
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": float("nan")},
        {"failure_rate": True},
        {"failure_rate": "half"},
        {"slow_rate": 0.0},
        {"slow_call": 0},
        {"slow_call": float("inf")},
        {"window": 0},
        {"window": float("nan")},
        {"window_calls": 0},
        {"window_calls": 10},  # fewer than min_calls
        {"min_calls": 0},
        {"recovery_timeout": 0},
        {"recovery_timeout": -1},
        {"recovery_timeout": float("inf")},
        {"recovery_timeout": None},
        {"recovery_timeout": 10, "max_recovery_timeout": 9},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"max_probes": 0},
        {"max_probes": 10**9},
        {"recovery_threshold": 0},
        {"call_timeout": 0},
        {"ramp": (0.5, 0.5)},
        {"ramp": (0.5, 0.1)},
        {"ramp": (0.0, 1.0)},
        {"ramp": (2.0,)},
        {"ramp": ("all",)},
        {"ramp": "all"},
        {"ramp": 0.5},
        {"ramp_step": 0},
        {"ramp_calls": 0},
        {"forgive_after": 0},
        {"failures": BaseException},
        {"failures": (OSError, asyncio.CancelledError)},
        {"failures": "OSError"},
        {"ignore": 7},
        {"failed_result": 7},
        {"retry_after": 7},
        {"listeners": [7]},
        {"listeners": print},
        {"uniform": 0.5},
        {"shared_timeout": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InvalidInput):
        CircuitBreaker("db", **settings)


@pytest.mark.parametrize("name", ["", None, 7, "x" * 2000])
def test_names_that_are_none(name):
    with pytest.raises(InvalidInput):
        CircuitBreaker(name)


def test_a_long_recovery_timeout_is_not_cut_short(make):
    breaker = make(failure_threshold=1, recovery_timeout=300)
    fail(breaker)
    assert breaker.report().retry_after == 300


def test_without_a_clock_it_has_the_systems():
    breaker = CircuitBreaker(failure_threshold=1)
    fail(breaker)
    assert 4.0 < breaker.report().retry_after <= 6.0


def test_a_listener_that_nobody_would_await_is_refused(make):
    async def hear(event):
        raise AssertionError

    with pytest.raises(InvalidInput, match="must be a plain function"):
        make(listeners=[hear])
    with pytest.raises(InvalidInput, match="must be a plain function"):
        make().listen(hear)
