"""The decorator: it refuses, retries, waits as it is told, and otherwise stays out of the way."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from anyio.lowlevel import checkpoint

from headgate.backpressure.pressure_header import format_pressure
from headgate.errors import InvalidInput, InvalidKey, Overloaded, RateLimited
from headgate.gates.retry import RetryBudget
from headgate.gates.upstream import Upstream
from headgate.testing import ManualClock
from tests.unit.gates.test_answers import Failure, Response


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def search(clock):
    return Upstream("search", clock=clock, uniform=lambda: 0.0)


class Script:
    """A function that returns or raises one thing after the other, and notes when."""

    def __init__(self, clock, *outcomes):
        self.clock = clock
        self.outcomes = list(outcomes)
        self.moments = []

    def __call__(self, *arguments):
        self.moments.append(self.clock.now_ns() / 1e9)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def of(self, search, *, awaited):
        if not awaited:

            @search
            def call():
                return self()

            return call

        @search
        async def call_async():
            await checkpoint()
            return self()

        return lambda: asyncio.run(call_async())


BOTH = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])


@BOTH
def test_what_goes_well_goes_through(clock, search, awaited):
    script = Script(clock, "found")
    assert script.of(search, awaited=awaited)() == "found"
    assert search.rules.budget.left("search") == 10.1


@BOTH
def test_a_refusal_is_tried_again_after_its_wait_and_ours(clock, search, awaited):
    script = Script(
        clock, Response(503, {"retry-after": "2"}), Failure(Response(503, {})), Response(200, {})
    )
    assert script.of(search, awaited=awaited)().status_code == 200
    assert script.moments == pytest.approx([0.0, 2.1, 2.3])
    assert search.rules.budget.left("search") == pytest.approx(8.1)


@BOTH
def test_the_last_outcome_stands(clock, search, awaited):
    failures = [ConnectionError(number) for number in range(3)]
    script = Script(clock, *failures)
    with pytest.raises(ConnectionError) as caught:
        script.of(search, awaited=awaited)()
    assert caught.value is failures[2]
    script = Script(clock, *(Response(503, {}) for _ in range(3)))
    assert script.of(search, awaited=awaited)().status_code == 503


@BOTH
@pytest.mark.parametrize(
    "error", [ValueError(), Failure(Response(500, {})), Failure(Response(404, {}))]
)
def test_what_another_attempt_would_not_change_is_raised_at_once(clock, search, awaited, error):
    script = Script(clock, error)
    with pytest.raises(type(error)):
        script.of(search, awaited=awaited)()
    assert len(script.moments) == 1


@BOTH
def test_a_gateway_that_did_not_get_through_is_asked_again(clock, search, awaited):
    script = Script(clock, Response(502, {}), Response(504, {}), Response(204, {}))
    assert script.of(search, awaited=awaited)().status_code == 204


@BOTH
def test_a_limit_is_waited_out_when_it_tells_for_how_long(clock, search, awaited):
    script = Script(clock, Response(429, {"retry-after": "1"}), Response(200, {}))
    assert script.of(search, awaited=awaited)().status_code == 200
    assert script.moments == pytest.approx([0.0, 1.1])
    script = Script(clock, Response(429, {}))
    assert script.of(search, awaited=awaited)().status_code == 429


@BOTH
def test_a_wait_beyond_the_deadline_is_not_begun(clock, awaited):
    search = Upstream("search", timeout=1.5, clock=clock, uniform=lambda: 0.0)
    script = Script(clock, Response(503, {"retry-after": "60"}))
    assert script.of(search, awaited=awaited)().status_code == 503
    assert clock.now_ns() == 0


@BOTH
def test_a_call_that_is_not_worth_sending_is_not_sent(clock, search, awaited):
    for _ in range(50):
        search.rules.throttle.record("search", overloaded=True)
    script = Script(clock)
    with pytest.raises(Overloaded):
        script.of(search, awaited=awaited)()
    assert script.moments == []


@BOTH
def test_retries_end_with_the_budget(clock, awaited):
    search = Upstream(
        "search", budget=RetryBudget(start=3), attempts=100, clock=clock, uniform=lambda: 0.99
    )
    script = Script(clock, *[ConnectionError()] * 50)
    with pytest.raises(ConnectionError):
        script.of(search, awaited=awaited)()
    assert len(script.moments) == 4


@BOTH
@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_a_cancellation_is_neither_counted_nor_retried(clock, search, awaited, error):
    script = Script(clock, error())
    with pytest.raises(error):
        script.of(search, awaited=awaited)()
    assert search.rules.throttle.allow("search").limit == 0
    assert search.rules.budget.left("search") == 10.0


@BOTH
def test_a_refusal_of_our_own_within_is_passed_on(clock, search, awaited):
    inner = Upstream("mail", clock=clock, uniform=lambda: 0.0)
    inner.rules.throttle.hold("mail", 5)

    @inner
    def mail():
        raise AssertionError

    class Within(Script):
        def __call__(self):
            self.moments.append(0)
            mail()

    script = Within(clock)
    with pytest.raises(RateLimited):
        script.of(search, awaited=awaited)()
    assert len(script.moments) == 1
    assert search.rules.throttle.allow("search").limit == 0


@BOTH
def test_pressure_is_heard_on_every_answer(clock, search, awaited):
    field = {"x-pressure": format_pressure(0.8, 1.0, 1_000, 1)}
    Script(clock, Response(200, field)).of(search, awaited=awaited)()
    assert search.pressure == 0.8
    field = {"x-pressure": format_pressure(0.4, 1.0, 1_000, 2)}
    with pytest.raises(Failure):
        Script(clock, Failure(Response(500, field))).of(search, awaited=awaited)()
    assert search.pressure == 0.4


async def test_a_cancellation_in_the_middle_of_the_wait_costs_nothing(clock, search):
    script = Script(clock, ConnectionError())

    @search
    async def call():
        return script()

    task = asyncio.create_task(call())
    await checkpoint()
    await checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.moments == [0.0]
    assert search.rules.budget.left("search") == 10.0


def test_priorities_share_what_is_known_of_the_upstream(clock, search):
    low = search.at("low")
    for _ in range(50):
        search.rules.throttle.record("search", "low", overloaded=True)
    assert low.rules is search.rules

    @low
    def background():
        raise AssertionError

    @search
    def foreground():
        return 1

    with pytest.raises(Overloaded):
        background()
    assert foreground() == 1
    assert (search.tier, low.tier) == (2, 3)


def test_decorated_functions_stay_what_they_are(search):
    @search
    async def find(text: str, *, most: int = 5) -> list[str]:
        """Find it."""

    assert inspect.iscoroutinefunction(find)
    assert find.__doc__ == "Find it."
    assert list(inspect.signature(find).parameters) == ["text", "most"]

    class Client:
        @search
        def get(self, path):
            return (self, path)

    client = Client()
    assert client.get("/") == (client, "/")


def test_an_error_that_was_waited_on_is_not_kept_alive_by_its_frames(clock, search):
    import gc
    import weakref

    class Lost(ConnectionError):
        pass

    gc.disable()
    try:
        error = Lost()
        watched = weakref.ref(error)
        script = Script(clock, error, error, "found")
        assert script.of(search, awaited=False)() == "found"
        script.outcomes.clear()
        del error
        gc.enable()
        gc.collect()
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("thing", [5, None, object()])
def test_only_functions_are_decorated(search, thing):
    with pytest.raises(InvalidInput, match="must be callable"):
        search(thing)


def test_neither_classes_nor_generators_are(search):
    with pytest.raises(InvalidInput, match="decorate its methods"):
        search(Script)

    def numbers():
        yield 1

    async def async_numbers():
        yield 1

    for generator in (numbers, async_numbers):
        with pytest.raises(InvalidInput, match="cannot begin twice"):
            search(generator)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"priority": "urgent"}, "priority must be one of"),
        ({"retry_on": "OSError"}, "retry_on must be exceptions"),
        ({"retry_on": (OSError, KeyboardInterrupt)}, "retry_on must be exceptions"),
        ({"attempts": 0}, "attempts must be"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InvalidInput, match=message):
        Upstream("search", **settings)
    with pytest.raises(InvalidKey):
        Upstream("")
