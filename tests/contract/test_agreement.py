"""What every agreement must do: that of a node with itself, one by Redis, one by etcd."""

from __future__ import annotations

import asyncio

import pytest

from headgate.coordination.single_agreement import SingleAgreement
from headgate.engine.agreement import Member

SECONDS = 10


@pytest.fixture(params=["single"])
async def agreement(request):
    made = SingleAgreement()
    yield made
    await made.close()


async def heard(changes):
    """Wait for the next word of a change."""
    return await asyncio.wait_for(anext(changes), SECONDS)


async def test_it_says_that_something_may_have_changed_at_the_start_and_when_it_is_told(agreement):
    changes = agreement.changes()
    await heard(changes)
    await agreement.announce()
    await heard(changes)
    await changes.aclose()


async def test_many_follow(agreement):
    followers = [agreement.changes() for _ in range(3)]
    for changes in followers:
        await heard(changes)
    await agreement.announce()
    for changes in followers:
        await heard(changes)
        await changes.aclose()


async def test_who_joins_is_a_member_and_leads_until_it_leaves(agreement):
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


async def test_following_ends_when_it_is_closed(agreement):
    changes = agreement.changes()
    await heard(changes)
    await agreement.close()
    with pytest.raises(StopAsyncIteration):
        await heard(changes)
    assert [each async for each in agreement.changes()] == []
