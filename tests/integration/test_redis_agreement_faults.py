"""What becomes of the agreement when bad things happen to a real Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
import redis

from headgate.clock import SystemClock
from headgate.engine.agreement import Member
from headgate.errors import StoreUnavailable
from headgate.policy.model import Policy
from tests.support.agreements import new_cluster, redis_agreement, vanish
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import HOST
from tests.support.valkeys import sentinel_group, valkey

pytestmark = [pytest.mark.needs_redis, pytest.mark.slow]

PATIENCE = 15.0


@pytest.fixture
def url(redis_server):
    return f"redis://{HOST}:{redis_server.port}"


@pytest.fixture
async def node(tmp_path):
    """Makes agreements of nodes of one cluster: ``node(url)``."""
    made = []
    cluster = new_cluster()

    def make(url, directory=None, **settings):
        directory = directory or tmp_path / f"node{len(made)}"
        made.append(redis_agreement(url, cluster, SystemClock(), directory, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def policy(name, limit=10):
    return Policy.from_dict({"name": name, "limit": limit, "window": "1m"})


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)


async def until(condition):
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    pytest.fail("it did not come true")


async def heard(changes, seconds=PATIENCE):
    return await asyncio.wait_for(anext(changes), seconds)


async def names_of(agreement):
    return [each.policy.name for each in await in_thread(agreement.store.policies.list)]


def names(agreement):
    return [member.node for member in agreement.members()]


async def test_it_is_killed_and_comes_back_empty(tmp_path, node, caplog):
    caplog.set_level(logging.INFO, "headgate.coordination")
    with valkey(tmp_path / "valkey") as server:
        one, other = node(server.url), node(server.url)
        changes = one.changes()
        await heard(changes)
        await one.join(Member("one"))
        await other.join(Member("other"))
        await in_thread(one.store.policies.create, policy("api"))
        await in_thread(one.store.policies.replace, "api", policy("api", 20))
        for each in (one, other):
            await until(lambda each=each: '"limit":20' in str(each._records._copy["policies"]))
        server.kill()
        await until(lambda: one.trouble and other.trouble)
        assert await names_of(one) == ["api"]
        assert names(one) == ["one", "other"]
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await in_thread(one.store.policies.create, policy("web"))
        server.start()
        await until(lambda: not one.trouble and not other.trouble)
        await until(lambda: names(one) == names(other) == ["one", "other"])
        assert await names_of(other) == ["api"]
        replaced = await in_thread(other.store.policies.replace, "api", policy("api", 30))
        assert replaced.version == 3
        assert caplog.text.count("had lost all records") == 1
        await changes.aclose()


async def test_all_is_flushed_and_scripts_too(tmp_path, node):
    with valkey(tmp_path / "valkey") as server:
        one = node(server.url)
        await one.join(Member("one"))
        await in_thread(one.store.policies.create, policy("api"))
        await until(lambda: one._records._copy["policies"])
        server.command("SCRIPT", "FLUSH")
        server.command("FLUSHALL")
        await until(lambda: server.command("EXISTS", one._backend._folder("policies")))
        assert await names_of(one) == ["api"]
        await until(lambda: names(one) == ["one"] and one.leader() == "one")


async def test_it_hangs_and_nobody_waits_for_it_for_long(tmp_path, node):
    with valkey(tmp_path / "valkey") as server:
        one = node(server.url, deadline=0.3)
        await one.join(Member("one"))
        await in_thread(one.store.policies.create, policy("api"))
        await until(lambda: one._records._copy["policies"])
        server.pause()
        await until(lambda: one.trouble)
        assert await names_of(one) == ["api"]
        await until(lambda: one.leader() == "")
        server.resume()
        await until(lambda: not one.trouble)
        await until(lambda: one.leader() == "one")


async def test_a_word_that_is_lost_only_delays(url, node, monkeypatch):
    one, other = node(url), node(url)
    changes = other.changes()
    await heard(changes)
    other._backend._channel += ":elsewhere"  # what is published is not heard there
    with redis.Redis.from_url(url) as client:
        client.client_kill_filter(_type="pubsub", skipme=True)
    await heard(changes)
    await in_thread(one.store.policies.create, policy("api"))
    while not await names_of(other):
        await heard(changes, 2.0)
    await heard(changes, 2.0)
    await changes.aclose()


async def test_a_node_that_is_killed_is_gone_when_its_lease_has_run_out(url, node):
    one, other = node(url), node(url)
    await one.join(Member("one"))
    await other.join(Member("other"))
    await until(lambda: other.leader() == "one")
    await vanish(one)
    await until(lambda: names(other) == ["other"] and other.leader() == "other")


async def test_a_leader_that_is_cut_off_stops_before_another_starts(redis_server, url, node):
    with fault_proxy(redis_server.port) as proxy:
        cut, other = node(proxy.url, deadline=0.3), node(url)
        await cut.join(Member("cut"))
        await other.join(Member("other"))
        await until(lambda: cut.leader() == other.leader() == "cut")
        proxy.hold()

        def changed():
            leads = cut.leader() == "cut"
            assert not (leads and other.leader() == "other")
            return other.leader() == "other"

        await until(changed)
        proxy.restore()
        await until(lambda: not cut.trouble and names(cut) == ["cut", "other"])
        assert cut.leader() == "other"


async def test_in_a_cluster(redis_cluster, node):
    one, other = node(redis_cluster.url), node(redis_cluster.url)
    changes = other.changes()
    await heard(changes)
    await one.join(Member("one"))
    await in_thread(one.store.policies.apply, [policy("api"), policy("web")])
    while await names_of(other) != ["api", "web"]:
        await heard(changes, 2.0)
    await until(lambda: names(other) == ["one"])
    await changes.aclose()


async def test_the_user_of_the_page_may_do_all_that_is_needed(tmp_path, node):
    page = (Path(__file__).parents[2] / "docs/how-to/redis.md").read_text()
    [line] = [
        each.strip() for each in page.splitlines() if each.strip().startswith("user headgate")
    ]
    with valkey(tmp_path / "valkey") as server:
        server.command("ACL", "SETUSER", *line.split()[1:])
        server.command("ACL", "SETUSER", "default", "resetpass", ">of default")
        url = f"redis://headgate:a-long-password@{HOST}:{server.port}"
        one, other = node(url), node(url)
        changes = other.changes()
        await heard(changes)
        await one.join(Member("one"))
        await in_thread(one.store.policies.create, policy("api"))
        await in_thread(one.store.policies.delete, "api")
        await in_thread(one.store.tokens.create, "ci", ["check"])
        await heard(changes)
        await until(lambda: names(other) == ["one"] and other.leader() == "one")
        assert (one.trouble, other.trouble) == ("", "")
        await one.leave()
        await changes.aclose()
        stranger = node(f"redis://{HOST}:{server.port}")
        await stranger.open()
        assert "NOAUTH" in stranger.trouble or "Authentication" in stranger.trouble


async def test_sentinels_fail_it_over(tmp_path, node):
    with sentinel_group(tmp_path / "group") as group:
        one = node(group.url)
        await one.join(Member("one"))
        await in_thread(one.store.policies.create, policy("api"))
        group.fail_over()
        await until(lambda: not one.trouble and names(one) == ["one"])

        async def replaced():
            try:
                return await in_thread(one.store.policies.replace, "api", policy("api", 20))
            except StoreUnavailable:
                return None

        while (stored := await replaced()) is None:
            await until(lambda: True)
        assert stored.version == 2
        await until(lambda: one.leader() == "one")
