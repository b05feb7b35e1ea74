"""What an admission queue is told: what makes no sense is refused, in our words."""

from __future__ import annotations

import enum
import logging

import pytest

from headgate.backpressure.service_classes import ServiceClass
from headgate.errors import InvalidCost, InvalidInput, InvalidKey, QueuedTooLong
from headgate.gates.admission_queue import AdmissionQueue
from headgate.testing import ManualClock

NAN, INF = float("nan"), float("inf")
GOLD = ServiceClass("gold", 0.1, 0.6)
BRONZE = ServiceClass("bronze", 1.0, 0.1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seats": 0}, "seats must be 1 to 1000000, got 0"),
        ({"seats": -3}, "seats must be"),
        ({"seats": 1.5}, "seats must be a whole number, got float"),
        ({"seats": True}, "seats must be a whole number"),
        ({"seats": 10**30}, "a huge number"),
        ({"max_waiting": 0}, "max_waiting must be 1 to"),
        ({"max_waiting": "10"}, "max_waiting must be a whole number, got str"),
        ({"discipline": "lifo"}, "discipline must be one of priority, fair, codel, classes"),
        ({"discipline": 3}, "discipline must be one of"),
        ({"discipline": "classes"}, "classes go with discipline 'classes'"),
        ({"discipline": "fair", "classes": [GOLD]}, "classes go with discipline"),
        ({"classes": [GOLD, GOLD]}, "different names"),
        ({"classes": ["gold"]}, "classes must be ServiceClass, got str"),
        ({"max_wait": 0}, "max_wait must be above 0"),
        ({"max_wait": -1.0}, "max_wait must be above 0"),
        ({"max_wait": NAN}, "max_wait must be above 0"),
        ({"max_wait": INF}, "max_wait must be above 0"),
        ({"max_wait": True}, "max_wait must be a number"),
        ({"max_wait": "1s"}, "max_wait must be a number"),
        ({"target_delay": 0}, "target_delay must be above 0"),
        ({"target_delay": NAN}, "target_delay must be above 0"),
        ({"target_delay": 0.2, "discipline": "codel"}, "target_delay must be at most max_wait"),
        ({"weights": [("a", 1)]}, "weights must map flows to numbers, got list"),
        ({"weights": {"a": 0}}, "weight of 'a' must be"),
        ({"weights": {"a": NAN}}, "weight of 'a' must be"),
        ({"weights": {"a": INF}}, "weight of 'a' must be"),
        ({"weights": {"a": True}}, "weight of 'a' must be a number"),
        ({"weights": {3: 1.0}}, "key must be a string"),
        ({"observe_delay": 3}, "observe_delay must be callable"),
        ({"name": ""}, "must not be empty"),
        ({"name": 3}, "must be a string"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, object], says: str):
    with pytest.raises(InvalidInput, match=says):
        AdmissionQueue(**{"seats": 4, **settings})


@pytest.mark.parametrize(
    ("asking", "kind", "says"),
    [
        ({"priority": "urgent"}, InvalidInput, "priority must be one of"),
        ({"priority": 4}, InvalidInput, "priority must be one of"),
        ({"priority": True}, InvalidInput, "priority must be one of"),
        ({"priority": None}, InvalidInput, "priority must be one of"),
        ({"flow": None}, InvalidKey, "key must be a string"),
        ({"flow": 3}, InvalidKey, "key must be a string"),
        ({"flow": "x" * 2000}, InvalidKey, "at most 1024"),
        ({"cost": 0}, InvalidCost, "cost must be >= 1 seat"),
        ({"cost": -1}, InvalidCost, "cost must be"),
        ({"cost": 1.5}, InvalidCost, "cost must be a whole number"),
        ({"cost": NAN}, InvalidCost, "cost must be a whole number"),
        ({"cost": True}, InvalidCost, "cost must be a whole number"),
        ({"cost": 10**13}, InvalidCost, "cost must be"),
        ({"deadline": -0.1}, InvalidInput, "deadline must be 0 to"),
        ({"deadline": NAN}, InvalidInput, "deadline must be"),
        ({"deadline": -INF}, InvalidInput, "deadline must be"),
        ({"deadline": True}, InvalidInput, "deadline must be a number"),
        ({"deadline": "1s"}, InvalidInput, "deadline must be a number"),
        ({"service_class": "gold"}, InvalidInput, "this queue has no classes"),
        ({"service_class": None}, InvalidInput, "service_class must be one of"),
    ],
)
def test_what_is_asked_for_must_make_sense(asking: dict[str, object], kind: type, says: str):
    queue = AdmissionQueue(4)
    with pytest.raises(kind, match=says):
        queue.admit(**asking)
    assert queue.in_flight == 0


