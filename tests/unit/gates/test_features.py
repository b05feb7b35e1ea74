"""Features, with a pressure that is told and time that is moved."""

from __future__ import annotations

import inspect
import pickle
import threading
from math import inf, nan

import pytest

from headgate.errors import FeatureOff, InvalidInput, NotFound, Overloaded, RateLimited
from headgate.gates.features import Features
from headgate.testing import ManualClock


class Pressure:
    def __init__(self):
        self.value = 0.0

    def __call__(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def pressure():
    return Pressure()


@pytest.fixture
def features(pressure, clock):
    return Features(pressure, clock=clock, uniform=lambda: 0.5)


def test_it_goes_off_with_pressure_and_comes_back_after_the_hold(features, pressure, clock):
    features.add("extra", off_at=0.8, on_below=0.6, hold=5)
    assert features.is_on("extra")
    pressure.value = 0.8
    assert not features.is_on("extra")
    pressure.value = 0.5
    clock.advance(4.9)
    assert not features.is_on("extra")
    clock.advance(0.1)
    assert features.is_on("extra")


def test_features_go_off_one_after_the_other(features, pressure):
    for name, level in (("nice", "elevated"), ("useful", "high"), ("needed", "critical")):
        features.add(name, off_at=level)
    seen = []
    for value in (0.4, 0.5, 0.8, 1.0):
        pressure.value = value
        seen.append(([state.on for state in features.states()], features.level()))
    assert seen == [
        ([True, True, True], "normal"),
        ([False, True, True], "elevated"),
        ([False, False, True], "high"),
        ([False, False, False], "critical"),
    ]


def test_its_state_says_all_of_it(features, pressure, clock):
    features.add("extra", off_at=0.8, on_below=0.5, hold=10)
    pressure.value = 0.9
    features.is_on("extra")
    pressure.value = 0.1
    clock.advance(4)
    (state,) = features.states()
    assert state == features.state("extra")
    assert (state.name, state.on, state.forced) == ("extra", False, None)
    assert (state.off_at, state.on_below, state.pressure) == (0.8, 0.5, 0.1)
    assert state.retry_after == 6.0


def test_on_below_is_three_quarters_when_left_out(features):
    features.add("extra", off_at=0.8)
    assert features.state("extra").on_below == pytest.approx(0.6)


# --- by hand ----------------------------------------------------------------------------------------------


def test_what_is_forced_does_not_follow_the_pressure(features, pressure):
    features.add("extra")
    features.force("extra", False)
    assert not features.is_on("extra")
    pressure.value = 2.0
    features.force("extra", True)
    assert features.is_on("extra")
    assert features.state("extra").forced is True
    features.force("extra", None)
    assert not features.is_on("extra")


def test_without_a_source_only_hands_move_it(clock):
    features = Features(clock=clock)
    features.add("extra")
    assert features.is_on("extra")
    features.force("extra", False)
    assert not features.is_on("extra")


@pytest.mark.parametrize("value", [1, 0, "on", 0.5])
def test_force_takes_three_values(features, value):
    features.add("extra")
    with pytest.raises(InvalidInput, match="True, False or None"):
        features.force("extra", value)


def test_what_is_unknown_is_not_found(features):
    for ask in (features.is_on, features.state, lambda name: features.force(name, True)):
        for name in ("nothing", None, [], 3):
            with pytest.raises(NotFound, match="there is no feature"):
                ask(name)


# --- health -----------------------------------------------------------------------------------------------


def off_and_calm(features, pressure, clock, hold=5.0):
    pressure.value = 1.0
    assert not features.is_on("extra")
    pressure.value = 0.0
    clock.advance(hold)


@pytest.mark.parametrize("bad", [False, None, 0, OSError("down")])
def test_an_unhealthy_feature_waits_twice_as_long(features, pressure, clock, bad, caplog):
    answers = [bad, bad, True]

    def health():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    features.add("extra", hold=5, health=health)
    off_and_calm(features, pressure, clock)
    assert not features.is_on("extra")
    clock.advance(9.9)
    assert not features.is_on("extra")
    assert len(answers) == 2
    clock.advance(0.1)
    assert not features.is_on("extra")
    clock.advance(20)
    assert features.is_on("extra")
    assert answers == []


def test_health_is_not_asked_while_it_is_on_or_under_pressure(features, pressure, clock):
    asked = []
    features.add("extra", hold=5, health=lambda: asked.append(1) or True)
    features.is_on("extra")
    pressure.value = 1.0
    for _ in range(20):
        features.is_on("extra")
        clock.advance(5)
    assert asked == []


def test_one_caller_asks_its_health_and_the_others_do_not_wait(features, pressure, clock):
    inside, leave, asked = threading.Event(), threading.Event(), []

    def health():
        asked.append(threading.current_thread())
        inside.set()
        leave.wait()
        return True

    features.add("extra", hold=5, health=health)
    off_and_calm(features, pressure, clock)
    asking = threading.Thread(target=features.is_on, args=("extra",))
    asking.start()
    inside.wait()
    assert not any(features.is_on("extra") for _ in range(10))
    leave.set()
    asking.join()
    assert asked == [asking]
    assert features.is_on("extra")


class Hanging:
    """A health check that hangs when the first thread asks, until it is let go."""

    def __init__(self, features, late_answer):
        self.inside, self.leave = threading.Event(), threading.Event()
        self.late_answer = late_answer
        self.well = True
        self.asked = 0
        self.thread = threading.Thread(target=features.is_on, args=("extra",))

    def __call__(self):
        self.asked += 1
        if threading.current_thread() is self.thread:
            self.inside.set()
            self.leave.wait()
            return self.late_answer
        return self.well

    def hang(self):
        self.thread.start()
        self.inside.wait()

    def let_go(self):
        self.leave.set()
        self.thread.join()


def test_a_health_check_that_hangs_does_not_keep_it_off(features, pressure, clock):
    health = Hanging(features, late_answer=False)
    seen = []
    features.subscribe(lambda state: seen.append(state.on))
    features.add("extra", hold=5, health=health)
    off_and_calm(features, pressure, clock)
    health.hang()
    clock.advance(29.9)
    assert not features.is_on("extra")
    clock.advance(0.1)
    assert not features.is_on("extra")  # it hung: that is a no, and the wait begins anew
    assert not features.is_on("extra")
    assert health.asked == 1
    clock.advance(10)
    assert features.is_on("extra")
    health.let_go()
    assert features.is_on("extra")
    assert seen == [False, True]


def test_what_a_hung_health_check_says_at_last_is_not_heard(features, pressure, clock):
    health = Hanging(features, late_answer=True)
    features.add("extra", hold=5, health=health)
    off_and_calm(features, pressure, clock)
    health.hang()
    clock.advance(30)
    assert not features.is_on("extra")
    health.let_go()
    assert not features.is_on("extra")
    health.well = False
    clock.advance(10)
    assert not features.is_on("extra")


def test_a_health_check_that_is_interrupted_leaves_the_right_to_ask(features, pressure, clock):
    def health():
        raise KeyboardInterrupt

    features.add("extra", hold=5, health=health)
    off_and_calm(features, pressure, clock)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            features.is_on("extra")
        clock.advance(60)


def test_a_health_check_may_ask_for_its_own_feature(features, pressure, clock):
    features.add("extra", hold=5, health=lambda: not features.is_on("extra"))
    off_and_calm(features, pressure, clock)
    assert features.is_on("extra")


# --- decorated functions ----------------------------------------------------------------------------------


def test_a_function_gives_way_to_its_fallback(features, pressure):
    @features.feature("extra", fallback=lambda item, *, most: ("cheap", item, most))
    def extra(item, *, most):
        """Dear."""
        return ("dear", item, most)

    assert extra.__doc__ == "Dear."
    assert extra("a", most=3) == ("dear", "a", 3)
    pressure.value = 1.0
    assert extra("a", most=3) == ("cheap", "a", 3)


async def test_so_does_a_coroutine_function_whatever_its_fallback_is(features, pressure):
    async def slow(item):
        return ("slow", item)

    features.add("extra", fallback=slow)

    @features.feature("extra")
    async def extra(item):
        return ("dear", item)

    @features.feature("extra", fallback=lambda item: ("plain", item))
    async def other(item):
        return ("dear", item)

    assert inspect.iscoroutinefunction(extra)
    assert await extra("a") == ("dear", "a")
    pressure.value = 1.0
    assert await extra("a") == ("slow", "a")
    assert await other("a") == ("plain", "a")


def test_generators_are_decided_about_when_they_are_made(features, pressure):
    @features.feature("extra", fallback=lambda: iter("cheap"))
    def extra():
        yield from "dear"

    running = extra()
    assert next(running) == "d"
    pressure.value = 1.0
    assert "".join(extra()) == "cheap"
    assert "".join(running) == "ear"


def test_without_a_fallback_it_says_that_it_is_off_and_for_how_long(features, pressure):
    @features.feature("extra", hold=5)
    def extra(): ...

    pressure.value = 1.0
    with pytest.raises(FeatureOff, match="'extra' is switched off") as caught:
        extra()
    error = caught.value
    assert isinstance(error, Overloaded)
    assert isinstance(error, RateLimited)
    assert (error.code, error.status) == ("feature_off", 503)
    assert error.decision.retry_after == 5.0
    assert pickle.loads(pickle.dumps(error)).decision == error.decision


def test_what_is_forced_off_asks_to_retry_at_some_time(features):
    @features.feature("extra")
    def extra(): ...

    features.force("extra", False)
    with pytest.raises(FeatureOff) as caught:
        extra()
    assert caught.value.decision.retry_after_ns > 0


def test_failures_of_the_function_and_of_the_fallback_are_the_callers(features, pressure):
    @features.feature("extra", fallback=lambda: 1 // 0)
    def extra():
        raise KeyError

    with pytest.raises(KeyError):
        extra()
    pressure.value = 1.0
    with pytest.raises(ZeroDivisionError):
        extra()


def test_methods_of_all_kinds(features, pressure):
    class Shop:
        @features.feature("extra", fallback=lambda self: "cheap")
        def plain(self):
            return "dear"

        @classmethod
        @features.feature("extra", fallback=lambda cls: cls.__name__)
        def of_class(cls):
            return "dear"

        @staticmethod
        @features.feature("extra", fallback=lambda: "cheap")
        def static():
            return "dear"

    assert (Shop().plain(), Shop.of_class(), Shop.static()) == ("dear",) * 3
    pressure.value = 1.0
    assert (Shop().plain(), Shop.of_class(), Shop.static()) == ("cheap", "Shop", "cheap")


@pytest.mark.parametrize("what", [classmethod(len), 3, None, int])
def test_only_functions_are_decorated(features, what):
    with pytest.raises(InvalidInput, match="decorates functions"):
        features.feature("extra")(what)


def test_settings_are_given_once(features):
    features.add("extra")
    with pytest.raises(InvalidInput, match="where it is added"):
        features.feature("extra", off_at=0.3)


# --- observers and sources --------------------------------------------------------------------------------


def test_listeners_hear_of_every_change_once(features, pressure, clock):
    seen = []
    end = features.subscribe(lambda state: seen.append((state.name, state.on)))
    features.add("extra", hold=5)
    for value in (0.0, 1.0, 1.0, 0.0):
        pressure.value = value
        features.update("a report of a monitor")
    clock.advance(5)
    features.update()
    features.force("extra", False)
    features.force("extra", False)
    features.force("extra", None)
    assert seen == [("extra", False), ("extra", True), ("extra", False), ("extra", True)]
    end()
    features.force("extra", False)
    assert len(seen) == 4


def test_a_change_under_a_forced_state_is_no_change(features, pressure):
    seen = []
    features.subscribe(seen.append)
    features.add("extra")
    features.force("extra", True)
    pressure.value = 1.0
    assert features.is_on("extra")
    assert seen == []


def test_a_listener_that_raises_is_logged_and_removed(features, pressure, caplog):
    def broken(state):
        raise RuntimeError("listener")

    features.subscribe(broken)
    features.add("extra")
    pressure.value = 1.0
    assert not features.is_on("extra")
    assert "is removed" in caplog.text
    caplog.clear()
    features.force("extra", True)
    assert "is removed" not in caplog.text


@pytest.mark.parametrize("value", [nan, -1.0, OSError("no reading"), None, "high"])
def test_a_source_that_fails_is_no_pressure(features, pressure, clock, value, caplog):
    features.add("extra", hold=5)
    pressure.value = 1.0
    assert not features.is_on("extra")
    pressure.value = value
    for _ in range(3):
        clock.advance(5)
        features.update()
    assert features.is_on("extra")
    assert features.state("extra").pressure == 0.0
    assert len([r for r in caplog.records if "pressure source failed" in r.message]) <= 1


def test_boundless_pressure_switches_off(features, pressure):
    features.add("extra")
    pressure.value = inf
    assert not features.is_on("extra")


def test_many_threads_see_one_change(features, pressure):
    seen = []
    features.subscribe(seen.append)
    features.add("extra")
    start = threading.Barrier(8)

    def ask():
        start.wait()
        for _ in range(200):
            features.is_on("extra")

    pressure.value = 1.0
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state.on for state in seen] == [False]


# --- settings that make no sense --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -0.1, nan, inf, 2.1, True, "huge", None, []])
def test_thresholds_that_make_no_sense(features, value):
    with pytest.raises(InvalidInput, match="off_at must be"):
        features.add("extra", off_at=value)


@pytest.mark.parametrize("value", [0, -0.1, nan, inf, 0.81, True, "low"])
def test_lower_thresholds_that_make_no_sense(features, value):
    with pytest.raises(InvalidInput, match=r"on_below must be above 0 and at most 0\.8"):
        features.add("extra", off_at=0.8, on_below=value)


@pytest.mark.parametrize("value", [0, -1, nan, inf, 90_000, True, "5s", None])
def test_holds_that_make_no_sense(features, value):
    with pytest.raises(InvalidInput, match="hold must be"):
        features.add("extra", hold=value)


async def sick():
    return False


@pytest.mark.parametrize("health", [sick, True, "ok"])
def test_health_that_cannot_be_asked(features, health):
    with pytest.raises(InvalidInput, match="health must be a plain function"):
        features.add("extra", health=health)


def test_other_settings_that_make_no_sense(features):
    with pytest.raises(InvalidInput, match="fallback must be callable"):
        features.add("extra", fallback=[])
    for name in ("", "x" * 1025, None, 3):
        with pytest.raises(InvalidInput, match="name must be text of 1 to 1024 characters"):
            features.add(name)
    with pytest.raises(InvalidInput, match="pressure must be a callable"):
        Features(0.5)
    with pytest.raises(InvalidInput, match="listener must be callable"):
        features.subscribe("me")
    features.add("extra")
    with pytest.raises(InvalidInput, match="already"):
        features.add("extra")


def test_what_draws_must_be_callable():
    with pytest.raises(InvalidInput, match="uniform must be callable"):
        Features(uniform=0.5)
