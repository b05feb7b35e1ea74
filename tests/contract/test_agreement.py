"""What every agreement must do: that of a node with itself, by etcd, by a Redis."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.coordination.single_agreement import SingleAgreement
from headgate.engine.agreement import Member
from headgate.errors import Conflict, StoreUnavailable

PATIENCE = 15
AGREED = ("etcd", "redis")


@pytest.fixture(params=["single", *AGREED])
def agreement(request, agreements):
    return SingleAgreement() if request.param == "single" else agreements(request.param)


@pytest.fixture(params=AGREED)
def node(request, agreements):
    """Makes one more node of the cluster."""
    return lambda **settings: agreements(request.param, **settings)


async def heard(changes):
    """Wait for the next word of a change."""
    return await asyncio.wait_for(anext(changes), PATIENCE)


async def until(condition):
    """Wait until it holds: what other nodes do takes them a moment."""
    for _ in range(PATIENCE * 100):
        if condition():
            return
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    pytest.fail(f"{condition} did not come true")


def names(agreement):
    return [member.node for member in agreement.members()]


async def test_it_says_that_something_may_have_changed_at_the_start_and_when_it_is_told(agreement):
    changes = agreement.changes()
    await heard(changes)
    await agreement.announce()
    await heard(changes)
    await changes.aclose()
    await agreement.close()


async def test_many_follow(agreement):
    followers = [agreement.changes() for _ in range(3)]
    for changes in followers:
        await heard(changes)
    await agreement.announce()
    for changes in followers:
        await heard(changes)
        await changes.aclose()
    await agreement.close()


async def test_who_joins_is_a_member_and_leads_until_it_leaves(agreement):
    await agreement.open()
    assert list(agreement.members()) == []
    assert agreement.leader() == ""
    member = Member("one", "http://127.0.0.1:1", "0.1", 1_700_000_000_000, 2)
    await agreement.join(member)
    assert list(agreement.members()) == [member]
    assert agreement.leader() == "one"
    assert agreement.trouble == ""
    await agreement.leave()
    assert list(agreement.members()) == []
    assert agreement.leader() == ""
    await agreement.close()


async def test_following_ends_when_it_is_closed(agreement):
    changes = agreement.changes()
    await heard(changes)
    await agreement.close()
    async for _ in changes:  # what changed before may be told first
        pass
    assert [each async for each in agreement.changes()] == []


async def test_it_can_be_closed_without_having_been_used_and_twice(agreement):
    await agreement.close()
    await agreement.close()


async def test_a_change_is_told_to_all_nodes_soon(node, policy):
    one, other = node(), node()
    changes = other.changes()
    await heard(changes)
    await asyncio.to_thread(one.store.policies.create, policy("api"))
    await heard(changes)
    stored = await asyncio.to_thread(other.store.policies.list)
    assert [each.policy.name for each in stored] == ["api"]
    await changes.aclose()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.tokens.create("ci", ["check"]),
        lambda store: store.settings.put("backpressure", {"a": 1}),
    ],
)
async def test_tokens_and_settings_are_told_of_too(node, change):
    one, other = node(), node()
    changes = other.changes()
    await heard(changes)
    await asyncio.to_thread(change, one.store)
    await heard(changes)
    await changes.aclose()


async def test_nodes_see_each_other_and_one_leads(node):
    nodes = {name: node() for name in ("b", "a", "c")}
    for name, each in nodes.items():
        await each.join(Member(name, f"http://{name}"))
    for each in nodes.values():
        await until(lambda each=each: names(each) == ["a", "b", "c"])
        await until(lambda each=each: each.leader() == "b")
    await nodes["b"].leave()
    for each in nodes.values():
        await until(lambda each=each: names(each) == ["a", "c"])
        await until(lambda each=each: each.leader() in {"a", "c"})
    assert nodes["a"].leader() == nodes["c"].leader() == nodes["b"].leader()


async def test_who_only_looks_is_no_member(node):
    one, looking = node(), node()
    await one.join(Member("one"))
    await looking.open()
    assert names(looking) == ["one"]
    assert looking.leader() == "one"


@pytest.mark.slow
async def test_a_name_is_had_by_one_at_a_time(node):
    one, other = node(), node(ttl_ns=200_000_000)
    await one.join(Member("same", "http://127.0.0.1:1"))
    with pytest.raises(Conflict, match=r"called 'same', at http://127.0.0.1:1; give this one"):
        await other.join(Member("same", "http://127.0.0.1:2"))
    assert other.leader() == ""  # not this one, which is no member
    assert "'same'" in other.trouble
    assert [member.address for member in other.members()] == ["http://127.0.0.1:1"]
    await one.leave()
    await until(lambda: other.leader() == "same")  # the name is free, and nobody has to ask again
    assert [member.address for member in other.members()] == ["http://127.0.0.1:2"]
    assert other.trouble == ""
    await other.join(Member("same", "http://127.0.0.1:3"))
    assert [member.address for member in other.members()] == ["http://127.0.0.1:3"]
    assert other.leader() == "same"


async def test_of_two_that_change_one_version_one_wins_and_the_other_sees_both(node, policy):
    one, other = node().store.policies, node().store.policies
    await asyncio.to_thread(one.create, policy("api"))
    barrier = threading.Barrier(2)

    def replace(policies, limit):
        barrier.wait()
        return policies.replace("api", policy("api", limit=limit), expected_version=1)

    results = await asyncio.gather(
        asyncio.to_thread(replace, one, 20),
        asyncio.to_thread(replace, other, 30),
        return_exceptions=True,
    )
    [lost] = [each for each in results if isinstance(each, Exception)]
    [won] = [each for each in results if not isinstance(each, Exception)]
    assert isinstance(lost, Conflict)
    assert lost.context["expected_version"] == 1
    assert lost.context["current_version"] == won.version == 2
    assert "version 2" in lost.message
    assert "version 1" in lost.message


async def test_a_set_of_policies_is_applied_at_once_however_large(node, policy):
    one, other = node().store.policies, node().store.policies
    wanted = [policy(f"policy-{number}") for number in range(300)]
    applied = await asyncio.to_thread(one.apply, wanted)
    assert {each.version for each in applied} == {1}
    assert len(await asyncio.to_thread(other.list)) == 300


async def test_histories_are_bounded_and_versions_go_on(node, policy, monkeypatch):
    monkeypatch.setattr("headgate.storage.agreed_policies.KEPT_VERSIONS", 3)
    policies = node().store.policies

    def change_much():
        policies.create(policy("api"))
        for limit in range(11, 16):
            policies.replace("api", policy("api", limit=limit))
        policies.delete("api")
        return policies.create(policy("api"))

    assert (await asyncio.to_thread(change_much)).version == 8
    lines = await asyncio.to_thread(policies.history, "api")
    assert [(line.version, line.change) for line in lines] == [
        (6, "replaced"),
        (7, "deleted"),
        (8, "created"),
    ]


async def test_a_closed_one_refuses(node):
    closed = node()
    await closed.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await closed.announce()
    with pytest.raises(StoreUnavailable, match="closed"):
        await closed.join(Member("one"))
