"""Cost that is set aside: settled once, at its real cost, or released when its time is over."""

from __future__ import annotations

import pytest

from headgate.engine.reservations import MAX_TTL_NS
from headgate.errors import InvalidInput, TooManyReservations, UnknownReservation
from headgate.testing import ManualClock
from tests.support.limits import NAMES, SECOND, engine, policy

ANN = {"key": "ann"}
TTL = 60 * SECOND


def used(one):
    return [usage.used for usage in one.usage(ANN)]


class TestSettling:
    def test_a_hold_is_spent_at_once(self):
        one = engine(policy())
        reservation = one.reserve(ANN, 7, TTL)
        assert reservation
        assert reservation.decision.remaining == 3
        assert reservation.expires_at_ns == TTL
        assert not one.check(ANN, 4).allowed

    @pytest.mark.parametrize(
        ("cost", "left"), [(None, 4), (6, 4), (2, 8), (0, 10), (9, 1), (99, 0)]
    )
    def test_it_is_settled_at_the_real_cost(self, cost, left):
        one = engine(policy(), policy("two"))
        reservation = one.reserve(ANN, 6, TTL)
        assert one.commit(reservation.id, cost).remaining == left
        assert used(one) == [10 - left, 10 - left]
        assert one.stats().reservations == 0

    @pytest.mark.parametrize("name", set(NAMES) - {"concurrency"})
    def test_with_every_algorithm(self, name):
        one = engine(policy(algorithm=name))
        one.check(ANN, 1)
        one.commit(one.reserve(ANN, 5, TTL).id, 3)
        assert used(one) == [4]
        one.release(one.reserve(ANN, 5, TTL).id)
        assert used(one) == [4]

    @pytest.mark.parametrize("cost", [None, 0, 1, 2, 5])
    def test_permits_are_given_back_when_the_work_is_over(self, cost):
        one = engine(policy("permits", algorithm="concurrency"), policy("rate"))
        reservation = one.reserve(ANN, 2, TTL)
        assert used(one) == [2, 2]
        one.commit(reservation.id, cost)
        assert used(one) == [0, 2 if cost is None else cost]

    def test_each_limit_pays_what_it_can(self):
        one = engine(policy("a", limit=10), policy("b", limit=20))
        one.commit(one.reserve(ANN, 6, TTL).id, 15)
        assert used(one) == [10, 15]

    def test_twice_is_unknown(self):
        one = engine(policy())
        reservation = one.reserve(ANN, 6, TTL)
        one.commit(reservation.id, 2)
        for settle in (one.commit, one.release):
            with pytest.raises(UnknownReservation, match="reserve again"):
                settle(reservation.id)
        assert used(one) == [2]

    @pytest.mark.parametrize("name", ["", "nobody", "x" * 10_000, "\ud800"])
    def test_so_is_an_invented_one(self, name):
        with pytest.raises(UnknownReservation) as caught:
            engine().commit(name)
        assert len(caught.value.context["id"]) <= 64

    def test_a_denied_one_holds_nothing(self):
        one = engine(policy())
        reservation = one.reserve(ANN, 11, TTL)
        assert not reservation
        assert reservation.id == ""
        assert reservation.decision.never_fits
        assert one.stats().reservations == 0
        with pytest.raises(UnknownReservation):
            one.release(reservation.id)

    def test_ids_tell_nothing(self):
        one = engine(policy(limit=100))
        ids = {one.reserve(ANN, 1, TTL).id for _ in range(50)}
        assert len(ids) == 50
        assert all(len(each) == 24 for each in ids)

    def test_a_hold_on_a_forgotten_key_gives_nothing_twice(self):
        clock = ManualClock()
        one = engine(policy(limit=10, window="10s"), clock=clock)
        reservation = one.reserve(ANN, 5, TTL)
        clock.advance(20)
        one.check({"key": "other"})
        one.check(ANN, 4)
        one.release(reservation.id)
        assert used(one) == [4]


