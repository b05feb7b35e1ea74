"""Policies change while the engine runs: counters go on, and what goes is freed."""

from __future__ import annotations

import pytest

from headgate.policy import Policy
from headgate.testing import ManualClock
from tests.support.limits import NAMES, SECOND, engine, policy, tracked

ANN = {"key": "ann", "team": "red"}


def used(one, attributes=ANN):
    return [usage.used for usage in one.usage(attributes)]


def spaces_of(one):
    return {keyspace.place: keyspace for keyspace in one._policies.keyspaces()}


class TestSetting:
    def test_the_newest_of_a_name_is_in_force(self):
        one = engine(policy(limit=5))
        one.set_policy(policy(limit=6))
        assert [each.levels[0].spec.rate.limit for each in one.policies()] == [6]
        assert one.check(ANN).limit == 6
        assert one.policy("test").levels[0].spec.rate.limit == 6
        assert one.policy("other") is None

    def test_the_states_of_an_unchanged_limit_stay(self):
        one = engine(policy())
        one.check(ANN, 4)
        before = spaces_of(one)
        one.set_policy(policy(description="the same limit in other words", match={"key": "a*"}))
        assert spaces_of(one) == before
        assert used(one) == [4]

    @pytest.mark.parametrize("name", NAMES)
    def test_a_changed_limit_carries_over_what_was_spent(self, name):
        one = engine(policy(limit=10))
        one.check(ANN, 8)
        one.set_policy(policy(limit=20, algorithm=name))
        assert used(one) == [8]
        assert not one.check(ANN, 13).allowed
        assert one.check(ANN, 12).allowed

    def test_there_and_back_again(self):
        one = engine(policy(limit=10))
        one.check(ANN, 10)
        for changed in (
            policy(limit=2),
            policy(limit=50, algorithm="fixed_window"),
            policy(limit=10),
        ):
            one.set_policy(changed)
        assert not one.check(ANN).allowed

    def test_changes_in_a_row_with_checks_between_them(self):
        one = engine(policy(limit=10))
        for limit in (20, 30, 40, 50):
            assert one.check(ANN, 10).allowed
            one.set_policy(policy(limit=limit))
        assert used(one) == [40]

    def test_only_the_level_that_changed_is_touched(self):
        levels = [
            {"name": "user", "limit": 5},
            {"name": "team", "dimensions": ["team"], "limit": 9},
        ]
        one = engine(policy(levels=levels))
        one.check(ANN, 3)
        levels[0]["limit"] = 6
        one.set_policy(policy(levels=levels))
        assert used(one) == [3, 3]
        levels.append({"name": "all", "dimensions": [], "limit": 100})
        one.set_policy(policy(levels=levels[1:]))
        assert used(one) == [3, 0]

    def test_other_dimensions_are_another_limit(self):
        one = engine(policy(dimensions=["key", "team"]))
        one.check(ANN, 3)
        one.set_policy(policy(dimensions=["team", "key"]))
        assert used(one) == [0]

    def test_names_of_dimensions_cannot_be_mistaken_for_each_other(self):
        one = engine(policy(dimensions=["a", "b"]))
        one.check({"a": "1", "b": "2"}, 3)
        one.set_policy(policy(dimensions=['a", "b']))
        assert used(one, {'a", "b': "1:1,2"}) == [0]

    def test_an_override_that_comes_starts_afresh_and_one_that_goes_is_freed(self):
        overrides = [{"match": {"key": "ann"}, "limit": 5}]
        one = engine(policy())
        one.check(ANN, 4)
        one.set_policy(policy(overrides=overrides))
        assert one.check(ANN, 5).allowed
        special = spaces_of(one)['test ["key"]=ann']
        one.set_policy(policy())
        assert tracked(special) == set()
        assert used(one) == [4]

    def test_counters_of_answers_go_on(self):
        one = engine(policy(limit=1))
        one.check(ANN)
        one.check(ANN)
        one.set_policy(policy(limit=3))
        one.check(ANN)
        (told,) = one.stats().policies
        assert (told.admitted, told.denied) == (2, 1)

    def test_what_cannot_be_compiled_changes_nothing(self):
        class Refusing:
            def build(self, wall_offset_ns):
                raise ValueError("no such thing")

        one = engine(policy(levels=[{"name": "a"}, {"name": "b"}]))
        one.check(ANN, 3)
        good = policy(levels=[{"name": "a", "limit": 99}, {"name": "b"}])
        last = good.levels[1]
        broken = type(last)(last.name, last.dimensions, last.match, Refusing())
        with pytest.raises(ValueError, match="no such thing"):
            one.set_policy(Policy("test", (good.levels[0], broken)))
        assert [level.limit for level in one.check(ANN).levels] == [10, 10]
        assert used(one) == [4, 4]


class TestDisabling:
    def test_a_disabled_policy_applies_to_nothing(self):
        one = engine(policy(limit=1, enabled=False))
        assert [one.check(ANN).policy for _ in range(3)] == [""] * 3

    def test_switching_off_and_on_hands_out_nothing(self):
        one = engine(policy(limit=1))
        one.check(ANN)
        one.set_policy(policy(limit=1, enabled=False))
        assert one.check(ANN).policy == ""
        one.set_policy(policy(limit=1))
        assert not one.check(ANN).allowed


class TestRemoving:
    def test_what_is_removed_is_freed(self):
        one = engine(policy("gone"), policy("stays"))
        one.check(ANN, 4)
        (space,) = [each for each in one._policies.keyspaces() if each.name == "gone"]
        assert one.remove_policy("gone")
        assert tracked(space) == set()
        assert [each.name for each in one.policies()] == ["stays"]
        assert used(one) == [4]

    def test_what_is_set_again_starts_afresh(self):
        one = engine(policy())
        one.check(ANN, 10)
        one.remove_policy("test")
        one.set_policy(policy())
        assert one.check(ANN, 10).allowed

    def test_the_unknown_is_no_error(self):
        assert not engine().remove_policy("nobody")

    def test_a_disabled_one_can_be_removed(self):
        one = engine(policy(enabled=False))
        assert one.remove_policy("test")
        assert one.policies() == []


class TestMany:
    def test_ten_thousand_policies_come_change_and_go(self):
        one = engine()
        for n in range(10_000):
            one.set_policy(policy(f"p{n}", match={"team": f"t{n}"}))
        request = {"key": "ann", "team": "t4711"}
        assert one.check(request).policy == "p4711"
        assert len(one._plan.candidates(request)) == 1
        for n in range(10_000):
            one.set_policy(policy(f"p{n}", limit=11, match={"team": f"t{n}"}))
        assert one.check(request).remaining == 9
        for n in range(10_000):
            one.remove_policy(f"p{n}")
        assert one.check(request).policy == ""


class TestHolds:
    def test_one_that_was_open_at_a_change_still_counts(self):
        one = engine(policy(limit=10))
        hold = one.reserve(ANN, 8, SECOND)
        one.set_policy(policy(limit=20))
        assert used(one) == [8]
        one.commit(hold.id, 3)
        assert used(one) == [3]

    def test_one_of_a_removed_policy_settles_on_nothing(self):
        clock = ManualClock()
        one = engine(policy(limit=10), clock=clock)
        holds = [one.reserve(ANN, 2, SECOND) for _ in range(3)]
        one.remove_policy("test")
        one.commit(holds[0].id, 5)
        one.release(holds[1].id)
        clock.advance(2)
        one.set_policy(policy(limit=10))
        assert used(one) == [0]
        assert one.stats().reservations == 0
