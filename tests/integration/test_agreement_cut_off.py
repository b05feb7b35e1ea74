"""Changes of one node while another is cut off again and again: in the end it has missed none."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from headgate.clock import SystemClock
from headgate.engine.agreement import Member
from headgate.errors import StoreUnavailable
from headgate.policy.model import Policy
from tests.support.agreements import etcd_agreement, new_cluster, redis_agreement
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import HOST

pytestmark = [pytest.mark.needs_etcd, pytest.mark.needs_redis, pytest.mark.slow]

ROUNDS = 10
PATIENCE = 15.0


def policy(name, limit):
    return Policy.from_dict({"name": name, "limit": limit, "window": "1m"})


class Follower:
    """Reads all whenever it is told of a change, as a node does."""

    def __init__(self, agreement):
        self.versions = {}
        self._agreement = agreement

    async def run(self):
        async for _ in self._agreement.changes():
            while not await self._read():
                await pause(0.05)

    async def _read(self):
        try:
            stored = await asyncio.to_thread(self._agreement.store.policies.list)
        except StoreUnavailable:
            return False
        self.versions = {each.policy.name: each.version for each in stored}
        return True


async def pause(seconds):
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


async def until(condition, seconds=PATIENCE):
    for _ in range(int(seconds * 200)):
        if condition():
            return
        await pause(0.005)
    pytest.fail("it did not come true")


def interfere(proxy, dice):
    what = dice.choice(["drop", "hold", "nothing"])
    if what == "drop":
        proxy.drop(refuse=dice.random() < 0.5)
    elif what == "hold":
        proxy.hold(to_server=dice.random() < 0.7, to_client=dice.random() < 0.7)


@pytest.fixture(params=["etcd", "redis"])
def nodes(request, tmp_path):
    """A node that has a good network, one that has not, what makes it bad, and what compacts etcd."""
    server = request.getfixturevalue(f"{request.param}_server")
    port = server.members[0].port if request.param == "etcd" else server.port
    scheme, make, compact = {
        "etcd": ("http", etcd_agreement, getattr(server, "compact", None)),
        "redis": ("redis", redis_agreement, lambda: None),
    }[request.param]
    cluster, clock = new_cluster(), SystemClock()
    with fault_proxy(port) as proxy:
        yield (
            make(f"{scheme}://{HOST}:{port}", cluster, clock, tmp_path / "good"),
            make(f"{scheme}://{HOST}:{proxy.port}", cluster, clock, tmp_path / "bad", deadline=0.5),
            proxy,
            compact,
        )


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_missed(nodes, seed):
    good, bad, proxy, compact = nodes
    dice = random.Random(seed)
    follower = Follower(bad)
    following = asyncio.create_task(follower.run())
    await good.join(Member("good"))
    await bad.join(Member("bad"))
    for number in range(10):
        wanted = [policy(f"p{number % 3}", number + 1)]
        [stored] = await asyncio.to_thread(good.store.policies.apply, wanted)
        name = stored.policy.name
        # In a good network a change is known everywhere within a second.
        await until(lambda name=name, at=stored.version: follower.versions.get(name) == at, 1.0)
    for _ in range(ROUNDS):
        interfere(proxy, dice)
        for _ in range(dice.randrange(3)):
            wanted = [policy(f"p{dice.randrange(6)}", dice.randrange(1, 10**6))]
            await asyncio.to_thread(good.store.policies.apply, wanted)
        compact()
        await pause(dice.random() * 0.2)
        if dice.random() < 0.7:
            proxy.restore()
    proxy.restore()
    stored = await asyncio.to_thread(good.store.policies.list)
    wanted = {each.policy.name: each.version for each in stored}
    await until(lambda: follower.versions == wanted and not bad.trouble)
    await until(lambda: len(good.members()) == len(bad.members()) == 2)
    assert good.leader() == bad.leader() != ""
    following.cancel()
    await good.close()
    await bad.close()
