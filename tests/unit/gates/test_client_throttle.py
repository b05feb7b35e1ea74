"""The client throttle as a gate: whom it spares, what it hears, and that it is never stuck."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.backpressure.pressure_header import PressureReport, format_pressure
from headgate.errors import InvalidInput, InvalidKey, Overloaded, RateLimited
from headgate.gates.answers import Answer
from headgate.gates.client_throttle import HOLD, ClientThrottle
from headgate.testing import ManualClock
from tests.unit.gates.test_answers import Failure, Response

YEAR = 366 * 86_400


@pytest.fixture
def clock():
    return ManualClock(start_ns=10**15)


def throttle_of(clock, uniform=0.0, **settings):
    return ClientThrottle(clock=clock, uniform=lambda: uniform, **settings)


def refuse(throttle, calls, upstream="search", priority="normal"):
    for _ in range(calls):
        throttle.record(upstream, priority, overloaded=True)


def test_it_lets_all_through_until_it_knows_better(clock):
    throttle = throttle_of(clock)
    assert throttle.allow("search")
    assert throttle.refusal_share("search") == 0.0


def test_what_would_be_refused_is_refused_here(clock):
    throttle = throttle_of(clock, uniform=0.89)
    refuse(throttle, 100)
    decision = throttle.allow("search")
    assert not decision
    assert decision.policy == "client_throttle"
    assert 0.5 <= decision.retry_after <= 1.5
    with pytest.raises(Overloaded) as caught, throttle.guard("search"):
        pass
    assert caught.value.key == "search"
    assert throttle_of(clock, uniform=0.91).allow("search")


def test_refusals_of_our_own_count_as_requests(clock):
    throttle = throttle_of(clock)
    refuse(throttle, 20)
    for _ in range(20):
        throttle.record("search")
    share = throttle.refusal_share("search")
    assert share == 0.0
    refuse(throttle, 1)
    assert not throttle.allow("search")
    assert throttle.refusal_share("search") > share


def test_each_upstream_and_each_tier_for_itself(clock):
    throttle = throttle_of(clock)
    refuse(throttle, 100, "search", "low")
    assert not throttle.allow("search", "low")
    assert not throttle.allow("search", 3)
    assert throttle.allow("search", "high")
    assert throttle.allow("mail", "low")


def test_it_recovers_when_the_upstream_does(clock):
    throttle = throttle_of(clock)
    refuse(throttle, 100)
    assert not throttle.allow("search")
    clock.advance(31)
    assert throttle.allow("search")


def test_a_guard_reads_what_is_raised(clock):
    throttle = throttle_of(clock, uniform=0.99)
    for _ in range(30):
        with pytest.raises(Failure), throttle.guard("search"):
            raise Failure(Response(503, {}))
    assert throttle.refusal_share("search") == 0.9


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_says_nothing_about_the_upstream_is_not_counted(clock, error):
    throttle = throttle_of(clock)
    for _ in range(30):
        with pytest.raises(type(error)), throttle.guard("search"):
            raise error
    assert throttle.allow("search").limit == 0


def test_a_refusal_of_our_own_within_says_nothing(clock):
    throttle = throttle_of(clock)
    inner = throttle_of(clock)
    refuse(inner, 100)
    for _ in range(30):
        with pytest.raises(Overloaded), throttle.guard("search"), inner.guard("search"):
            pass
    assert throttle.allow("search").limit == 0


async def test_tasks_use_the_same_guard(clock):
    throttle = throttle_of(clock)
    async with throttle.guard("search") as decision:
        assert decision.allowed
    refuse(throttle, 100)
    with pytest.raises(Overloaded):
        async with throttle.guard("search"):
            pass


def test_errors_that_are_no_overload_are_accepts(clock):
    throttle = throttle_of(clock)
    for status in (200, 404, 429, 500, 502, 504):
        throttle.learn("search", 2, Answer(status))
    assert throttle.allow("search").limit == 12


def test_pressure_is_heard_and_slows_down_what_matters_least_first(clock):
    throttle = throttle_of(clock, uniform=0.1)
    throttle.hear("search", format_pressure(1.5, 1.0, 1_000, 1))
    assert throttle.pressure("search") == 1.5
    shares = [throttle.refusal_share("search", tier) for tier in range(4)]
    assert shares == [0.0, 0.0, 0.0625, 0.125]
    assert [bool(throttle.allow("search", tier)) for tier in range(4)] == [True, True, True, False]


def test_pressure_tightens_what_an_upstream_gets_to_refuse(clock):
    throttle = throttle_of(clock)
    for _ in range(60):
        throttle.record("search")
    refuse(throttle, 40)
    assert throttle.refusal_share("search") == 0.0
    throttle.hear("search", PressureReport(1.0, 0.6, 1_000, 1))
    assert throttle.refusal_share("search") == 0.0
    throttle.hear("search", PressureReport(1.5, 0.6, 1_000, 2))
    assert throttle.refusal_share("search") == pytest.approx((100 - 72) / 101)
    clock.advance(10)
    assert throttle.refusal_share("search") == 0.0


@pytest.mark.parametrize("text", ["", "v=1;p=nan;adm=1;ttl=1;seq=1", "p=99", None])
def test_hostile_pressure_is_not_heard(clock, text):
    throttle = throttle_of(clock)
    throttle.hear("search", text)
    assert throttle.pressure("search") == 0.0


def test_a_limit_of_ours_that_is_used_up_is_waited_out(clock):
    throttle = throttle_of(clock)
    throttle.hold("search", 3)
    decision = throttle.allow("search", "critical")
    assert not decision
    assert (decision.policy, decision.retry_after) == (HOLD, 3.0)
    with pytest.raises(RateLimited) as caught, throttle.guard("search"):
        pass
    assert not isinstance(caught.value, Overloaded)
    assert throttle.allow("mail")
    clock.advance(3)
    assert throttle.allow("search")


def test_a_hold_is_believed_so_long_and_no_longer(clock):
    throttle = throttle_of(clock, max_hold=60)
    throttle.learn("search", 2, Answer(429, hold_ns=86_400 * 10**9))
    assert throttle.allow("search").retry_after == 60
    throttle.hold("search", 5)
    assert throttle.allow("search").retry_after == 60


def test_an_upstream_may_speak_of_limits_that_are_not_ours(clock):
    throttle = throttle_of(clock, max_hold=None)
    throttle.learn("search", 2, Answer(429, hold_ns=10**9))
    throttle.hold("search", 5)
    assert throttle.allow("search")


@pytest.mark.parametrize("years", [-100, 100])
def test_a_clock_that_jumps_never_sticks_it(clock, years):
    clock.set_ns(0)
    throttle = throttle_of(clock)
    throttle.hold("search", 50)
    refuse(throttle, 100)
    throttle.hear("search", format_pressure(100, 0, 600_000, 1))
    clock.advance(years * YEAR)
    throttle.allow("search")
    clock.advance(700)
    assert throttle.allow("search")


def test_only_so_many_upstreams_are_remembered_and_those_to_spare_longest(clock):
    throttle = throttle_of(clock, max_upstreams=20)
    refuse(throttle, 100, "spared")
    for number in range(1_000):
        throttle.record(f"upstream-{number}")
    assert len(throttle.upstreams()) == 20
    assert not throttle.allow("spared")


def test_reading_remembers_nothing(clock):
    throttle = throttle_of(clock)
    assert throttle.pressure("search") == throttle.refusal_share("search") == 0.0
    assert throttle.upstreams() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"multiplier": 0.9}, "multiplier must be 1 to 100"),
        ({"multiplier": float("nan")}, "multiplier must be 1 to 100"),
        ({"window": 0}, "window must be above 0"),
        ({"window": float("inf")}, "window must be above 0"),
        ({"min_rate": -1}, "min_rate must be 0 to"),
        ({"max_refusal": 1.0}, "max_refusal must be 0 to 0.99"),
        ({"max_refusal": True}, "max_refusal must be a number"),
        ({"max_hold": "60"}, "max_hold must be a number"),
        ({"max_upstreams": 0}, "max_upstreams must be 1 to"),
        ({"uniform": 0.5}, "uniform must be callable"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InvalidInput, match=message):
        ClientThrottle(**settings)


def test_names_and_priorities_are_checked(clock):
    throttle = throttle_of(clock)
    for call in (throttle.allow, throttle.record, throttle.guard, throttle.refusal_share):
        with pytest.raises(InvalidKey):
            call("")
        with pytest.raises(InvalidInput, match="priority must be one of"):
            call("search", "urgent")
    for seconds in (0, -1, float("nan"), None):
        with pytest.raises(InvalidInput, match="seconds must be"):
            throttle.hold("search", seconds)


def test_threads_lose_no_count(clock):
    throttle = throttle_of(clock, uniform=0.99)
    start = threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(500):
            if throttle.allow("search"):
                throttle.record("search")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert throttle.allow("search").limit == 4_000


@pytest.mark.parametrize(
    "report",
    [
        5,
        b"v=1",
        [],
        (1.9, 0.5, 1000, 1),
        PressureReport(float("nan"), 0.5, 1000, 1),
        PressureReport("1.9", 0.5, 1000, 1),
        PressureReport(1.9, float("nan"), 1000, 1),
        PressureReport(1.9, 0.5, 10**18, 1),
        PressureReport(1.9, 0.5, 1000.5, 1),
        PressureReport(1.9, 0.5, 1000, None),
    ],
    ids=repr,
)
def test_what_is_no_report_does_nothing(clock, report):
    throttle = throttle_of(clock)
    throttle.hear("search", report)
    assert throttle.pressure("search") == 0.0
    assert throttle.allow("search", "low")
    throttle.hear("search", PressureReport(1.9, 0.5, 1000, 1))
    assert throttle.pressure("search") == 1.9
