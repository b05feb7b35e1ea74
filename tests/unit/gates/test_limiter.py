"""The limiter of programs: complete answers, the same errors in both builds, safe from any thread."""

from __future__ import annotations

import sys
import threading
from enum import Enum

import pytest

from headgate.errors import InvalidCost, InvalidInput, InvalidKey, InvalidRate, UnknownReservation
from headgate.gates.limiter import Limiter
from headgate.rate import Rate
from headgate.testing import ManualClock
from tests.support.limits import NAMES


def limiter(rate="10/minute", **settings) -> Limiter:
    settings.setdefault("clock", ManualClock())
    return Limiter(rate, **settings)


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "somebody else"

    def __hash__(self):
        return 7

    def __eq__(self, other):
        return False


class User(str, Enum):  # noqa: UP042 - a StrEnum prints as its value, and this one does not
    ANN = "ann"


class TestDeciding:
    def test_the_example_of_the_docs(self):
        one = limiter("100/minute", burst=20)
        decision = one.check("user:1", cost=1)
        assert (decision.allowed, bool(decision), decision.limit) == (True, True, 100)
        assert (decision.remaining, decision.policy) == (19, "default")

    @pytest.mark.parametrize("name", NAMES)
    def test_the_retry_after_is_when_it_passes(self, name):
        clock = ManualClock()
        one = limiter("5/second", algorithm=name, clock=clock)
        assert one.check("a", 5).allowed
        denied = one.check("a")
        assert not denied.allowed
        clock.advance_ns(denied.retry_after_ns - 1)
        assert not one.check("a").allowed
        clock.advance_ns(1)
        assert one.check("a").allowed

    def test_several_rates_all_admit_or_nothing_is_spent(self):
        one = limiter("5/second;8/minute")
        answers = [one.check("a").allowed for _ in range(6)]
        assert answers == [True] * 5 + [False]
        assert [usage.used for usage in one.usage("a")] == [5, 5]
        one.clock.advance(1)
        assert [one.check("a").allowed for _ in range(4)] == [True] * 3 + [False]
        assert len(one.check("a").levels) == 2

    def test_rates_may_be_objects(self):
        assert limiter(Rate.per_minute(3)).check("a").limit == 3
        assert len(limiter([Rate.per_second(2), Rate.per_hour(9)]).check("a").levels) == 2

    def test_a_time_zone_makes_it_a_calendar(self):
        decision = limiter("1000/day tz=Europe/Paris").check("a")
        assert decision.remaining == 999
        assert decision.reset_after == 23 * 3600.0

    def test_peek_refund_and_reset(self):
        one = limiter()
        one.check("a", 7)
        assert one.peek("a", 3).allowed
        assert not one.peek("a", 4).allowed
        one.refund("a", 2)
        assert one.usage("a")[0].used == 5
        one.refund("a", 10**12)
        one.refund("nobody", 5)
        assert one.peek("a").remaining == 10
        one.check("a", 10)
        one.reset("a")
        assert one.check("a", 10).allowed

    def test_a_refund_of_a_window_that_is_over_is_nothing(self):
        one = limiter("10/minute", algorithm="fixed_window")
        one.check("a", 5)
        one.clock.advance(60)
        one.check("a", 5)
        one.refund("a", 5, granted_at_ns=0)
        assert one.usage("a")[0].used == 5

    def test_memory_is_bounded_and_told(self):
        one = limiter(max_keys=10)
        for n in range(100):
            one.check(f"key {n}")
        assert one.stats().keys == 10


class TestDisabled:
    def test_everything_passes_and_nothing_is_spent(self):
        one = limiter("1/minute", enabled=False)
        assert all(one.check("a", 5).allowed for _ in range(5))
        assert one.peek("a", 5).allowed
        with one.reserve("a", 5) as reservation:
            reservation.commit(7)
        assert one.stats().keys == 0

    def test_it_can_be_switched(self):
        one = limiter("1/minute")
        one.check("a")
        one.enabled = False
        assert one.check("a").allowed
        one.enabled = True
        assert not one.check("a").allowed

    def test_bad_arguments_are_refused_all_the_same(self):
        with pytest.raises(InvalidKey):
            limiter(enabled=False).check("")


