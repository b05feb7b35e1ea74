"""Service classes, with plain numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from headgate.backpressure.service_classes import MAX_CLASSES, ClassOrder, ServiceClass
from headgate.backpressure.waiting_order import Standing
from headgate.errors import InvalidInput
from tests.support.seating import MS, SERVICE, Play

GOLD = ServiceClass("gold", target_latency=0.1, share=0.6)
SILVER = ServiceClass("silver", target_latency=0.5, share=0.3)
BRONZE = ServiceClass("bronze", target_latency=2.0, share=0.1)
CLASSES = (GOLD, SILVER, BRONZE)


def play(classes=CLASSES, seats: int = 1, max_waiting: int = 1000) -> Play:
    queue = Play(ClassOrder(classes, seats, {}), seats, max_waiting)
    queue.arrive("holder", group=len(classes) - 1)
    return queue


def test_shares_hold_when_all_want_more_than_there_is():
    queue = play()
    counts: Counter[int] = Counter()
    for n in range(600):
        for group in range(3):
            queue.arrive(f"{group} {n}", group=group)
        counts.update(int(name[0]) for name in queue.serve(1) if n >= 100)
    assert counts[0] == pytest.approx(300, abs=6)
    assert counts[1] == pytest.approx(150, abs=6)
    assert counts[2] == pytest.approx(50, abs=6)


def test_what_a_class_leaves_goes_to_the_others():
    queue = play()
    counts: Counter[int] = Counter()
    for n in range(300):
        queue.arrive(f"2 {n}", group=2)
        counts.update(int(name[0]) for name in queue.serve(1) if name != "holder")
    assert counts == {2: 300}


def test_a_class_saves_nothing_up():
    queue = play()
    for n in range(300):
        queue.arrive(f"2 {n}", group=2)
        queue.serve(1)
    counts: Counter[int] = Counter()
    for n in range(300):
        queue.arrive(f"2 more {n}", group=2)
        queue.arrive(f"0 {n}", group=0)
        counts.update(int(name[0]) for name in queue.serve(1))
    assert counts[0] == pytest.approx(300 * 6 / 7, abs=6)


def test_within_their_shares_the_earliest_deadline_goes_first():
    queue = play()
    queue.arrive("bronze", group=2)
    queue.wait(MS)
    queue.arrive("silver", group=1)
    queue.arrive("gold", group=0)
    assert queue.serve(3) == ["gold", "silver", "bronze"]
    queue = Play(ClassOrder(CLASSES, 1, {}))
    queue.arrive("holder", group=1)
    queue.arrive("bronze", group=2)
    queue.wait(int(1.95e9))
    queue.arrive("gold", group=0)
    assert queue.serve(2, MS) == ["bronze", "gold"]


def test_one_that_would_come_too_late_is_refused_at_once():
    queue = play()
    outcomes = [queue.arrive(f"gold {n}", group=0) for n in range(12)]
    # Nobody else waits: ten wait for 0 to 90 ms, and are served in another ten.
    assert outcomes == [Standing.WAITING] * 10 + [Standing.LATE] * 2


def test_others_that_wait_are_reckoned_with_by_their_share():
    queue = play()
    for n in range(5):
        queue.arrive(f"silver {n}", group=1)
    outcomes = [queue.arrive(f"gold {n}", group=0) for n in range(9)]
    # Two thirds of the seat are gold's: 90 ms are enough for six.
    assert outcomes == [Standing.WAITING] * 7 + [Standing.LATE] * 2


def test_more_seats_admit_more():
    queue = play()
    queue.seating.resize(2, queue.now)
    outcomes = [queue.arrive(f"gold {n}", group=0) for n in range(23)]
    assert outcomes == [Standing.SEATED] + [Standing.WAITING] * 19 + [Standing.LATE] * 3


def test_one_whose_service_can_no_longer_end_in_time_is_given_up():
    queue = play()
    queue.arrive("gold", group=0)
    queue.wait(90 * MS)
    assert queue.standing("gold") is Standing.EXPIRED


def test_a_class_that_became_slower_than_its_target_is_still_served_where_seats_are_free():
    queue = play((GOLD,))
    for n in range(30):
        queue.leave("holder")
        assert queue.arrive(f"slow {n}") is Standing.SEATED
        queue.candidates["holder"] = queue.candidates[f"slow {n}"]
        assert queue.arrive(f"more {n}") in {Standing.WAITING, Standing.LATE}
        queue.wait(300 * MS)
    assert queue.arrive("more") is Standing.LATE
    for n in range(60):
        queue.leave("holder")
        assert queue.arrive(f"fast {n}") is Standing.SEATED
        queue.candidates["holder"] = queue.candidates[f"fast {n}"]
        queue.wait(MS)
    assert queue.arrive("again") is Standing.WAITING


def test_in_a_class_flows_share():
    queue = play()
    for n in range(20):
        queue.arrive(f"e{n}", group=1, flow="e")
    queue.arrive("m", group=1, flow="m")
    assert "m" in queue.serve(2)


def test_without_room_the_class_that_has_most_of_its_share_gives_way():
    queue = play(max_waiting=10)
    for n in range(10):
        queue.arrive(f"bronze {n}", group=2)
    assert queue.arrive("silver", group=1) is Standing.WAITING
    assert queue.standing("bronze 9") is Standing.EVICTED
    assert queue.arrive("bronze", group=2) is Standing.REFUSED


def test_without_room_a_class_within_its_share_is_left_alone():
    patient = [ServiceClass(f"{share}", 60.0, share / 10) for share in (6, 3, 1)]
    queue = play(patient, max_waiting=10)
    for group, count in enumerate((6, 3, 1)):
        for n in range(count):
            queue.arrive(f"{group} {n}", group=group)
    assert [queue.arrive(f"more {group}", group=group) for group in range(3)] == [
        Standing.REFUSED
    ] * 3
    assert queue.seating.waiting == 10


@pytest.mark.parametrize(
    ("name", "target", "share", "says"),
    [
        ("", 1.0, 0.5, "needs a name"),
        (None, 1.0, 0.5, "needs a name"),
        ("x" * 101, 1.0, 0.5, "needs a name"),
        ("a", 0, 0.5, "target_latency must be above 0"),
        ("a", float("nan"), 0.5, "target_latency must be above 0"),
        ("a", float("inf"), 0.5, "target_latency must be above 0"),
        ("a", 10**400, 0.5, "a huge number"),
        ("a", True, 0.5, "target_latency must be a number"),
        ("a", "1", 0.5, "target_latency must be a number, got str"),
        ("a", 1.0, 0.0, "share must be above 0"),
        ("a", 1.0, 1.5, "share must be above 0 and at most 1"),
        ("a", 1.0, -1, "share must be above 0"),
        ("a", 1.0, None, "share must be a number"),
    ],
)
def test_a_class_that_makes_no_sense_is_refused(name, target, share, says: str):
    with pytest.raises(InvalidInput, match=says):
        ServiceClass(name, target, share)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((), "1 to 64 classes, got 0"),
        ((GOLD,) * (MAX_CLASSES + 1), "1 to 64 classes"),
        ((GOLD, ServiceClass("gold", 1.0, 0.1)), "different names"),
        ((GOLD, ServiceClass("other", 1.0, 0.5)), "sum to at most 1, got 1.1"),
    ],
)
def test_classes_that_do_not_go_together_are_refused(classes, says: str):
    with pytest.raises(InvalidInput, match=says):
        ClassOrder(classes, 1, {})


def test_a_share_of_tenths_sums_to_one():
    ClassOrder([ServiceClass(f"{n}", 1.0, 0.1) for n in range(10)], 1, {})


def test_service_estimates_are_of_the_class():
    queue = play()
    queue.serve(1, 10 * SERVICE)
    assert queue.arrive("gold", group=0) is Standing.SEATED
    assert [queue.arrive(f"gold {n}", group=0) for n in range(11)].count(Standing.LATE) == 1
