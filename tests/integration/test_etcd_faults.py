"""What becomes of the agreement when bad things happen to a real etcd, or to a node of ours."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest

from headgate.clock import Clock, SystemClock
from headgate.coordination.etcd_client import EtcdAccess, EtcdClient, encode
from headgate.engine.agreement import Member
from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.policy.model import Policy
from tests.support.agreements import TTL_NS, etcd_agreement, new_cluster, vanish
from tests.support.etcds import CERTIFICATE, KEY, etcd_cluster, guarded_etcd
from tests.support.fault_proxy import fault_proxy

pytestmark = [pytest.mark.needs_etcd, pytest.mark.slow]

HOUR_NS = 3600 * 10**9
PATIENCE = 15.0


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with etcd_cluster(tmp_path_factory.mktemp("three")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with guarded_etcd(tmp_path_factory.mktemp("guarded"), "headgate", "s3cret") as server:
        yield server


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certified")
    with guarded_etcd(directory, client_certificate=True) as server:
        yield server


@pytest.fixture
def etcd(etcd_server):
    return etcd_server


@pytest.fixture
async def node(tmp_path):
    """Makes agreements of nodes of one cluster: ``node(endpoints)``."""
    made = []
    cluster = new_cluster()

    def make(endpoints, clock=None, directory=None, **settings):
        directory = directory or tmp_path / f"node{len(made)}"
        clock = clock or SystemClock()
        made.append(etcd_agreement(endpoints, cluster, clock, directory, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def policy(name, limit=10):
    return Policy.from_dict({"name": name, "limit": limit, "window": "1m"})


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)


async def pause(seconds):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


async def until(condition, seconds=PATIENCE):
    """Wait until it holds; how long that took, in seconds."""
    began = time.monotonic()  # noqa: TID251 - real processes take real time
    while not condition():
        if time.monotonic() > began + seconds:  # noqa: TID251 - likewise
            pytest.fail("it did not come true")
        await pause(0.01)
    return time.monotonic() - began  # noqa: TID251 - likewise


async def heard(changes):
    return await asyncio.wait_for(anext(changes), PATIENCE)


async def limit_of(agreement, name):
    stored = await in_thread(agreement.store.policies.get, name)
    return stored.policy.to_dict()["limit"]


def names(agreement):
    return [member.node for member in agreement.members()]


async def test_the_leader_of_etcd_is_killed(three, node):
    one, other = node(three.endpoints), node(three.endpoints)
    changes = other.changes()
    await heard(changes)
    await one.join(Member("one"))
    await in_thread(one.store.policies.create, policy("api"))
    await heard(changes)
    killed = three.leader()
    killed.kill()
    try:
        began = time.monotonic()  # noqa: TID251 - real processes take real time
        await in_thread(one.store.policies.replace, "api", policy("api", 20))
        assert time.monotonic() - began < 3  # noqa: TID251 - the deadline of a question
        while await limit_of(other, "api") != 20:
            await heard(changes)
        await until(lambda: not one.trouble and not other.trouble)
        await until(lambda: names(other) == ["one"])
    finally:
        killed.start(three.members)
    three.wait_until_it_answers()
    await changes.aclose()


async def test_etcd_loses_its_quorum_and_finds_it_again(three, node, caplog):
    caplog.set_level(logging.INFO, "headgate.coordination")
    one = node(three.endpoints, deadline=1.0)
    changes = one.changes()
    await heard(changes)
    await one.join(Member("one"))
    await in_thread(one.store.policies.create, policy("api"))
    await until(lambda: (one._records._copy or {}).get("policies"))
    killed = three.members[:2]
    for member in killed:
        member.kill()
    try:
        took = await until(lambda: one.trouble)
        assert took < 5
        assert await limit_of(one, "api") == 10
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await in_thread(one.store.policies.create, policy("web"))
        with pytest.raises(StoreUnavailable):
            await in_thread(one.store.ping)
        assert names(one) == ["one"]
        assert len(await in_thread(one.store.policies.list)) == 1
    finally:
        for member in killed:
            member.start(three.members)
    three.wait_until_it_answers()
    took = await until(lambda: not one.trouble)
    assert took < 3
    await until(lambda: names(one) == ["one"])
    await in_thread(one.store.policies.create, policy("web"))
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("cut off" in line for line in told) == 1, told
    assert sum("answers again" in record.message for record in caplog.records) == 1
    await changes.aclose()


async def test_a_watch_that_is_cut_off_while_etcd_compacts_loses_nothing(etcd, node):
    with fault_proxy(etcd.members[0].port) as proxy:
        one = node(etcd.url)
        cut = node(f"http://127.0.0.1:{proxy.port}", deadline=1.0)
        changes = cut.changes()
        await heard(changes)
        await in_thread(one.store.policies.create, policy("api"))
        await heard(changes)
        proxy.drop()
        await until(lambda: cut.trouble)
        await in_thread(one.store.policies.replace, "api", policy("api", 20))
        await in_thread(one.store.policies.create, policy("web"))
        etcd.compact()
        assert await limit_of(cut, "api") == 10
        proxy.restore()
        await heard(changes)
        await until(lambda: not cut.trouble)
        assert await limit_of(cut, "api") == 20
        assert [each.policy.name for each in await in_thread(cut.store.policies.list)] == [
            "api",
            "web",
        ]
        await changes.aclose()


async def test_a_watch_that_stays_open_over_a_compaction_goes_on(etcd, node, monkeypatch):
    monkeypatch.setattr("headgate.coordination.etcd_backend._IDLE_SECONDS", 0.3)
    one, other = node(etcd.url), node(etcd.url)
    changes = other.changes()
    await heard(changes)
    await in_thread(one.store.policies.create, policy("api"))
    await heard(changes)
    await in_thread(one.store.policies.create, policy("web"))
    etcd.compact()
    await pause(0.7)  # the watch is opened anew, from a revision that may be gone
    await in_thread(one.store.policies.create, policy("more"))
    while len(await in_thread(other.store.policies.list)) < 3:
        await heard(changes)
    assert other.trouble == ""
    await changes.aclose()


async def test_an_endpoint_that_is_down_or_hangs_is_left_for_another(three, node):
    dead = "http://127.0.0.1:1"
    one = node(f"{dead},{three.endpoints}")
    await one.open()
    assert one.trouble == ""
    hung = next(member for member in three.members if member is not three.leader())
    others = [member.url for member in three.others(hung)]
    two = node(",".join([hung.url, *others]), deadline=1.5)
    changes = two.changes()
    await heard(changes)
    hung.pause()
    try:
        await in_thread(one.store.policies.create, policy("api"))
        assert await limit_of(two, "api") == 10
        took = await until(lambda: "api" in (two._records._copy or {}).get("policies", {}))
        assert took < 6  # a watch that is silent is opened anew, elsewhere
    finally:
        hung.resume()
    await changes.aclose()


async def test_an_answer_that_was_lost_is_recognised_when_the_question_is_repeated(etcd, node):
    with fault_proxy(etcd.members[0].port) as proxy:
        one = node(f"http://127.0.0.1:{proxy.port},{etcd.url}", deadline=1.5)
        assert list(await in_thread(one.store.policies.list)) == []
        records = one._records
        guard = ("meta", "test")
        proxy.hold(to_server=False, to_client=True)
        made = await in_thread(records.change, {guard: 0}, {guard: "once"})
        assert made
        proxy.restore()
        assert not await in_thread(records.change, {guard: 0}, {guard: "twice"})
        assert (await in_thread(records.get, guard)).text == "once"


async def test_a_node_that_is_killed_is_gone_when_its_lease_has_run_out(etcd, node):
    one, other = node(etcd.url), node(etcd.url)
    await one.join(Member("one"))
    await other.join(Member("other"))
    await until(lambda: names(other) == ["one", "other"])
    await until(lambda: other.leader() == "one")
    await vanish(one)
    took = await until(lambda: names(other) == ["other"])
    assert 0.5 < took < TTL_NS / 1e9 + 2
    await until(lambda: other.leader() == "other")


async def test_a_successor_waits_for_the_lease_of_the_one_that_was_killed(etcd, node):
    one = node(etcd.url)
    await one.join(Member("one", "http://127.0.0.1:1"))
    await vanish(one)
    successor = node(etcd.url)
    await successor.join(Member("one", "http://127.0.0.1:2"))
    assert [member.address for member in successor.members()] == ["http://127.0.0.1:2"]
    await until(lambda: successor.leader() == "one")


async def test_a_leader_that_is_cut_off_stops_before_another_starts(etcd, node):
    with fault_proxy(etcd.members[0].port) as proxy:
        cut = node(f"http://127.0.0.1:{proxy.port}", deadline=0.5)
        other = node(etcd.url)
        await cut.join(Member("cut"))
        await other.join(Member("other"))
        await until(lambda: cut.leader() == other.leader() == "cut")
        proxy.hold()
        while other.leader() != "other":
            # Asked in this order: were both to lead, however shortly, this could see it.
            leads = cut.leader() == "cut"
            assert not (leads and other.leader() == "other")
            await pause(0.005)
        assert cut.leader() != "cut"
        assert cut.trouble
        proxy.restore()
        await until(lambda: not cut.trouble)
        await until(lambda: names(cut) == names(other) == ["cut", "other"])
        assert cut.leader() == "other"


async def test_a_wall_clock_that_is_wrong_by_an_hour_plays_no_part(etcd, node):
    right = SystemClock()
    wrong = Clock(right.now_ns, right.wall_offset_ns + HOUR_NS)
    one, other = node(etcd.url), node(etcd.url, wrong)
    await other.join(Member("other"))
    await one.join(Member("one"))
    await until(lambda: names(one) == names(other) == ["one", "other"])
    await until(lambda: one.leader() == other.leader() == "other")
    await in_thread(other.store.policies.create, policy("api"))
    replaced = await in_thread(one.store.policies.replace, "api", policy("api", 20))
    assert replaced.version == 2
    assert replaced.updated_at < replaced.created_at  # dates are for people
    again = await in_thread(other.store.policies.replace, "api", policy("api", 30), 2)
    assert again.version == 3
    await pause(TTL_NS / 1e9 * 1.2)
    await until(lambda: names(one) == ["one", "other"])
    await one.leave()
    await until(lambda: names(other) == ["other"])


async def test_a_node_starts_with_the_last_known_configuration(etcd, node, tmp_path, caplog):
    with fault_proxy(etcd.members[0].port) as proxy:
        url, directory = f"http://127.0.0.1:{proxy.port}", tmp_path / "kept"
        before = node(url, directory=directory)
        await before.open()
        await in_thread(before.store.policies.create, policy("api"))
        await in_thread(before.store.settings.put, "backpressure", {"a": 1})
        issued = await in_thread(before.store.tokens.create, "ci", ["check"])
        await until(lambda: issued.token.id in (directory / "last-known.json").read_text())
        await before.close()
        assert (directory / "last-known.json").stat().st_mode & 0o777 == 0o600
        assert issued.text not in (directory / "last-known.json").read_text()
        proxy.drop()
        after = node(url, directory=directory, deadline=0.5)
        await after.open()
        assert "does not answer" in after.trouble
        assert await limit_of(after, "api") == 10
        assert (await in_thread(after.store.settings.get, "backpressure")).document == {"a": 1}
        assert list(await in_thread(after.store.tokens.list)) == [issued.token]
        with pytest.raises(StoreUnavailable):
            await in_thread(after.store.policies.delete, "api")
        await after.join(Member("after"))  # it will be, when etcd is back
        changes = after.changes()
        await heard(changes)
        proxy.restore()
        await until(lambda: not after.trouble)
        await until(lambda: names(after) == ["after"])
        await in_thread(after.store.policies.delete, "api")
        await changes.aclose()


@pytest.mark.parametrize("damage", ["damaged", "foreign", "cut off", "rubbish"])
async def test_a_file_that_cannot_be_used_is_ignored_with_a_warning(
    etcd, node, tmp_path, caplog, damage
):
    directory = tmp_path / "kept"
    before = node(etcd.url, directory=directory)
    await in_thread(before.store.policies.create, policy("api"))
    await before.open()
    await before.close()
    file = directory / "last-known.json"
    text = file.read_text()
    head, rest = text.split("\n", 1)
    file.write_text(
        {
            "damaged": text.replace('\\"limit\\":10', '\\"limit\\":99'),
            "foreign": json.dumps({**json.loads(head), "cluster": "other"}) + "\n" + rest,
            "cut off": text[: len(text) // 2],
            "rubbish": "\x00",
        }[damage]
    )
    after = node("http://127.0.0.1:1", directory=directory, deadline=0.3)
    await after.open()
    with pytest.raises(StoreUnavailable):
        await in_thread(after.store.policies.list)
    assert "cannot be used" in caplog.text


async def test_an_etcd_that_lost_everything_is_given_it_back(etcd, node, caplog):
    one = node(etcd.url)
    changes = one.changes()
    await heard(changes)
    await in_thread(one.store.policies.create, policy("api"))
    await in_thread(one.store.policies.replace, "api", policy("api", 20))
    await until(lambda: '"limit":20' in str((one._records._copy or {})["policies"].get("api")))
    everything = {"key": "Lw==", "range_end": "MA=="}  # from / to 0
    etcd.members[0].ask("kv/deleterange", everything)
    await until(lambda: "had lost all records" in caplog.text)
    assert await limit_of(one, "api") == 20
    again = await in_thread(one.store.policies.replace, "api", policy("api", 30))
    assert again.version == 3
    await changes.aclose()


async def test_nobody_there_at_all(node):
    one = node("http://127.0.0.1:1", deadline=0.3)
    await one.open()
    assert "127.0.0.1:1 does not answer" in one.trouble
    with pytest.raises(StoreUnavailable, match="check that it runs"):
        await in_thread(one.store.policies.list)


@pytest.mark.parametrize(
    "endpoints", ["", "127.0.0.1:2379", "ftp://x", "http://u:p@x", "http://x:port"]
)
def test_endpoints_that_are_none_are_refused(endpoints, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        etcd_agreement(endpoints, "c", SystemClock(), tmp_path)
    assert "u:p" not in caught.value.message


ACCESS = {"user": "headgate", "password": "s3cret", "ca": CERTIFICATE, "deadline": 1.0}
SHOWN = {"ca": CERTIFICATE, "certificate": CERTIFICATE, "key": KEY, "deadline": 1.0}


async def test_a_certificate_that_is_asked_for_is_shown(certified, node):
    one = node(certified.url, **SHOWN)
    await one.join(Member("one"))
    await in_thread(one.store.policies.create, policy("api"))
    assert (one.trouble, names(one)) == ("", ["one"])
    without = node(certified.url, **{**SHOWN, "certificate": None, "key": None})
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await in_thread(without.store.policies.list)


async def test_a_login_by_password_over_tls(guarded, node):
    one, other = node(guarded.url, **ACCESS), node(guarded.url, **ACCESS)
    changes = other.changes()
    await heard(changes)
    assert other.trouble == ""
    await one.join(Member("one"))
    await in_thread(one.store.policies.create, policy("api"))
    await heard(changes)
    await until(lambda: names(other) == ["one"])
    one._backend._client._token = "ran.out"
    await in_thread(one.store.policies.replace, "api", policy("api", 20))
    assert await limit_of(other, "api") == 20
    await one.leave()
    await changes.aclose()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"password": "wrong"}, "check etcd_user and etcd_password"),
        ({"user": "nobody"}, "check etcd_user and etcd_password"),
        ({"user": ""}, "set etcd_user and etcd_password"),
        ({"ca": None}, "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
    ],
)
async def test_who_is_not_let_in_says_why(guarded, node, change, told):
    one = node(guarded.url, **{**ACCESS, **change})
    await one.open()
    with pytest.raises(StoreUnavailable, match=told):
        await in_thread(one.store.policies.list)
    assert one.trouble
    assert "s3cret" not in one.trouble
    assert "s3cret" not in repr(one._backend._client._access)


async def test_a_user_without_the_right_to_the_records_is_told_what_is_missing(guarded, tmp_path):
    client = EtcdClient(EtcdAccess(guarded.url, **ACCESS))
    with pytest.raises(StoreUnavailable, match="grant it readwrite"):
        await client.call("kv/range", {"key": encode("/other/")})
    await client.close()


async def test_etcd_takes_no_password_beside_a_certificate_with_a_common_name(tmp_path, node):
    with guarded_etcd(tmp_path / "etcd", "a", "b", client_certificate=True) as both:
        one = node(both.url, **SHOWN)
        with pytest.raises(StoreUnavailable, match="without a CommonName"):
            await in_thread(one.store.policies.list)


async def test_plain_http_to_an_etcd_that_speaks_tls(guarded, node):
    one = node(guarded.url.replace("https", "http"), deadline=0.5)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await in_thread(one.store.policies.list)


def test_certificates_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="etcd_ca"):
        etcd_agreement("https://x", "c", SystemClock(), tmp_path, ca=tmp_path / "none.pem")
