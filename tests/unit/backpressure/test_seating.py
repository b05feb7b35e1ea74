"""Seats, room and patience, with plain numbers."""

from __future__ import annotations

import pytest

from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.waiting_order import Candidate, Ranking, ServiceTime, Standing
from tests.support.seating import MS, SECOND, Play

YEARS = 10 * 366 * 86_400 * SECOND


def play(seats: int = 1, max_waiting: int = 10) -> Play:
    return Play(FairOrder(SECOND, {}), seats, max_waiting)


def test_free_seats_are_given_at_once():
    queue = play(seats=3)
    assert [queue.arrive(name, cost=2) for name in "ab"] == [Standing.SEATED, Standing.WAITING]
    assert queue.seating.taken == 2
    queue.leave("a")
    assert queue.standing("b") is Standing.SEATED
    assert queue.seating.taken == 2


def test_the_first_that_does_not_fit_reserves_what_comes_free():
    queue = play(seats=3)
    for name in ("h1", "h2"):
        queue.arrive(name)
    queue.arrive("large", cost=3)
    assert queue.arrive("small") is Standing.WAITING  # though there is a seat for it
    queue.leave("h1")
    assert queue.standing("small") is Standing.WAITING
    queue.leave("h2")
    assert queue.standing("large") is Standing.SEATED


def test_when_the_one_that_reserves_goes_away_the_next_is_seated():
    queue = play(seats=3)
    queue.arrive("holder")
    queue.arrive("large", cost=3)
    queue.arrive("small")
    queue.leave("large")
    assert queue.standing("small") is Standing.SEATED


def test_when_the_one_that_reserves_has_waited_enough_the_next_is_seated():
    queue = play(seats=3)
    queue.arrive("holder")
    queue.arrive("large", cost=3, patience_ns=MS)
    queue.arrive("small")
    queue.wait(MS)
    assert queue.standing("large") is Standing.EXPIRED
    assert queue.standing("small") is Standing.WAITING or queue.seating.taken == 2


def test_one_that_wants_more_seats_than_there_are_takes_all():
    queue = play(seats=3)
    assert queue.arrive("huge", cost=10**12) is Standing.SEATED
    assert queue.seating.taken == 3
    assert queue.arrive("next") is Standing.WAITING
    queue.leave("huge")
    assert queue.standing("next") is Standing.SEATED


def test_patience_that_is_over_sends_away_and_just_enough_is_enough():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a", patience_ns=MS)
    queue.arrive("b", patience_ns=MS)
    queue.now += MS
    queue.leave("holder")
    assert queue.standing("a") is Standing.SEATED
    assert queue.standing("b") is Standing.EXPIRED
    assert queue.seating.waiting == 0


def test_no_patience_never_waits():
    queue = play()
    assert queue.arrive("a", patience_ns=0) is Standing.SEATED
    assert queue.arrive("b", patience_ns=0) is Standing.EXPIRED
    assert queue.seating.waiting == 0


def test_nobody_gives_way_to_one_that_may_be_gone_the_next_moment():
    queue = play(seats=3, max_waiting=1)
    queue.arrive("holder", flow="h")
    queue.arrive("large", flow="l", cost=3)
    assert queue.arrive("hasty", flow="s", patience_ns=0) is Standing.REFUSED
    assert queue.standing("large") is Standing.WAITING
    assert queue.arrive("patient", flow="s") is Standing.SEATED


def test_the_order_may_allow_less_patience():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(SECOND)
    assert queue.standing("a") is Standing.EXPIRED


def test_those_who_waited_in_vain_make_room():
    queue = play(max_waiting=1)
    queue.arrive("holder")
    queue.arrive("a", patience_ns=MS)
    queue.now += 2 * MS
    assert queue.arrive("b") is Standing.WAITING
    assert queue.standing("a") is Standing.EXPIRED


def test_leaving_twice_gives_back_once():
    queue = play()
    queue.arrive("a")
    queue.arrive("b")
    queue.arrive("c")
    for _ in range(3):
        queue.leave("a")
    assert queue.seating.taken == 1
    assert queue.standing("c") is Standing.WAITING


@pytest.mark.parametrize("name", ["refused", "expired", "evicted", "waiting", "new"])
def test_whoever_leaves_from_wherever_gives_back_no_more_than_it_has(name: str):
    queue = play(max_waiting=2)
    queue.arrive("holder", flow="h")
    queue.arrive("evicted", flow="e", cost=1)
    queue.arrive("evicted", flow="e")
    queue.arrive("waiting", flow="w", patience_ns=2 * MS)
    queue.arrive("refused", flow="e")
    queue.candidates["new"] = Candidate()
    queue.leave(name) if name in queue.candidates else None
    assert queue.seating.taken == 1
    queue.leave("holder")
    assert queue.seating.taken == 1


