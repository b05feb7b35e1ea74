"""A limiter whose rate follows the pressure."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from headgate.errors import InvalidInput
from headgate.gates.adaptive_rate import AdaptiveRate
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock
from tests.unit.gates.test_waiting_threads import Crowd


class Bound:
    """A limiter, its rate, and a pressure to set."""

    def __init__(self, rate="100/second", **settings):
        rule = {name: settings.pop(name) for name in ("rule", "threshold") if name in settings}
        self.clock = ManualClock(start_ns=10**15)
        self.limiter = Limiter(rate, clock=self.clock, **settings)
        self.pressure = 0.0
        self.rate = AdaptiveRate(self.limiter, lambda: self.pressure, **rule)

    def look(self, pressure, times=1):
        self.pressure = pressure
        for _ in range(times):
            self.clock.advance(0.25)
            self.rate.update()
        return self.rate.factor

    def drain(self, key="k"):
        count = 0
        while self.limiter.check(key):
            count += 1
        return count


def test_pressure_lowers_the_rate_and_the_decisions_say_so():
    bound = Bound()
    assert bound.look(2.0) == 0.5
    assert bound.limiter.peek("k").limit == 50
    bound.drain()
    bound.clock.advance(0.5)
    assert bound.drain() == 25
    assert bound.limiter.peek("k").retry_after == pytest.approx(0.02)


def test_it_comes_back_when_it_is_used():
    bound = Bound()
    bound.look(2.0)
    for _ in range(20):
        bound.drain()
        bound.look(0.1)
    assert bound.rate.factor == pytest.approx(1.0)


def test_it_does_not_grow_while_nobody_asks():
    bound = Bound()
    bound.look(2.0)
    assert bound.look(0.1, 100) == 0.5


def test_half_of_the_rate_is_enough_to_count_as_used():
    for checks, grows in ((12, False), (13, True)):
        bound = Bound()
        bound.look(0.1)
        for _ in range(checks):
            bound.limiter.check("k")
        assert (bound.look(0.1) > 1.0) == grows


def test_a_change_hands_nobody_a_fresh_allowance():
    bound = Bound("100/second", burst=100)
    keys = [f"user:{number}" for number in range(5)]
    for key in keys:
        bound.drain(key)
    for pressure in (5.0, 0.1, 5.0, 0.1):
        bound.pressure = pressure
        bound.clock.advance_ns(1)
        bound.limiter.set_pace(0.5 if pressure > 1 else 2.0)
        assert [bound.drain(key) for key in keys] == [0] * 5


def test_a_slow_limit_still_comes_back_while_its_rate_changes_all_the_time():
    bound = Bound("6/minute", burst=1)
    bound.drain()
    waited = 0
    while not bound.limiter.check("k"):
        bound.limiter.set_pace((0.9, 1.1)[waited % 2])
        bound.clock.advance(0.25)
        waited += 1
    assert 39 <= waited <= 42


def test_looks_that_come_too_soon_change_nothing():
    bound = Bound()
    assert bound.look(2.0) == 0.5
    for _ in range(100):
        assert bound.rate.update() == 0.5


def test_stepwise_and_its_settings():
    bound = Bound(rule="stepwise", threshold=0.5)
    assert bound.look(0.6) == pytest.approx(0.9)


def test_an_async_limiter_and_a_report_that_is_handed_in():
    limiter = AsyncLimiter("100/second", clock=ManualClock())
    rate = AdaptiveRate(limiter, lambda: 2.0)
    assert rate.update("a report") == 0.5
    assert limiter.sync.peek("k").limit == 50


def test_several_rates_change_together():
    bound = Bound("100/second;1000/minute")
    bound.look(2.0)
    assert [usage.limit for usage in bound.limiter.usage("k")] == [50, 500]


@pytest.mark.parametrize("source", [lambda: 1 / 0, lambda: None, lambda: "high", lambda: 10**400])
def test_a_source_that_fails_changes_nothing_and_is_complained_of_once(source, caplog):
    clock = ManualClock()
    rate = AdaptiveRate(Limiter("100/second", clock=clock), source)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert rate.update() == 1.0
            clock.advance(1.0)
    assert len(caplog.records) == 1


def test_no_number_is_no_pressure():
    bound = Bound()
    assert bound.look(float("nan"), 3) == 1.0
    assert bound.look(float("inf")) == 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        (None, lambda: 0.0),
        ("100/second", lambda: 0.0),
        (Limiter("5/second"), None),
        (Limiter("5/second"), 0.5),
        (Limiter("5/second"), lambda: 0.0, "aimed"),
        (Limiter("5/second", algorithm="concurrency"), lambda: 0.0),
        (Limiter("5/day tz=Europe/Paris"), lambda: 0.0),
    ],
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InvalidInput):
        AdaptiveRate(*arguments)


@pytest.mark.parametrize("factor", [0, -1, 2.01, float("nan"), float("inf"), True, "1", None])
def test_impossible_paces_are_refused(factor):
    limiter = Limiter("5/second")
    with pytest.raises(InvalidInput, match=r"factor must be a number from 0\.001 to 2"):
        limiter.set_pace(factor)


def test_who_waits_is_woken_when_the_rate_goes_up():
    clock = SteppedClock()
    limiter = Limiter("1/second", burst=1, clock=clock)
    limiter.check("k")
    limiter.set_pace(0.25)
    with ThreadPoolExecutor(1) as pool:
        crowd = Crowd(limiter, clock, pool)
        crowd.join("a")
        clock.advance(1.0)
        limiter.set_pace(2.0)  # three quarters of a token are missing
        clock.until_waiting(1)
        clock.advance(0.374)
        assert crowd.order == []
        clock.advance(0.001)
        crowd.left[0].result(PATIENCE)
    assert crowd.order == ["a"]
