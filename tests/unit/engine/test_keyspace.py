"""One limit's keys: what they are told, and what they carry over when the limit changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.engine.table import KeyedTable
from tests.support.limits import NAMES, SECOND, algorithm, assert_in_step, keyspace, tracked

if TYPE_CHECKING:
    from headgate.engine.keyspace import Keyspace

HOUR = 3600 * SECOND


def change(space: Keyspace, rate: str, now: int = 0, name: str = "token_bucket") -> None:
    space.change(algorithm(rate, name), f"{name} {rate}", now)


def spent(space: Keyspace, key: str, now: int = 0) -> int:
    return space.algorithm.used(space.standing(key, now), now)


class TestDeciding:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_answer_is_complete(self, name):
        space = keyspace(KeyedTable(), "5/second", name)
        space.check("a", 3, 0)
        decision = space.check("a", 3, 0)
        assert not decision.allowed
        assert (decision.limit, decision.window_ns, decision.policy) == (5, SECOND, "test")
        assert decision.remaining == 2
        assert 0 < decision.retry_after_ns <= 2 * SECOND
        assert decision.reset_after_ns > 0
        assert space.check("a", 3, decision.retry_after_ns).allowed

    def test_answers_are_counted(self):
        space = keyspace(KeyedTable(), "2/second")
        for _ in range(5):
            space.check("a", 1, 0)
        space.peek("a", 1, 0)
        assert (space.admitted, space.denied) == (2, 3)

    def test_an_admitted_caller_of_a_queue_is_told_to_wait(self):
        space = keyspace(KeyedTable(), "5/second", "leaky_bucket_queue")
        assert [space.check("a", 1, 0).delay_ns for _ in range(3)] == [
            0,
            SECOND // 5,
            SECOND * 2 // 5,
        ]
        assert space.peek("a", 1, 0).delay_ns == SECOND * 3 // 5
        assert space.check("a", 4, 0).delay_ns == 0  # refused

    def test_refunds_never_go_above_the_full_allowance(self):
        space = keyspace(KeyedTable(), "5/second")
        space.check("a", 2, 0)
        space.refund("a", 10**12, 0, 0)
        assert space.peek("a", 1, 0).remaining == 5

    def test_a_refund_to_an_unknown_key_is_nothing(self):
        table = KeyedTable()
        space = keyspace(table, "5/second")
        space.refund("a", 5, 0, 0)
        assert len(table) == 0

    def test_paying_goes_as_far_as_there_is_something(self):
        space = keyspace(KeyedTable(), "5/second")
        space.check("a", 3, 0)
        space.pay("a", 100, 0)
        assert space.peek("a", 1, 0).remaining == 0
        space.pay("a", 100, 0)
        assert space.peek("a", 1, 0).retry_after_ns == SECOND // 5

    def test_clearing_hands_all_back_and_keeps_the_slot(self):
        table = KeyedTable()
        space = keyspace(table, "5/second")
        space.check("a", 5, 0)
        space.clear("a")
        space.clear("unknown")
        assert space.check("a", 5, 0).allowed
        assert_in_step(table, [space])
        assert len(table) == 1


class TestChanging:
    def test_what_was_spent_is_carried_over(self):
        space = keyspace(KeyedTable(), "10/hour")
        space.check("a", 4, 0)
        change(space, "20/hour")
        assert spent(space, "a") == 4
        assert space.check("a", 1, 0).remaining == 15
        # It is charged once, not with every look.
        assert space.check("a", 1, 0).remaining == 14

    def test_the_first_check_after_a_change_does_not_lose_it(self):
        space = keyspace(KeyedTable(), "10/hour")
        space.check("a", 10, 0)
        change(space, "12/hour")
        assert space.check("a", 2, 0).allowed
        assert not space.check("a", 1, 0).allowed

    def test_no_more_is_carried_than_the_new_limit_has(self):
        space = keyspace(KeyedTable(), "100/hour")
        space.check("a", 80, 0)
        change(space, "10/hour")
        decision = space.check("a", 1, 0)
        assert not decision.allowed
        assert decision.retry_after_ns == HOUR // 10

    @pytest.mark.parametrize("before", NAMES)
    @pytest.mark.parametrize("after", NAMES)
    def test_from_any_algorithm_to_any_other(self, before, after):
        table = KeyedTable()
        space = keyspace(table, "10/hour", before)
        space.check("a", 7, 0)
        change(space, "10/hour", 0, after)
        assert spent(space, "a") == 7
        assert not space.check("a", 4, 0).allowed
        assert space.check("a", 3, 0).allowed
        assert_in_step(table, [space])
        assert len(table) == 1

    def test_several_changes_in_a_row_ask_nothing_of_who_is_not_asked_for(self):
        space = keyspace(KeyedTable(), "100/hour")
        space.check("a", 50, 0)
        for rate in ("10/hour", "200/hour", "1000/hour"):
            change(space, rate)
        assert spent(space, "a") == 50

    def test_keys_of_all_former_settings_are_found(self):
        space = keyspace(KeyedTable(), "100/hour")
        for step in range(5):
            space.check(f"key {step}", 10 + step, 0)
            change(space, f"{200 + step}/hour")
        assert [spent(space, f"key {step}") for step in range(5)] == [10, 11, 12, 13, 14]

    def test_a_change_that_is_undone_has_cost_nothing(self):
        space = keyspace(KeyedTable(), "100/hour", "sliding_window_log")
        space.settings = "sliding_window_log 100/hour"
        for minute in range(5):
            space.check("a", 20, minute * 60 * SECOND)
        before = space.peek("a", 1, HOUR // 2)
        change(space, "10/hour", HOUR // 2)
        change(space, "100/hour", HOUR // 2, "sliding_window_log")
        assert space.peek("a", 1, HOUR // 2) == before
        assert not space._formers

    def test_the_same_settings_again_change_nothing(self):
        space = keyspace(KeyedTable(), "10/hour")
        before = space.algorithm
        space.change(algorithm("99/hour"), space.settings, 0)
        assert space.algorithm is before

    def test_it_counts_as_of_the_moment_of_the_change(self):
        # A tenth is back by then; what comes back later comes at the new rate.
        space = keyspace(KeyedTable(), "10/hour")
        space.check("a", 10, 0)
        change(space, "60/hour", HOUR // 10)
        assert spent(space, "a", HOUR // 10) == 9
        assert spent(space, "a", HOUR // 10 + HOUR // 60) == 8

    def test_looking_does_not_matter(self):
        one, other = keyspace(KeyedTable(), "10/hour"), keyspace(KeyedTable(), "10/hour")
        for space in (one, other):
            space.check("a", 10, 0)
            change(space, "60/hour", HOUR // 10)
        one.peek("a", 1, HOUR // 9)
        assert one.peek("a", 1, HOUR // 2) == other.peek("a", 1, HOUR // 2)

    def test_former_settings_are_few_whatever_the_number_of_changes(self):
        table = KeyedTable()
        space = keyspace(table, "1000/hour")
        for step in range(200):
            space.check(f"key {step}", 100, 0)
            change(space, f"{1001 + step}/hour")
        assert len(space._formers) <= 8
        assert len(space) == 200
        assert all(spent(space, f"key {step}") == 100 for step in range(200))
        assert_in_step(table, [space])

    def test_joining_former_settings_moves_few_keys(self):
        space = keyspace(KeyedTable(), "1000/hour")
        for n in range(1_000):
            space.check(f"key {n}", 100, 0)
        for step in range(50):
            space.check("busy", 1, 0)
            change(space, f"{1001 + step}/hour")
        # The thousand that nobody asks for lie where they lay.
        oldest = max(space._formers, key=lambda former: len(former.states))
        assert oldest.algorithm.limit == 1000
        assert len(oldest.states) == 1_000

    def test_the_table_forgets_keys_of_former_settings_too(self):
        table = KeyedTable(100)
        space = keyspace(table, "10/second")
        for n in range(50):
            space.check(f"old {n}", 10, 0)
        change(space, "20/second", 0)
        for n in range(50):
            space.check(f"new {n}", 1, 10 * SECOND)
        assert len(table) == 50
        assert not any(key.startswith("old") for key in tracked(space))

    def test_a_limited_key_stays_limited_through_a_change_at_the_cap(self):
        table = KeyedTable(16)
        space = keyspace(table, "4/hour")
        limited = [f"limited {n}" for n in range(10)]
        for key in limited:
            space.check(key, 4, 0)
        change(space, "3/hour")
        for n in range(500):
            space.check(f"random {n}", 1, 1)
        assert not any(space.check(key, 1, 2).allowed for key in limited)
        assert_in_step(table, [space])

    def test_the_overflow_is_carried_over(self):
        space = keyspace(KeyedTable(1), "2/hour")
        space.check("a", 2, 0)
        space.check("b", 2, 0)
        change(space, "3/hour")
        space.check("a", 1, 0)
        assert not space.check("c", 2, 0).allowed
        assert space.check("c", 1, 0).allowed

    def test_a_cleared_key_stays_cleared(self):
        table = KeyedTable()
        space = keyspace(table, "2/hour")
        space.check("a", 2, 0)
        space.clear("a")
        change(space, "3/hour")
        assert space.check("a", 3, 0).allowed
        assert_in_step(table, [space])


class TestPermits:
    def permits(self, rate: str = "2/hour") -> Keyspace:
        return keyspace(KeyedTable(), rate, "concurrency")

    def test_they_are_told_from_what_is_used_up(self):
        assert self.permits().holds_permits
        assert not keyspace(KeyedTable()).holds_permits

    def test_one_that_was_out_at_a_change_can_still_be_given_back(self):
        space = self.permits()
        space.check("a", 2, 0)
        change(space, "3/minute", SECOND, "concurrency")
        assert spent(space, "a", SECOND) == 2
        space.refund("a", 1, 2 * SECOND, 0)
        assert spent(space, "a", 2 * SECOND) == 1

    def test_one_that_had_expired_by_the_change_gives_back_nothing(self):
        space = self.permits("2/minute")
        space.check("a", 1, 0)
        space.check("a", 1, 30 * SECOND)
        change(space, "3/minute", 61 * SECOND, "concurrency")
        space.refund("a", 1, 62 * SECOND, 0)
        assert spent(space, "a", 62 * SECOND) == 1


class TestDumping:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_state_survives(self, name):
        space = keyspace(KeyedTable(), "10/hour", name)
        space.check("a", 4, SECOND)
        space.check("full", 0, SECOND)
        other = keyspace(KeyedTable(), "10/hour", name)
        dumped = space.dump(2 * SECOND, 0)
        assert list(dumped) == ["a"]
        assert other.load("a", dumped["a"], 2 * SECOND, 0)
        assert other.peek("a", 7, 2 * SECOND) == space.peek("a", 7, 2 * SECOND)

    def test_what_waits_under_former_settings_is_dumped_under_the_new_ones(self):
        space = keyspace(KeyedTable(), "10/hour")
        space.check("a", 4, 0)
        change(space, "20/hour")
        other = keyspace(KeyedTable(), "20/hour")
        other.load("a", space.dump(0, 0)["a"], 0, 0)
        assert spent(other, "a") == 4

    def test_what_is_worth_nothing_or_comes_too_late_is_not_taken(self):
        space = keyspace(KeyedTable(), "10/hour")
        space.check("a", 4, 0)
        dumped = space.dump(0, 0)["a"]
        other = keyspace(KeyedTable(), "10/hour")
        assert not other.load("a", dumped, HOUR, 0)
        other.check("a", 1, 0)
        assert not other.load("a", dumped, 0, 0)
        assert spent(other, "a") == 1

    def test_nothing_is_taken_without_room(self):
        space = keyspace(KeyedTable(1), "1/hour")
        space.check("a", 1, 0)
        dumped = space.dump(0, 0)["a"]
        assert not space.load("b", dumped, 0, 0)
        assert tracked(space) == {"a"}


def test_a_retired_keyspace_is_charged_no_more():
    table = KeyedTable()
    space = keyspace(table, "10/hour")
    space.check("a", 4, 0)
    space.retire()
    space.pay("a", 1, 0)
    space.refund("a", 1, 0, 0)
    assert len(space) == 0
