"""The priority queue, with plain numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from headgate.backpressure.priority_queue import PriorityOrder
from headgate.backpressure.waiting_order import Standing
from tests.support.seating import MS, SECOND, SERVICE, Play


def play(max_waiting: int = 10, seats: int = 1, max_wait: int = 3600 * SECOND) -> Play:
    return Play(PriorityOrder(max_wait, max_waiting, {}), seats, max_waiting)


def test_the_important_go_first_and_equals_in_order():
    queue = play()
    queue.arrive("holder")
    for name, tier in (("d", 3), ("c", 2), ("a", 0), ("b", 1), ("a2", 0)):
        queue.arrive(name, tier=tier)
    assert queue.serve(5) == ["a", "a2", "b", "c", "d"]


def test_in_a_tier_flows_share():
    queue = play(max_waiting=60)
    queue.arrive("holder")
    for n in range(30):
        queue.arrive(f"e{n}", tier=1, flow="e")
    for n in range(5):
        queue.arrive(f"m{n}", tier=1, flow="m")
    assert Counter(name[0] for name in queue.serve(10)) == {"e": 5, "m": 5}


def test_without_room_the_least_important_gives_way():
    queue = play(max_waiting=3)
    queue.arrive("holder")
    for name, tier in (("a", 1), ("b", 2), ("c", 3)):
        queue.arrive(name, tier=tier)
    assert queue.arrive("d", tier=3) is Standing.REFUSED
    assert queue.arrive("e", tier=1) is Standing.WAITING
    assert queue.standing("c") is Standing.EVICTED
    assert queue.arrive("f", tier=0) is Standing.WAITING
    assert queue.standing("b") is Standing.EVICTED
    assert queue.standing("holder") is Standing.SEATED


def test_in_a_tier_the_flow_furthest_ahead_gives_way():
    queue = play(max_waiting=5)
    queue.arrive("holder")
    for n in range(5):
        queue.arrive(f"e{n}", tier=0, flow="e")
    assert queue.arrive("m", tier=0, flow="m") is Standing.WAITING
    assert queue.standing("e4") is Standing.EVICTED


def test_who_has_waited_for_half_the_longest_wait_stands_one_tier_better():
    queue = play(max_wait=2 * SECOND)
    queue.arrive("holder")
    queue.arrive("low", tier=3)
    queue.wait(SECOND - 1)
    queue.arrive("normal", tier=2)
    assert queue.candidates["low"].level == 3
    queue.now += 1
    queue.arrive("late normal", tier=2)
    queue.arrive("high", tier=1)
    queue.leave("holder")
    assert queue.candidates["low"].level == 2
    assert queue.order[1:] == ["high"]
    assert queue.serve(3, MS) == ["low", "normal", "late normal"]


def test_it_is_one_tier_at_most():
    queue = play(max_wait=2 * SECOND)
    queue.arrive("holder")
    queue.arrive("low", tier=3)
    queue.wait(2 * SECOND - 1)
    queue.arrive("high", tier=1)
    queue.leave("holder")
    assert queue.order[1:] == ["high"]
    assert queue.candidates["low"].level == 2


def test_one_that_leaves_before_or_after_ageing_leaves_nothing_behind():
    queue = play(max_wait=2 * SECOND)
    queue.arrive("holder")
    for name in ("before", "after"):
        queue.arrive(name, tier=3)
    queue.leave("before")
    queue.wait(SECOND)
    queue.leave("holder")
    assert queue.order[1:] == ["after"]
    queue.leave("after")
    order = queue.seating._order
    assert [len(lane) + lane.aged for lane in order._lanes] == [0] * 4
    assert [len(ages) for ages in order._unaged] == [0] * 4


@pytest.mark.parametrize("took", [SERVICE, 5 * SERVICE])
def test_a_tier_that_waits_gets_its_twentieth_of_the_seats(took: int):
    queue = play(max_waiting=100)
    queue.arrive("h0", tier=0)
    spent = Counter()
    for n in range(3000):
        queue.arrive(f"a{n}", tier=0)
        queue.arrive(f"l{n}", tier=3)
        seated = next(n for n, c in queue.candidates.items() if c.standing is Standing.SEATED)
        time = took if seated[0] == "l" else SERVICE
        queue.now += time
        queue.leave(seated)
        spent[seated[0]] += time
        queue.candidates = {
            name: c
            for name, c in queue.candidates.items()
            if c.standing in {Standing.SEATED, Standing.WAITING}
        }
    assert spent["l"] / spent.total() == pytest.approx(1 / 21, rel=0.1)


def test_three_tiers_that_wait_get_a_twentieth_each():
    queue = play(max_waiting=400)
    queue.arrive("holder", tier=0)
    for n in range(100):
        for tier in range(4):
            queue.arrive(f"{tier}{n}", tier=tier)
    counts = Counter(name[0] for name in queue.serve(100))
    assert counts["0"] == pytest.approx(87, abs=2)
    assert all(3 <= counts[tier] <= 5 for tier in "123")


def test_a_claim_ends_with_the_waiting():
    queue = play(max_waiting=400)
    queue.arrive("holder", tier=0)
    queue.arrive("low", tier=3)
    for n in range(15):
        queue.arrive(f"a{n}", tier=0)
    queue.serve(14)
    queue.leave("low")
    queue.arrive("low again", tier=3)
    for n in range(15):
        queue.arrive(f"b{n}", tier=0)
    assert "low again" not in queue.serve(10)


def test_a_tier_keeps_a_twentieth_of_the_places():
    queue = play(max_waiting=40)  # two places for each tier
    queue.arrive("holder")
    for n in range(4):
        queue.arrive(f"low{n}", tier=3)
    for n in range(60):
        queue.arrive(f"a{n}", tier=0, flow=f"{n}")
    assert [queue.standing(f"low{n}") for n in range(4)] == [
        Standing.WAITING,
        Standing.WAITING,
        Standing.EVICTED,
        Standing.EVICTED,
    ]


def test_a_tier_below_its_places_takes_one_even_from_a_more_important():
    queue = play(max_waiting=40)
    queue.arrive("holder")
    for n in range(40):
        queue.arrive(f"a{n}", tier=0)
    outcomes = [queue.arrive(f"low{n}", tier=3) for n in range(3)]
    assert outcomes == [Standing.WAITING, Standing.WAITING, Standing.REFUSED]


def test_a_large_one_of_a_low_tier_is_served_under_a_flood_of_important_ones():
    queue = play(max_waiting=100, seats=50)
    for n in range(50):
        queue.arrive(f"h{n}", tier=0)
    queue.arrive("large", tier=3, cost=50)
    served = 0
    while queue.standing("large") is not Standing.SEATED:
        queue.arrive(f"a{served}", tier=0)
        queue.serve(1, SERVICE // 50)
        served += 1
        assert served < 1500
    assert served >= 900  # of which fifty seats are a twentieth