class TestExpiring:
    def test_it_is_released_when_its_time_is_over(self):
        clock = ManualClock()
        one = engine(policy(window="1h"), clock=clock)
        reservation = one.reserve(ANN, 10, SECOND)
        clock.advance_ns(SECOND - 1)
        assert not one.check(ANN).allowed
        clock.advance_ns(1)
        assert one.check(ANN, 10).allowed
        with pytest.raises(UnknownReservation):
            one.commit(reservation.id)

    @pytest.mark.parametrize("ask", ["check", "peek", "usage", "snapshot", "refund"])
    def test_whatever_is_asked_first(self, ask):
        clock = ManualClock()
        one = engine(policy(window="1h"), clock=clock)
        one.reserve(ANN, 10, SECOND)
        clock.advance(1)
        arguments = {"snapshot": (), "refund": (ANN, 0)}.get(ask, (ANN,))
        getattr(one, ask)(*arguments)
        assert one.stats().reservations == 0

    def test_one_after_the_other(self):
        clock = ManualClock()
        one = engine(policy(limit=100, window="1h"), clock=clock)
        for n in range(10):
            one.reserve(ANN, 10, (10 - n) * SECOND)
        for left in range(9, -1, -1):
            clock.advance(1)
            assert used(one) == [10 * left]

    def test_a_great_many_at_once_hold_nobody_up(self):
        clock = ManualClock()
        one = engine(policy(limit=1_000, window="1h"), clock=clock)
        last = [one.reserve(ANN, 1, SECOND) for _ in range(1_000)][-1]
        clock.advance(1)
        one.peek(ANN)
        assert one.stats().reservations == 1_000 - 256
        # One that is due and not released yet is no longer there for its owner.
        with pytest.raises(UnknownReservation):
            one.commit(last.id)
        for _ in range(4):
            one.peek(ANN)
        assert one.stats().reservations == 0
        assert used(one) == [0]

    def test_a_clock_that_goes_back_keeps_holds(self):
        clock = ManualClock(start_ns=100 * SECOND)
        one = engine(policy(window="1h"), clock=clock)
        reservation = one.reserve(ANN, 5, SECOND)
        clock.set_ns(0)
        assert one.stats().reservations == 1
        one.commit(reservation.id, 3)


class TestBounds:
    def test_only_so_many_may_be_open(self):
        one = engine(policy(), max_reservations=2)
        first = one.reserve(ANN, 1, TTL)
        one.reserve(ANN, 1, TTL)
        with pytest.raises(TooManyReservations, match="at most 2 reservations"):
            one.reserve(ANN, 1, TTL)
        assert used(one) == [2]
        one.release(first.id)
        assert one.reserve(ANN, 1, TTL)

    def test_those_that_are_due_make_room(self):
        clock = ManualClock()
        one = engine(policy(), max_reservations=1, clock=clock)
        one.reserve(ANN, 1, SECOND)
        clock.advance(1)
        assert one.reserve(ANN, 1, SECOND)

    def test_one_that_lasts_does_not_keep_the_records_of_all_others(self):
        one = engine(policy(limit=1_000))
        one.reserve(ANN, 1, SECOND)
        for _ in range(5_000):
            one.release(one.reserve(ANN, 1, TTL).id)
        assert len(one._book._expiries) < 200

    @pytest.mark.parametrize(
        "ttl", [0, -1, MAX_TTL_NS + 1, 10**30, 1.5, float("nan"), float("inf"), True, None, "1s"]
    )
    def test_a_bad_time_is_refused_and_nothing_spent(self, ttl):
        one = engine(policy())
        with pytest.raises(InvalidInput, match="ttl"):
            one.reserve(ANN, 1, ttl)
        assert used(one) == [0]

    @pytest.mark.parametrize("ttl", [1, MAX_TTL_NS])
    def test_the_extremes_are_taken(self, ttl):
        assert engine(policy()).reserve(ANN, 1, ttl)
