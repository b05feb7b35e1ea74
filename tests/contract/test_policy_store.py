from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from headgate.errors import Conflict, InvalidPolicy, NotFound

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def policies(store):
    return store.policies


def names(stored):
    return [each.policy.name for each in stored]


def in_threads(count, action):
    """Run the action in threads that begin together; what each returned, or raised."""
    barrier = threading.Barrier(count)
    results = [None] * count

    def run(place):
        barrier.wait()
        try:
            results[place] = action(place)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_new_store_is_empty(policies):
    assert list(policies.list()) == []
    assert list(policies.history("api")) == []


def test_what_is_created_can_be_read(policies, policy, clock):
    clock.advance(1.25)
    created = policies.create(policy("api", limit=5))
    assert created.version == 1
    assert created.created_at == created.updated_at == START + timedelta(seconds=1.25)
    found = policies.get("api")
    assert found.policy.to_dict() == policy("api", limit=5).to_dict()
    assert (found.version, found.created_at, found.updated_at) == (
        created.version,
        created.created_at,
        created.updated_at,
    )
    assert found.created_at.tzinfo is not None


def test_the_list_is_in_the_order_of_names(policies, policy):
    for name in ("b", "a-1", "A", "a.1", "_x"):
        policies.create(policy(name))
    assert names(policies.list()) == ["A", "_x", "a-1", "a.1", "b"]


def test_a_name_is_given_once(policies, policy):
    policies.create(policy("api"))
    with pytest.raises(Conflict, match="'api' exists already; replace it") as caught:
        policies.create(policy("api", limit=99))
    assert caught.value.context == {"name": "api", "current_version": 1}
    assert policies.get("api").policy.to_dict()["limit"] == 10


def test_a_replacement_keeps_the_beginning_and_counts_on(policies, policy, clock):
    policies.create(policy("api"))
    clock.advance(60)
    replaced = policies.replace("api", policy("api", limit=20))
    assert replaced.version == 2
    assert replaced.created_at == START
    assert replaced.updated_at == START + timedelta(minutes=1)
    assert policies.get("api").policy.to_dict()["limit"] == 20


def test_a_replacement_for_the_expected_version_is_made(policies, policy):
    policies.create(policy("api"))
    assert policies.replace("api", policy("api", limit=20), expected_version=1).version == 2


@pytest.mark.parametrize("expected", [0, 1, 3, -1, 10**30])
def test_a_change_for_another_version_is_refused_with_both_versions(policies, policy, expected):
    policies.create(policy("api"))
    policies.replace("api", policy("api", limit=20))
    with pytest.raises(Conflict, match="is at version 2") as caught:
        policies.replace("api", policy("api", limit=30), expected_version=expected)
    assert caught.value.context["expected_version"] == expected
    assert caught.value.context["current_version"] == 2
    with pytest.raises(Conflict, match="is at version 2"):
        policies.delete("api", expected_version=expected)
    assert policies.get("api").version == 2


def test_a_replacement_with_another_name_is_refused(policies, policy):
    policies.create(policy("api"))
    with pytest.raises(InvalidPolicy, match="name must be 'api'") as caught:
        policies.replace("api", policy("web"))
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", ["nope", "", "a/b", "nul\x00", "\ud800", "é", "x" * 5000])
def test_what_is_not_there_is_not_found(policies, policy, name):
    with pytest.raises(NotFound, match="there is no policy"):
        policies.get(name)
    with pytest.raises(NotFound):
        policies.delete(name)
    assert list(policies.history(name)) == []


def test_replacing_what_is_not_there_is_not_found(policies, policy):
    with pytest.raises(NotFound):
        policies.replace("api", policy("api"))


def test_what_is_deleted_is_gone(policies, policy):
    policies.create(policy("api"))
    policies.create(policy("web"))
    policies.delete("api", expected_version=1)
    assert names(policies.list()) == ["web"]
    with pytest.raises(NotFound):
        policies.get("api")


def test_a_version_is_never_given_out_twice(policies, policy):
    policies.create(policy("api"))
    policies.delete("api")
    again = policies.create(policy("api", limit=3))
    assert again.version > 2
    with pytest.raises(Conflict):
        policies.replace("api", policy("api"), expected_version=1)