@pytest.mark.parametrize("deadline", [None, INF, 10**400, 1e300, 10**9])
def test_a_deadline_far_away_is_none(deadline: float | None):
    clock = ManualClock()
    queue = AdmissionQueue(1, max_wait=3.0, clock=clock)
    with queue.admit(), pytest.raises(QueuedTooLong), queue.admit(deadline=deadline):
        pytest.fail("it must not be let in")
    assert clock.now_ns() == 3 * 10**9


@pytest.mark.parametrize("seats", [0, 1.5, None, True, 10**30])
def test_seats_that_are_set_must_make_sense_too(seats: object):
    queue = AdmissionQueue(4)
    with pytest.raises(InvalidInput, match="seats must be"):
        queue.seats = seats
    assert queue.seats == 4


def test_a_flow_of_a_subclass_of_str_is_its_text():
    class Tenant(enum.StrEnum):
        A = "a"

    queue = AdmissionQueue(1)
    admission = queue.admit(flow=Tenant.A)
    assert type(admission._candidate.flow) is str


def test_with_classes_the_last_is_taken_when_none_is_named():
    queue = AdmissionQueue(1, classes=[GOLD, BRONZE], clock=ManualClock())
    assert queue.admit()._candidate.group == 1
    assert queue.admit(service_class="gold")._candidate.group == 0
    with pytest.raises(InvalidInput, match="one of gold, bronze, got 'silver'"):
        queue.admit(service_class="silver")


def test_what_cannot_be_served_within_the_target_of_its_class_is_refused_at_once():
    clock = ManualClock()
    queue = AdmissionQueue(1, classes=[GOLD, BRONZE], clock=clock)
    with queue.admit():
        clock.advance(0.2)  # so long does it take
    with queue.admit(service_class="gold"):
        clock.advance(0.2)
    with queue.admit(), pytest.raises(QueuedTooLong), queue.admit(service_class="gold"):
        pytest.fail("it must not be let in")
    assert sum(queue.stats().late) == 1


def test_weights_change_the_shares():
    queue = AdmissionQueue(1, discipline="fair", weights={"a": 2, "": 0.5})
    with queue.admit(flow="a"):
        assert queue.in_flight == 1


def test_waits_are_told_to_whoever_wants_them():
    clock = ManualClock()
    seen: list[float] = []
    queue = AdmissionQueue(1, observe_delay=seen.append, clock=clock)
    with queue.admit(), pytest.raises(QueuedTooLong), queue.admit(deadline=0.25):
        pytest.fail("it must not be let in")
    assert seen == [0.0, 0.25]


def test_an_observer_that_raises_is_logged_and_not_called_again(caplog):
    calls = []

    def observe(seconds: float) -> None:
        calls.append(seconds)
        raise ZeroDivisionError

    queue = AdmissionQueue(1, observe_delay=observe, name="mine")
    with caplog.at_level(logging.ERROR, "headgate"):
        for _ in range(3):
            with queue.admit():
                pass
    assert len(calls) == 1
    assert "'mine'" in caplog.text


def test_stats_tell_what_happened():
    queue = AdmissionQueue(2, clock=ManualClock())
    with queue.admit(priority="critical"), queue.admit(priority="low"):
        with pytest.raises(QueuedTooLong), queue.admit(priority="high"):
            pytest.fail("it must not be let in")
        stats = queue.stats()
    assert (stats.seats, stats.taken, stats.waiting) == (2, 2, 0)
    assert stats.admitted == (1, 0, 0, 1)
    assert stats.expired == (0, 1, 0, 0)
    assert stats.refused == stats.evicted == stats.late == (0, 0, 0, 0)


@pytest.mark.parametrize("jump", [-(10.0**9), 10.0**9])
def test_a_clock_that_jumps_by_years_leaves_no_seat_stuck(jump: float):
    clock = ManualClock(10**18)
    queue = AdmissionQueue(1, clock=clock)
    with queue.admit():
        clock.advance(jump)
        with pytest.raises(QueuedTooLong), queue.admit(deadline=1.0):
            pytest.fail("it must not be let in")
        clock.advance(-jump)
    assert queue.in_flight == 0
    with queue.admit(deadline=0):
        pass


@pytest.mark.parametrize("classes", [5, None, 1.5, object()], ids=repr)
def test_classes_that_are_no_list(classes: object):
    with pytest.raises(InvalidInput, match="classes must be a list"):
        AdmissionQueue(2, classes=classes)  # type: ignore[arg-type]