class TestKeys:
    CALLS = ("check", "peek", "refund", "usage", "reset", "acquire")

    @pytest.mark.parametrize("key", [None, "", 7, b"ann", ["ann"], 1.5, True, "x" * 1025], ids=repr)
    def test_what_is_none_is_refused_by_all_calls(self, key):
        one = limiter()
        for call in self.CALLS:
            with pytest.raises(InvalidKey, match=r"key must") as caught:
                getattr(one, call)(key)
            assert isinstance(caught.value, TypeError | ValueError)
        with pytest.raises(InvalidKey):
            one.reserve(key, 1)
        assert one.stats().keys == 0

    def test_a_subclass_counts_as_the_text_that_it_is(self):
        one = limiter()
        for key in ("ann", Name("ann"), User.ANN):
            one.check(key)
        assert one.usage("ann")[0].used == 3
        assert one.stats().keys == 1

    def test_odd_texts_are_keys_like_others(self):
        one = limiter()
        for key in ("\x00", "\ud800", "é", "x" * 1024, " "):
            assert one.check(key).allowed
        assert one.stats().keys == 5


class TestCosts:
    BAD = (-1, 10**12 + 1, 10**30, -(10**30), 1.0, float("nan"), float("inf"), True, None, "1")

    @pytest.mark.parametrize("rate", ["10/minute", "10/minute;20/hour"])
    @pytest.mark.parametrize("cost", BAD, ids=repr)
    def test_what_is_none_is_refused_by_all_calls(self, cost, rate):
        one = limiter(rate)
        for call in (one.check, one.peek, one.refund, one.reserve, one.acquire):
            with pytest.raises(InvalidCost, match="cost must be") as caught:
                call("a", cost)
            assert isinstance(caught.value, TypeError)
        assert one.stats().keys == 0

    def test_the_extremes_are_taken(self):
        assert limiter().check("a", 10**12).never_fits
        assert limiter().check("a", 0).allowed

    @pytest.mark.parametrize("moment", [1.5, None, "x", True, 10**30, -(10**30)])
    def test_odd_moments_of_a_refund(self, moment):
        one = limiter()
        one.check("a", 5)
        if moment is None:
            one.refund("a", 1, moment)
        else:
            with pytest.raises(InvalidInput, match="granted_at_ns"):
                one.refund("a", 1, moment)


class TestSettings:
    @pytest.mark.parametrize(
        "rate", ["", "x", "0/s", "-1/s", "1/0s", 7, None, [], ["1/s"], [7]], ids=repr
    )
    def test_no_rate(self, rate):
        with pytest.raises(InvalidRate):
            limiter(rate)

    @pytest.mark.parametrize(
        "settings",
        [
            {"algorithm": "no such"},
            {"burst": 0},
            {"burst": True},
            {"granularity": 0, "algorithm": "sliding_window"},
            {"granularity": 5},
            {"max_delay": 0, "algorithm": "leaky_bucket_queue"},
            {"max_delay": float("nan"), "algorithm": "leaky_bucket_queue"},
            {"max_delay": float("inf"), "algorithm": "leaky_bucket_queue"},
            {"max_delay": 10**30, "algorithm": "leaky_bucket_queue"},
            {"max_delay": 1.0},
            {"max_keys": 0},
            {"max_keys": 10**30},
        ],
        ids=repr,
    )
    def test_settings_out_of_bounds(self, settings):
        with pytest.raises(InvalidInput):
            limiter(**settings)


