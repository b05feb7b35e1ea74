"""The controlled-delay queue, with plain numbers."""

from __future__ import annotations

from headgate.backpressure.controlled_delay import ControlledDelay, ControlledDelayOrder
from headgate.backpressure.waiting_order import Standing
from tests.support.seating import MS, Play

TARGET, INTERVAL = 20 * MS, 100 * MS


def play(max_waiting: int = 100, seats: int = 1) -> Play:
    return Play(ControlledDelayOrder(TARGET, INTERVAL), seats, max_waiting)


def test_a_line_stands_once_it_was_never_empty_for_more_than_the_interval():
    rule = ControlledDelay(TARGET, INTERVAL)
    assert not rule.is_standing(0)
    rule.began(0)
    assert not rule.is_standing(INTERVAL)
    assert rule.patience(INTERVAL) == INTERVAL
    assert rule.is_standing(INTERVAL + 1)
    assert rule.patience(INTERVAL + 1) == TARGET
    rule.emptied(INTERVAL + 1)
    assert not rule.is_standing(INTERVAL + 1)


def test_patience_is_short_for_an_interval_after_a_line_stood():
    rule = ControlledDelay(TARGET, INTERVAL)
    rule.began(0)
    rule.emptied(INTERVAL)  # it did not stand
    assert rule.patience(INTERVAL) == INTERVAL
    rule.began(INTERVAL)
    rule.emptied(3 * INTERVAL)
    rule.began(3 * INTERVAL)
    assert not rule.is_standing(4 * INTERVAL)
    assert rule.patience(4 * INTERVAL) == TARGET
    rule.emptied(4 * INTERVAL)
    assert rule.patience(4 * INTERVAL + 1) == INTERVAL


def test_a_line_that_empties_in_between_is_a_burst():
    rule = ControlledDelay(TARGET, INTERVAL)
    for begin in range(0, 10 * INTERVAL, INTERVAL):
        rule.began(begin)
        assert not rule.is_standing(begin + INTERVAL)
        rule.emptied(begin + INTERVAL)


def test_the_oldest_is_next_while_calm():
    queue = play()
    for name in "abcd":
        queue.arrive(name)
    assert queue.serve(3) == ["b", "c", "d"]


def test_the_newest_is_next_while_it_stands():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(INTERVAL - 1)  # "a" is about to be sent away
    queue.arrive("b")
    queue.now += 2
    queue.arrive("c")
    assert queue.standing("a") is Standing.EXPIRED
    assert queue.serve(2, MS) == ["c", "b"]


def test_who_joins_a_standing_line_may_wait_for_the_target_only():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(INTERVAL - 1)
    queue.arrive("b")
    queue.now += 2
    queue.arrive("c")
    queue.wait(TARGET)
    assert queue.standing("c") is Standing.EXPIRED
    assert queue.standing("b") is Standing.WAITING  # it joined before the line stood
    queue.wait(INTERVAL - TARGET - 2)
    assert queue.standing("b") is Standing.EXPIRED


def test_newest_first_does_not_switch_itself_off():
    """With CoDel's own minimum as the switch, one quick answer would make it calm again."""
    queue = play()
    queue.arrive("holder")
    for n in range(40):
        queue.arrive(f"a{n}")
        queue.wait(5 * MS)
    for n in range(10):
        queue.arrive(f"b{n}")
        assert queue.serve(1, MS) == [f"b{n}"]


def test_without_room_a_newcomer_is_refused_while_calm():
    queue = play(max_waiting=2)
    queue.arrive("holder")
    assert [queue.arrive(name) for name in "abc"] == [
        Standing.WAITING,
        Standing.WAITING,
        Standing.REFUSED,
    ]


def test_without_room_the_oldest_gives_way_while_it_stands():
    queue = play(max_waiting=2)
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(INTERVAL - 1)
    queue.arrive("b")
    queue.now += 2
    queue.arrive("c")
    assert queue.arrive("d") is Standing.WAITING
    assert queue.standing("b") is Standing.EVICTED
    assert queue.serve(2, MS) == ["d", "c"]


def test_a_large_one_that_is_next_keeps_its_place_while_seats_come_free():
    queue = play(seats=4)
    for n in range(4):
        queue.arrive(f"holder {n}")
    queue.arrive("large", cost=3)
    queue.arrive("small")
    assert queue.serve(2, MS) == []
    assert queue.serve(1, MS) == ["large"]
    assert queue.serve(1, MS) == ["small"]


def test_a_large_one_keeps_its_place_while_newer_ones_come_to_a_standing_line():
    queue = play(seats=3)
    queue.arrive("holder", cost=2)
    queue.arrive("other")
    queue.arrive("old")
    queue.wait(INTERVAL - 1)
    queue.arrive("waits on")
    queue.now += 2
    queue.arrive("large", cost=3)
    queue.leave("other")
    assert queue.standing("large") is Standing.WAITING
    queue.arrive("small")
    assert queue.standing("small") is Standing.WAITING
    queue.leave("holder")
    assert queue.standing("large") is Standing.SEATED