def test_one_that_left_before_it_arrived_is_not_let_in():
    queue = play()
    candidate = Candidate()
    queue.seating.leave(candidate, 0)
    assert queue.seating.arrive(candidate, 0) == []
    assert queue.seating.taken == 0


def test_one_arrives_once():
    queue = play()
    queue.arrive("a")
    assert queue.seating.arrive(queue.candidates["a"], 0) == []
    assert queue.seating.taken == 1


def test_fewer_seats_take_none_away_and_give_out_none():
    queue = play(seats=4)
    for n in range(6):
        queue.arrive(f"{n}")
    queue.seating.resize(2, 0)
    assert queue.seating.taken == 4
    queue.leave("0")
    queue.leave("1")
    assert queue.standing("4") is Standing.WAITING
    queue.leave("2")
    assert queue.standing("4") is Standing.SEATED


def test_more_seats_are_given_out_at_once():
    queue = play()
    for n in range(4):
        queue.arrive(f"{n}")
    changed = queue.seating.resize(3, 0)
    assert [candidate.owner for candidate in changed] == ["1", "2"]


def test_one_larger_than_what_is_left_of_the_seats_takes_them_all():
    queue = play(seats=4)
    queue.arrive("holder", cost=4)
    queue.arrive("large", cost=4)
    queue.seating.resize(2, 0)
    queue.leave("holder")
    assert queue.standing("large") is Standing.SEATED
    assert queue.seating.taken == 2
    queue.seating.resize(8, 0)
    queue.leave("large")
    assert queue.seating.taken == 0


@pytest.mark.parametrize("jump", [-YEARS, -1, YEARS])
def test_a_clock_that_jumps_leaves_no_seat_stuck(jump: int):
    queue = play()
    queue.now = YEARS
    queue.arrive("holder")
    queue.arrive("a")
    queue.now += jump
    queue.arrive("b")
    queue.leave("holder")
    queue.leave("a")
    queue.leave("b")
    assert queue.seating.taken == 0
    assert queue.seating.waiting == 0
    assert queue.arrive("c") is Standing.SEATED


def test_a_clock_that_goes_back_costs_no_patience_and_gives_none():
    queue = play()
    queue.now = YEARS
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(SECOND // 2)
    queue.wait(-YEARS)
    assert queue.standing("a") is Standing.WAITING
    assert queue.seating.patience_left(queue.candidates["a"], queue.now) == SECOND // 2
    queue.wait(SECOND // 2)
    assert queue.standing("a") is Standing.EXPIRED


def test_a_clock_that_leaps_ahead_sends_those_away_who_waited_and_goes_on():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a")
    queue.wait(YEARS)
    assert queue.standing("a") is Standing.EXPIRED
    queue.arrive("b")
    queue.leave("holder")
    assert queue.standing("b") is Standing.SEATED


def test_outcomes_are_counted_by_tier():
    queue = play(max_waiting=1)
    queue.arrive("a", tier=0)
    queue.arrive("b", tier=1)
    queue.arrive("c", tier=3)
    queue.leave("a")
    outcomes = queue.seating.outcomes
    assert outcomes[Standing.SEATED] == [1, 1, 0, 0]
    assert outcomes[Standing.REFUSED] == [0, 0, 0, 1]
    assert outcomes[Standing.LEFT] == [1, 0, 0, 0]


def test_a_wait_is_told_while_it_lasts_and_afterwards():
    queue = play()
    queue.arrive("a")
    queue.arrive("b")
    queue.wait(3 * MS)
    assert queue.seating.waited(queue.candidates["b"]) == 3 * MS
    queue.leave("a")
    queue.wait(5 * MS)
    assert queue.seating.waited(queue.candidates["b"]) == 3 * MS


def test_work_is_what_those_who_wait_will_take():
    queue = play()
    queue.arrive("holder")
    queue.arrive("a")
    queue.arrive("b")
    assert queue.seating.work == 2 * 10 * MS
    queue.leave("a")
    queue.leave("b")
    assert queue.seating.work == 0.0


def test_a_ranking_is_in_order_whatever_is_removed():
    ranking = Ranking()
    entries = []
    for number, rank in enumerate([3.0, 1.0, 2.0, 1.0, 3.0]):
        candidate = Candidate()
        candidate.number = number
        ranking.add(rank, candidate)
        entries.append((rank, number, candidate))
    assert ranking.last() is entries[4][2]
    ranking.remove(1.0, entries[1][2])
    assert ranking.first() is entries[3][2]
    for rank, _, candidate in entries[:1] + entries[2:]:
        ranking.remove(rank, candidate)
    assert ranking.first() is ranking.last() is None
    assert len(ranking) == 0


def test_the_service_time_follows_what_is_seen():
    service = ServiceTime()
    service.observe(5)
    assert service.mean_ns == 5.0
    for _ in range(200):
        service.observe(1000)
    assert service.mean_ns == pytest.approx(1000)
    service.observe(-(10**18))  # a clock that went back
    assert service.mean_ns > 0
