"""Requests in, decisions out: several limits as one, refunds, reservations, read-outs."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import TYPE_CHECKING

import pytest

from headgate.decision import NEVER
from headgate.errors import InvalidCost, InvalidInput
from headgate.testing import ManualClock
from tests.support.limits import NAMES, SECOND, engine, policy

if TYPE_CHECKING:
    from headgate.engine.engine import Engine

ANN = {"key": "ann"}
HIERARCHY = {
    "levels": [
        {"name": "user", "limit": 10},
        {"name": "team", "limit": 15, "dimensions": ["team"]},
        {"name": "all", "limit": 100, "dimensions": []},
    ]
}


def states(one: Engine) -> object:
    return one.snapshot()["limits"]


class TestSeveralLimits:
    def test_all_admit_or_nothing_is_spent(self):
        one = engine(policy("h", **HIERARCHY))
        one.check({"key": "ann", "team": "red"}, 10)
        before = states(one)
        decision = one.check({"key": "ann", "team": "red"}, 1)
        assert not decision.allowed
        assert [level.allowed for level in decision.levels] == [False, True, True]
        assert decision.policy == "h/user"
        assert states(one) == before

    def test_one_policy_may_deny_what_another_admits(self):
        one = engine(policy("a", limit=5), policy("b", limit=3))
        answers = [one.check(ANN).allowed for _ in range(5)]
        assert answers == [True] * 3 + [False] * 2
        assert [usage.used for usage in one.usage(ANN)] == [3, 3]

    def test_the_answer_speaks_of_the_limit_with_the_least_left(self):
        decision = engine(policy("a", limit=5), policy("b", limit=3)).check(ANN)
        assert (decision.policy, decision.limit, decision.remaining) == ("b", 3, 2)
        assert [level.policy for level in decision.levels] == ["a", "b"]

    def test_a_refusal_speaks_of_the_longest_wait(self):
        one = engine(policy("a", limit=1, window="1m"), policy("b", limit=1, window="1h"))
        one.check(ANN)
        decision = one.check(ANN)
        assert (decision.policy, decision.retry_after) == ("b", 3600.0)

    def test_a_cost_that_never_fits_one_never_passes(self):
        one = engine(policy("a", limit=5), policy("b", limit=3))
        decision = one.check(ANN, 4)
        assert decision.never_fits
        assert decision.policy == "b"
        assert decision.levels[0].retry_after_ns == 0

    def test_delays_are_the_longest(self):
        one = engine(
            policy("a", limit=1, window="1s", algorithm="leaky_bucket_queue", burst=10),
            policy("b", limit=1, window="2s", algorithm="leaky_bucket_queue", burst=10),
            policy("c", limit=100),
        )
        assert [one.check(ANN).delay for _ in range(3)] == [0.0, 2.0, 4.0]

    def test_one_limit_has_no_levels(self):
        assert engine(policy()).check(ANN).levels == ()

    def test_their_order_is_that_of_the_policies_whatever_is_changed(self):
        one = engine(policy("a"), policy("b"), policy("c"))
        one.set_policy(policy("a", limit=11))
        assert [level.policy for level in one.check(ANN).levels] == ["a", "b", "c"]
        assert [each.name for each in one.policies()] == ["a", "b", "c"]

    def test_at_the_cap_all_newcomers_share_or_none(self):
        # Room for one more key, and two are wanted: neither is kept, and both limits still hold.
        one = engine(
            policy("a", limit=2, window="1h"), policy("b", limit=2, window="1h"), max_keys=5
        )
        for key in ("x", "y"):
            one.check({"key": key}, 2)
        answers = [one.check({"key": f"new {n}"}).allowed for n in range(5)]
        assert answers == [True, True, False, False, False]
        assert one.stats().table.keys == 4
        assert one.stats().table.overflowed == 10

    def test_at_the_cap_others_make_room(self):
        one = engine(
            policy("a", limit=10, window="1h"), policy("b", limit=10, window="1h"), max_keys=4
        )
        for n in range(20):
            assert one.check({"key": f"key {n}"}).remaining == 9
        stats = one.stats().table
        assert (stats.keys, stats.overflowed, stats.evicted) == (4, 0, 36)

    def test_what_is_decided_on_is_not_given_up_for_its_own_sake(self):
        # The one key that could go is the team's own, which is being spent from.
        one = engine(
            policy("user", limit=1, window="1h"),
            policy("team", limit=5, window="1h", dimensions=["team"]),
            max_keys=3,
        )
        one.check({"key": "ann", "team": "red"})
        one.check({"key": "ben", "team": "red"})
        answers = [one.check({"key": f"new {n}", "team": "red"}).allowed for n in range(3)]
        assert answers == [True, False, False]
        assert one.usage({"team": "red"})[0].used == 3


class TestUnmatched:
    def test_it_is_admitted_and_counted(self):
        one = engine()
        decision = one.check(ANN)
        assert decision.allowed
        assert (decision.policy, decision.limit, decision.window_ns) == ("", 0, 0)
        assert one.stats().unmatched == 1

    def test_or_denied_for_good(self):
        one = engine(admit_unmatched=False)
        decision = one.check(ANN)
        assert not decision.allowed
        assert decision.retry_after_ns == NEVER
        assert not one.reserve(ANN, 1, SECOND)
        assert one.stats().unmatched == 2

    def test_asking_is_not_counted(self):
        one = engine()
        one.peek(ANN)
        one.refund(ANN, 1)
        one.commit(one.reserve(ANN, 1, SECOND).id)
        assert one.stats().unmatched == 1

    def test_a_missing_dimension_is_no_match(self):
        one = engine(policy(dimensions=["user"]))
        assert one.check(ANN).policy == ""
        assert one.check({"user": "ann"}).policy == "test"


class TestOverrides:
    POLICY = policy(
        limit=2,
        dimensions=["user", "plan"],
        overrides=[{"match": {"user": "ann", "plan": "pro"}, "limit": 5}],
    )

    def test_a_named_key_has_its_own_limit(self):
        one = engine(self.POLICY)
        assert one.check({"user": "ann", "plan": "pro"}).limit == 5
        assert one.check({"user": "ann", "plan": "free"}).limit == 2

    def test_levels_inherit_overrides_and_matches(self):
        one = engine(
            policy(
                limit=2,
                match={"path": "/api/*"},
                overrides=[{"match": {"key": "ann"}, "limit": 7}],
                levels=[{"name": "minute"}, {"name": "hour", "window": "1h", "limit": 20}],
            )
        )
        decision = one.check({"key": "ann", "path": "/api/x"})
        assert [(level.policy, level.limit) for level in decision.levels] == [
            ("test/minute", 7),
            ("test/hour", 7),
        ]
        assert one.check({"key": "ann", "path": "/other"}).policy == ""

    def test_ten_thousand_are_found_by_key(self):
        many = [{"match": {"key": f"user {n}"}, "limit": n + 1} for n in range(10_000)]
        one = engine(policy(overrides=many))
        assert one.check({"key": "user 4711"}).limit == 4712
        assert one.check({"key": "other"}).limit == 10
        one.set_policy(policy(overrides=many[:5_000]))
        assert one.check({"key": "user 4711"}).remaining == 4710
        assert one.check({"key": "user 7777"}).limit == 10


class TestAsking:
    @pytest.mark.parametrize("name", NAMES)
    def test_neither_peek_nor_usage_spends(self, name):
        one = engine(policy(algorithm=name, window="1h"), policy("two", window="1h", limit=20))
        one.check(ANN, 4)
        before = states(one), one.stats().table.keys
        for _ in range(3):
            assert one.peek(ANN, 6).allowed
            assert not one.peek(ANN, 7).allowed
            assert [usage.used for usage in one.usage(ANN)] == [4, 4]
            assert one.peek({"key": "unknown"}).remaining == 9 + 1
        assert (states(one), one.stats().table.keys) == before

    def test_a_cost_of_zero_only_asks(self):
        one = engine(policy(limit=1), policy("two", limit=1))
        assert one.check(ANN, 0).allowed
        assert one.check(ANN, 1).allowed
        assert one.check(ANN, 0).allowed
        assert one.stats().table.keys == 2

    def test_usage_is_told_in_full(self):
        clock = ManualClock()
        one = engine(policy(limit=60, burst=30, window="1m"), clock=clock)
        one.check(ANN, 12)
        clock.advance(2)
        (usage,) = one.usage(ANN)
        assert (usage.policy, usage.key, usage.limit, usage.capacity) == ("test", "ann", 60, 30)
        assert (usage.used, usage.remaining) == (10, 20)
        assert usage.window_ns == 60 * SECOND
        assert usage.reset_after_ns == 10 * SECOND
        assert usage.rate_per_second == pytest.approx(10 / 60)

    def test_usage_at_the_cap_shows_what_decides(self):
        one = engine(policy(limit=2, window="1h"), max_keys=1)
        one.check(ANN, 2)
        one.check({"key": "ben"}, 2)
        assert one.usage({"key": "cid"})[0].remaining == 0


class TestRefunds:
    @pytest.mark.parametrize("name", NAMES)
    def test_what_was_not_used_comes_back(self, name):
        one = engine(policy(algorithm=name), policy("two", limit=20))
        one.check(ANN, 6)
        assert one.refund(ANN, 4).remaining == 8
        assert [usage.used for usage in one.usage(ANN)] == [2, 2]

    @pytest.mark.parametrize("name", NAMES)
    def test_never_more_than_all(self, name):
        one = engine(policy(algorithm=name))
        one.check(ANN, 6)
        assert one.refund(ANN, 10**12).remaining == 10
        assert one.refund(ANN, 10**12).remaining == 10


class Cost(IntEnum):
    CHEAP = 1


class TestCosts:
    BAD = (-1, -(10**30), 10**12 + 1, 10**30, 1.0, float("nan"), float("inf"), True, None, "1", [])

    @pytest.mark.parametrize("cost", BAD, ids=repr)
    def test_bad_ones_are_refused_by_all_calls_and_change_nothing(self, cost):
        one = engine(policy(), policy("two"))
        one.check(ANN, 5)
        hold = one.reserve(ANN, 1, SECOND)
        before = states(one)
        for call in (one.check, one.peek, one.refund, lambda a, c: one.reserve(a, c, SECOND)):
            with pytest.raises(InvalidCost, match="cost must be"):
                call(ANN, cost)
        if cost is not None:
            with pytest.raises(InvalidCost, match="cost must be"):
                one.commit(hold.id, cost)
        assert states(one) == before
        assert one.release(hold.id).remaining == 5

    def test_whole_numbers_of_other_types_are_taken(self):
        assert engine(policy()).check(ANN, Cost.CHEAP).remaining == 9

    def test_the_largest_cost_never_fits(self):
        one = engine(policy(limit=10**12 - 1, window="1000s"))
        assert one.check(ANN, 10**12).never_fits
        assert one.check(ANN, 10**12 - 1).allowed


class Observer:
    def __init__(self):
        self.seen = []

    def denied(self, policy, key):
        self.seen.append((policy, key))


class Broken:
    def __init__(self):
        self.calls = 0

    def denied(self, policy, key):
        self.calls += 1
        raise RuntimeError("broken")


class TestObserving:
    def test_each_denial_is_told_once(self):
        seen = Observer()
        one = engine(policy("a", limit=1), policy("b", limit=2), observer=seen)
        for _ in range(3):
            one.check(ANN)
        one.peek(ANN)
        assert seen.seen == [("a", "ann"), ("a", "ann")]

    def test_so_is_that_of_a_single_limit_and_of_a_reservation(self):
        seen = Observer()
        one = engine(policy(limit=1), observer=seen)
        one.check(ANN)
        one.check(ANN)
        one.reserve(ANN, 1, SECOND)
        assert seen.seen == [("test", "ann"), ("test", "ann")]

    @pytest.mark.parametrize("policies", [1, 2])
    def test_one_that_raises_is_removed_and_the_request_goes_on(self, policies, caplog):
        broken = Broken()
        one = engine(*[policy(f"p{n}", limit=1) for n in range(policies)], observer=broken)
        with caplog.at_level(logging.ERROR):
            answers = [one.check(ANN).allowed for _ in range(4)]
        assert answers == [True, False, False, False]
        assert broken.calls == 1
        assert "removed" in caplog.text


class TestStats:
    def test_they_count_answers_by_level(self):
        one = engine(policy("h", **HIERARCHY), policy("one", limit=1, dimensions=["user"]))
        for _ in range(11):
            one.check({"key": "ann", "team": "red"})
        one.check({"user": "x"})
        told = {
            each.level: (each.admitted, each.denied, each.keys) for each in one.stats().policies
        }
        assert told == {
            "h/user": (10, 1, 1),
            "h/team": (10, 0, 1),
            "h/all": (11, 0, 1),
            "one": (1, 0, 1),
        }
        assert [each.policy for each in one.stats().policies] == ["h", "h", "h", "one"]

    def test_overrides_are_counted_with_their_level(self):
        one = engine(policy(overrides=[{"match": {"key": "ann"}, "limit": 1}]))
        for key in ("ann", "ann", "ben"):
            one.check({"key": key})
        (told,) = one.stats().policies
        assert (told.admitted, told.denied, told.keys) == (2, 1, 2)

    def test_open_reservations_are_counted(self):
        one = engine(policy())
        one.reserve(ANN, 1, SECOND)
        assert one.stats().reservations == 1


@pytest.mark.parametrize("max_keys", [0, -1])
def test_settings_out_of_bounds_are_refused(max_keys):
    with pytest.raises(InvalidInput, match="max_keys"):
        engine(max_keys=max_keys)


def test_how_important_a_request_is_follows_the_policies_that_apply():
    limits = engine()
    for name, priority in (("a", "normal"), ("b", "low"), ("c", "high"), ("d", "critical")):
        match = {f"is_{name}": "yes"}
        limits.set_policy(policy(name, priority=priority, match=match, dimensions=[]))

    def tier(names: str) -> int:
        return limits.tier({f"is_{name}": "yes" for name in names})

    assert [tier(names) for names in ("", "a", "b", "c", "d")] == [2, 2, 3, 1, 0]
    assert [tier(names) for names in ("ab", "ac", "bc", "abcd")] == [3, 1, 1, 0]