class TestReservations:
    def test_commit_less_and_release(self):
        one = limiter()
        one.reserve("a", 6).commit(2)
        one.reserve("a", 6).release()
        assert one.usage("a")[0].used == 2

    def test_as_a_context(self):
        one = limiter()
        with one.reserve("a", 4):
            pass
        with pytest.raises(ZeroDivisionError), one.reserve("a", 4):
            raise ZeroDivisionError
        with one.reserve("a", 4) as reservation:
            reservation.commit(1)
        assert one.usage("a")[0].used == 5

    def test_a_denied_one_settles_to_nothing(self):
        reservation = limiter().reserve("a", 11)
        assert not reservation
        with reservation:
            pass
        with pytest.raises(UnknownReservation):
            reservation.commit()

    def test_twice_and_too_late(self):
        one = limiter()
        first = one.reserve("a", 3)
        first.commit(1)
        with pytest.raises(UnknownReservation):
            first.release()
        late = one.reserve("a", 3, ttl=1)
        one.clock.advance(1)
        with pytest.raises(UnknownReservation):
            late.commit()

    @pytest.mark.parametrize(
        "ttl", [0, -1, float("nan"), float("inf"), 10**30, True, None, "60"], ids=repr
    )
    def test_a_bad_time_is_refused_and_nothing_spent(self, ttl):
        one = limiter()
        with pytest.raises(InvalidInput, match="ttl"):
            one.reserve("a", 1, ttl=ttl)
        assert one.stats().keys == 0

    @pytest.mark.parametrize("cost", [-1, True, 1.5, 10**30], ids=repr)
    def test_a_bad_cost_leaves_it_open(self, cost):
        one = limiter()
        reservation = one.reserve("a", 3)
        with pytest.raises(InvalidCost):
            one.settle(reservation._id, cost)
        reservation.release()
        assert one.peek("a").remaining == 10

    def test_checks_go_on_beside_it_and_see_it_expire(self):
        one = limiter("10/hour")
        for _ in range(3):
            one.reserve("a", 10, ttl=1)
            assert not one.check("a").allowed
            one.clock.advance(1)
            assert one.check("a", 10).allowed
            one.reset("a")
        assert one.check("a").allowed

    def test_permits_come_back_with_the_work(self):
        one = limiter("2/hour", algorithm="concurrency")
        with one.reserve("a", 2):
            assert not one.check("a").allowed
        assert one.check("a", 2).allowed


@pytest.fixture
def _eager_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hammer(work, threads=4):
    start = threading.Barrier(threads)
    failures = []

    def run(number):
        start.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - shown to the test
            failures.append(error)

    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert failures == []


@pytest.mark.slow
@pytest.mark.usefixtures("_eager_threads")
class TestThreads:
    @pytest.mark.parametrize("name", NAMES)
    def test_one_key_is_admitted_as_often_as_it_may(self, name):
        one = limiter("500/hour", algorithm=name)
        admitted = [0] * 4

        def work(number):
            for _ in range(400):
                admitted[number] += one.check("a").allowed

        hammer(work)
        assert sum(admitted) == 500
        assert one.peek("a").remaining == 0

    def test_with_several_rates(self):
        one = limiter("500/hour;700/day")
        admitted = [0] * 4

        def work(number):
            for _ in range(300):
                admitted[number] += one.check("a").allowed

        hammer(work)
        assert sum(admitted) == 500
        assert [usage.used for usage in one.usage("a")] == [500, 500]

    @pytest.mark.parametrize("name", ["token_bucket", "sliding_window_log"])
    def test_while_others_reserve_refund_and_ask(self, name):
        one = limiter("1000/hour", algorithm=name)
        kept = [0] * 4

        def work(number):
            for turn in range(200):
                if turn % 3 == 0:
                    with one.reserve("a", 2) as reservation:
                        if reservation:
                            reservation.commit(1)
                            kept[number] += 1
                elif turn % 3 == 1:
                    one.peek("a")
                    one.usage("a")
                elif one.check("a"):
                    one.refund("a")

        hammer(work)
        assert one.usage("a")[0].used == sum(kept)

    @pytest.mark.parametrize("name", ["token_bucket", "dual"])
    def test_at_the_cap_the_books_stay_in_step(self, name):
        one = limiter("3/hour", algorithm=name, max_keys=50)

        def work(number):
            for turn in range(400):
                one.check(f"key {number} {turn % 97}")

        hammer(work)
        assert one.stats().keys <= 50
        (space,) = one._spaces
        assert set(space._states) <= set(one._table._keys)


@pytest.mark.parametrize("setting", ["max_keys", "granularity"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3", None, pytest.param(10**5000, id="huge")])
def test_a_setting_that_counts_is_a_whole_number_within_bounds(setting, value):
    with pytest.raises(InvalidInput, match=rf"^{setting} must be "):
        Limiter("10/second", algorithm="sliding_window_counter", **{setting: value})
