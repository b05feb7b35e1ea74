"""The keyed table stays bounded, forgets only what carries nothing, and counts what it gives up."""

from __future__ import annotations

import pytest

from headgate.engine.table import KeyedTable
from headgate.errors import InvalidInput
from tests.support.limits import NAMES, SECOND, assert_in_step, keyspace, tracked


def fill(space, keys, cost, now=0):
    for key in keys:
        space.check(key, cost, now)


class TestForgetting:
    def test_a_key_that_carries_nothing_goes_when_another_comes(self):
        table = KeyedTable(100)
        space = keyspace(table, "5/second")
        fill(space, ["old"], 5)
        space.check("new", 1, SECOND)
        assert tracked(space) == {"new"}
        assert table.stats().forgotten == 1

    def test_a_key_that_carries_something_stays(self):
        table = KeyedTable(100)
        space = keyspace(table, "5/second")
        fill(space, ["old"], 5)
        space.check("new", 1, SECOND - 1)
        assert tracked(space) == {"old", "new"}

    @pytest.mark.parametrize("name", NAMES)
    def test_garbage_shrinks_as_keys_arrive(self, name):
        table = KeyedTable(10_000)
        space = keyspace(table, "5/second", name)
        fill(space, [f"old {n}" for n in range(1_000)], 1)
        assert len(table) == 1_000
        later = 10 * SECOND
        fill(space, [f"new {n}" for n in range(1_000)], 1, later)
        # Two looks for each: the thousand are gone, and only the new ones are left.
        assert len(table) == 1_000
        assert all(key.startswith("new") for key in tracked(space))
        assert_in_step(table, [space])

    def test_the_table_follows_what_is_active(self):
        # 100 keys a second that matter for a second each: never more than twice as many are kept.
        table = KeyedTable(10_000)
        space = keyspace(table, "5/second")
        most = 0
        for n in range(5_000):
            space.check(f"key {n}", 5, n * SECOND // 100)
            most = max(most, len(table))
        assert most <= 201

    def test_refused_and_asking_callers_are_not_remembered(self):
        table = KeyedTable(100)
        space = keyspace(table, "5/second")
        space.check("too much", 6, 0)
        space.check("asks", 0, 0)
        space.peek("peeks", 1, 0)
        assert len(table) == 0

    def test_work_per_new_key_is_constant(self):
        table = KeyedTable(500)
        space = keyspace(table, "1/hour")
        for n in range(5_000):
            before = table.looks
            space.check(f"key {n}", 1, n)
            assert table.looks - before <= 20

    def test_a_known_key_costs_no_look(self):
        table = KeyedTable(2)
        space = keyspace(table, "5/second")
        fill(space, ["a", "b"], 1)
        before = table.looks
        fill(space, ["a", "b", "a"], 1)
        assert table.looks == before


class TestAtTheCap:
    def test_a_newcomer_takes_the_place_of_who_spent_the_least_part(self):
        table = KeyedTable(3)
        space = keyspace(table, "10/minute")
        for key, cost in (("much", 8), ("little", 2), ("half", 5)):
            space.check(key, cost, 0)
        space.check("new", 1, 0)
        assert tracked(space) == {"much", "half", "new"}
        stats = table.stats()
        assert (stats.evicted, stats.tokens_forgone, stats.overflowed) == (1, 2, 0)

    def test_a_shared_counter_outlives_a_flood_of_callers(self):
        # By time alone the shared limit would go first: it refills within a second.
        table = KeyedTable(50)
        shared = keyspace(table, "10000/second")
        callers = keyspace(table, "10/minute")
        shared.check("", 5_000, 0)
        fill(callers, [f"caller {n}" for n in range(2_000)], 1)
        assert shared.peek("", 0, 0).remaining == 5_000

    @pytest.mark.parametrize("name", NAMES)
    def test_a_limited_key_is_never_given_up(self, name):
        table = KeyedTable(32)
        space = keyspace(table, "4/hour", name)
        limited = [f"limited {n}" for n in range(20)]
        fill(space, limited, 4)
        fill(space, [f"random {n}" for n in range(1_000)], 1, 1)
        assert len(table) == 32
        assert set(limited) <= tracked(space)
        assert not any(space.check(key, 1, 2).allowed for key in limited)
        assert_in_step(table, [space])

    def test_newcomers_share_one_allowance_when_all_others_are_limited(self):
        table = KeyedTable(4)
        space = keyspace(table, "3/hour")
        fill(space, "abcd", 3)
        answers = [space.check(f"random {n}", 1, 0).allowed for n in range(10)]
        assert answers == [True] * 3 + [False] * 7
        stats = table.stats()
        assert (stats.overflowed, stats.evicted, stats.tokens_forgone) == (10, 0, 0)
        assert tracked(space) == set("abcd")

    def test_each_limit_has_an_overflow_of_its_own(self):
        table = KeyedTable(2)
        one = keyspace(table, "2/hour")
        other = keyspace(table, "2/hour")
        fill(one, "ab", 2)
        fill(one, "cd", 1)
        assert not one.check("e", 1, 0).allowed
        assert other.check("e", 1, 0).allowed

    def test_whoever_finds_room_again_is_not_held_to_the_overflow(self):
        table = KeyedTable(4)
        short = keyspace(table, "1/second")
        long = keyspace(table, "1/hour")
        fill(short, "abcd", 1)
        assert long.check("e", 1, 0).allowed
        assert not long.check("f", 1, 0).allowed
        # A second later all four are worth nothing, though nobody has looked at them yet.
        assert long.peek("f", 1, SECOND).allowed
        assert long.check("f", 1, SECOND).allowed
        assert tracked(long) == {"f"}

    def test_a_peek_answers_what_a_check_would(self):
        table = KeyedTable(4)
        space = keyspace(table, "2/hour")
        fill(space, "abcd", 2)
        for n in range(5):
            peeked = space.peek(f"random {n}", 1, 0)
            assert space.peek(f"random {n}", 1, 0) == peeked
            checked = space.check(f"random {n}", 1, 0)
            assert checked.allowed == peeked.allowed
            assert checked.retry_after_ns == peeked.retry_after_ns

    def test_a_refusal_gives_nobody_up(self):
        table = KeyedTable(2)
        space = keyspace(table, "5/hour")
        fill(space, "ab", 1)
        assert space.check("c", 6, 0).never_fits
        assert tracked(space) == set("ab")
        assert table.stats().evicted == 0

    def test_the_hand_passes_on_from_those_who_are_limited(self):
        table = KeyedTable(40)
        space = keyspace(table, "2/hour")
        fill(space, [f"limited {n}" for n in range(39)], 2)
        fill(space, ["free"], 1)
        # Sixteen looks at a time, the one that may go is found by the third newcomer.
        fill(space, ["x", "y", "z"], 2)
        assert "free" not in tracked(space)
        assert table.stats().evicted == 1

    @pytest.mark.parametrize("max_keys", [1, 2, 3, 16, 17])
    def test_the_smallest_tables_work(self, max_keys):
        table = KeyedTable(max_keys)
        space = keyspace(table, "2/hour")
        for n in range(100):
            space.check(f"key {n % 37}", 1 + n % 2, n)
            assert_in_step(table, [space])
            assert len(table) <= max_keys


class TestClocks:
    @pytest.mark.parametrize("name", NAMES)
    def test_standing_still_hands_out_no_more_than_the_capacity(self, name):
        table = KeyedTable(4)
        space = keyspace(table, "5/second", name)
        assert [space.check("a", 1, 7).allowed for _ in range(8)] == [True] * 5 + [False] * 3

    @pytest.mark.parametrize("name", NAMES)
    def test_going_back_keeps_the_books_in_step(self, name):
        table = KeyedTable(8)
        space = keyspace(table, "2/second", name)
        for n in range(200):
            now = max(0, 10 * SECOND - n * SECOND // 7)
            space.check(f"key {n % 11}", 1 + n % 2, now)
            assert_in_step(table, [space])


class TestStats:
    def test_they_tell_what_is_kept(self):
        table = KeyedTable(7)
        fill(keyspace(table), "abc", 1)
        assert repr(table.stats()) == (
            "TableStats(keys=3, max_keys=7, forgotten=0, evicted=0, tokens_forgone=0, overflowed=0)"
        )

    @pytest.mark.parametrize("max_keys", [0, -1, 10**9 + 1, 10**30])
    def test_a_cap_out_of_bounds_is_refused(self, max_keys):
        with pytest.raises(InvalidInput, match="max_keys must be 1 to 1000000000"):
            KeyedTable(max_keys)


class TestRetiring:
    def test_a_retired_keyspace_lets_go_of_its_keys_at_once(self):
        table = KeyedTable(10)
        gone = keyspace(table)
        fill(gone, "abcdefgh", 5)
        gone.retire()
        assert len(gone) == 0

    def test_its_slots_go_as_others_come(self):
        table = KeyedTable(10)
        gone = keyspace(table, "1/hour")
        fill(gone, "abcdefghij", 1)
        gone.retire()
        stays = keyspace(table, "1/hour")
        fill(stays, "klmnopqrst", 1)
        assert tracked(stays) == set("klmnopqrst")
        assert len(table) == 10
        assert table.stats().evicted == 0