def test_the_history_says_who_did_what_when(policies, policy, clock):
    policies.create(policy("api"), actor="ann")
    clock.advance(1)
    policies.replace("api", policy("api", limit=20), actor="bob")
    clock.advance(1)
    policies.delete("api")
    first, second, third = policies.history("api")
    assert (first.name, first.version, first.change, first.actor) == ("api", 1, "created", "ann")
    assert first.document == policy("api").to_dict()
    assert first.changed_at == START
    assert (second.version, second.change, second.actor) == (2, "replaced", "bob")
    assert second.document["limit"] == 20
    assert second.changed_at == START + timedelta(seconds=1)
    assert (third.version, third.change, third.document, third.actor) == (3, "deleted", None, "")


def test_an_actor_that_no_database_could_keep_is_made_harmless(policies, policy):
    policies.create(policy("api"), actor="a\x00b\ud800c\n" + "x" * 500)
    [line] = policies.history("api")
    assert line.actor == "a?b?c?" + "x" * 122


def test_documents_come_back_as_they_were(policies, policy):
    odd = policy(
        "api",
        description='quotes " and \\ and \x00 and é and \U0001f600 and </script>',
        dimensions=["user_id", "höhe"],
        match={"user_id": ["a*", "\\*"]},
        overrides=[{"match": {"user_id": "vip", "höhe": "1"}, "limit": 10**9, "window": 60}],
        timezone=None,
    )
    policies.create(odd)
    assert policies.get("api").policy.to_dict() == odd.to_dict()
    assert policies.get("api").policy.levels[0].overrides == odd.levels[0].overrides


def test_applying_creates_and_replaces_and_leaves_the_unchanged_alone(policies, policy, clock):
    policies.create(policy("same"))
    policies.create(policy("changed"))
    clock.advance(5)
    wanted = [policy("new"), policy("same"), policy("changed", limit=11)]
    applied = policies.apply(wanted, actor="deploy")
    assert [(each.policy.name, each.version) for each in applied] == [
        ("new", 1),
        ("same", 1),
        ("changed", 2),
    ]
    assert applied[1].updated_at == START
    assert [line.change for line in policies.history("same")] == ["created"]
    assert policies.history("changed")[-1].actor == "deploy"
    assert names(policies.list()) == ["changed", "new", "same"]
    again = policies.apply(wanted)
    assert [each.version for each in again] == [1, 1, 2]


def test_applying_counts_on_after_a_delete(policies, policy):
    policies.create(policy("api"))
    policies.delete("api")
    assert policies.apply([policy("api"), policy("web")])[0].version == 3


def test_applying_none_changes_nothing(policies):
    assert list(policies.apply([])) == []


def test_applying_one_name_twice_is_refused_as_a_whole(policies, policy):
    with pytest.raises(InvalidPolicy, match="name must be unique, got 'b' twice"):
        policies.apply([policy("a"), policy("b"), policy("b", limit=2)])
    assert list(policies.list()) == []


def test_of_many_that_create_one_name_one_wins(policies, policy):
    results = in_threads(4, lambda place: policies.create(policy("api", limit=place + 1)))
    winners = [each for each in results if not isinstance(each, Exception)]
    losers = [each for each in results if isinstance(each, Exception)]
    assert len(winners) == 1
    assert all(isinstance(each, Conflict) for each in losers), losers
    kept = policies.get("api").policy.to_dict()["limit"]
    assert kept == winners[0].policy.to_dict()["limit"]


def test_of_many_that_replace_one_version_one_wins(policies, policy):
    policies.create(policy("api"))
    results = in_threads(
        4,
        lambda place: policies.replace("api", policy("api", limit=place + 20), expected_version=1),
    )
    assert sum(not isinstance(each, Exception) for each in results) == 1
    assert all(isinstance(each, Conflict) for each in results if isinstance(each, Exception))
    assert policies.get("api").version == 2


def test_blind_replacements_are_all_made_one_after_the_other(policies, policy):
    policies.create(policy("api"))
    results = in_threads(4, lambda place: policies.replace("api", policy("api", limit=place + 20)))
    assert sorted(each.version for each in results) == [2, 3, 4, 5]
    assert [line.version for line in policies.history("api")] == [1, 2, 3, 4, 5]
