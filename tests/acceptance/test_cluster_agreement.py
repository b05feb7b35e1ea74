"""Nodes that agree by an etcd: what one is told is in force on all, and each sees the others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from headgate.clock import SystemClock
from tests.support.etcds import etcd_cluster
from tests.support.service import Service, running_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.etcds import EtcdCluster

pytestmark = pytest.mark.slow

POLICY = {"name": "api", "limit": 3, "window": "1h"}


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), members=1) as cluster:
        yield cluster


@contextlib.contextmanager
def nodes(directory: Path, names: str, **options: Any) -> Iterator[list[Service]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                running_service(directory / name, SystemClock(), node=name, **options)
            )
            for name in names
        ]


@pytest.fixture(scope="module")
def cluster(etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    with nodes(
        tmp_path_factory.mktemp("nodes"), "abc", etcd_endpoints=etcd.endpoints, cluster="three"
    ) as services:
        yield services


def names_at(service: Service) -> list[str]:
    return [one["name"] for one in service.get("/api/v1/policies").json["policies"]]


def test_a_policy_is_in_force_on_all_nodes_without_asking_them_to_read_it(
    cluster: list[Service],
) -> None:
    first, *others = cluster
    assert first.post("/api/v1/policies", POLICY).status == 201
    for service in others:
        engine = service.running.context.service.engine
        eventually(lambda engine=engine: engine.policy("api") is not None, 2)
        assert service.post("/api/v1/check", {"key": "k"}).json["policy"] == "api"
    changed = {**POLICY, "limit": 7}
    assert others[0].request("PUT", "/api/v1/policies/api", changed).status == 200
    for service in cluster:
        eventually(lambda service=service: _limit(service) == 7, 2)
    assert others[1].request("DELETE", "/api/v1/policies/api").status == 204
    for service in cluster:
        eventually(lambda service=service: _limit(service) == 0, 2)


def _limit(service: Service) -> int:
    return int(service.post("/api/v1/check", {"key": "k"}).json["limit"])


def test_a_change_that_lost_against_another_is_refused(cluster: list[Service]) -> None:
    first, second, _ = cluster
    etag = first.post("/api/v1/policies", {**POLICY, "name": "raced"})["etag"]
    won = second.request("PUT", "/api/v1/policies/raced", {**POLICY, "name": "raced", "limit": 4},
                         **{"if-match": etag})  # fmt: skip
    assert won.status == 200
    lost = first.request("PUT", "/api/v1/policies/raced", {**POLICY, "name": "raced", "limit": 5},
                         **{"if-match": etag})  # fmt: skip
    assert lost.status == 412


def test_members_leader_and_configuration_are_seen_the_same_everywhere(
    cluster: list[Service],
) -> None:
    for service in cluster:
        eventually(lambda service=service: len(_members(service)) == 3)
    views = [service.get("/api/v1/cluster").json for service in cluster]
    assert [view["node"] for view in views] == ["a", "b", "c"]
    assert {view["leader"] for view in views} <= {"a", "b", "c"}
    assert len({view["leader"] for view in views}) == 1
    assert [view["agreement"]["kind"] for view in views] == ["etcd"] * 3
    assert views[0]["store"] == {"state": "none"}
    members = views[0]["members"]
    assert [member["node"] for member in members] == ["a", "b", "c"]
    assert [member["leads"] for member in members].count(True) == 1
    assert members[1]["address"] == f"http://127.0.0.1:{cluster[1].port}"
    eventually(lambda: len({one["configuration"] for one in _members(cluster[0])}) == 1)
    assert members[0]["configuration"] is not None
    leader = cluster[2].get("/api/v1/cluster/leader").json
    assert leader == {
        "leader": views[0]["leader"], "node": "c", "leads": views[0]["leader"] == "c"
    }  # fmt: skip


def _members(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get("/api/v1/cluster/members").json["members"]
    return found


def test_a_token_made_on_one_node_counts_on_the_others(etcd: EtcdCluster, tmp_path: Path) -> None:
    with nodes(tmp_path, "ab", etcd_endpoints=etcd.endpoints, cluster="tokens") as (one, other):
        assert other.post("/api/v1/check", {}).status == 200
        issued = one.running.context.store.tokens.create("t", ["check"])
        eventually(lambda: other.post("/api/v1/check", {}).status == 401, 2)
        bearer = {"authorization": f"Bearer {issued.text}"}
        assert other.post("/api/v1/check", {}, **bearer).status == 200


def test_readiness_says_how_the_cluster_stands_and_does_not_depend_on_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), members=1) as own:
        settings = {"etcd_endpoints": own.endpoints, "cluster": "lost"}
        with nodes(tmp_path, "a", **settings) as (node,):
            assert node.post("/api/v1/policies", POLICY).status == 201
            ready = node.get("/readyz").json
            assert ready["status"] == "ready"
            assert ready["cluster"]["trouble"] == ""
            kept = tmp_path / "a" / "last-known.json"
            eventually(lambda: "policies" in kept.read_text() and "api" in kept.read_text())
            for member in own.members:
                member.kill()
            eventually(lambda: node.get("/readyz").json["cluster"]["trouble"])
            assert node.get("/readyz").status == 200
            assert node.post("/api/v1/check", {"key": "k"}).json["limit"] == 3
            assert node.post("/api/v1/policies", {**POLICY, "name": "new"}).status == 503
        # And a start without etcd, from what was last known.
        with nodes(tmp_path, "a", **settings) as (node,):
            assert node.get("/readyz").status == 200
            assert node.get("/readyz").json["cluster"]["trouble"]
            assert node.post("/api/v1/check", {"key": "k"}).json["limit"] == 3
        # A node that knows nothing is not sent requests.
        with nodes(tmp_path / "new", "b", **settings) as (node,):
            assert node.get("/readyz").status == 503
            own.start()
            eventually(lambda: node.get("/readyz").status == 200)
            eventually(lambda: _limit(node) == 3, 2)


def test_a_policy_of_a_newer_version_is_skipped_and_the_others_are_not(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    settings = {"etcd_endpoints": etcd.endpoints, "cluster": "newer"}
    with nodes(tmp_path, "a", **settings) as (node,):
        assert node.post("/api/v1/policies", {**POLICY, "name": "z"}).status == 201
        assert node.post("/api/v1/policies", POLICY).status == 201
        records = node.running.context.store._store._records
        kept = records.get(("policies", "api"))
        odd = kept.text.replace('"limit":3', '"limit":"three"')
        assert odd != kept.text
        assert records.change({}, {("policies", "api"): odd})
        changed = {**POLICY, "name": "z", "limit": 9}
        desk = node.running.context.policies
        assert node.request("PUT", "/api/v1/policies/z", changed).status == 200
        eventually(lambda: desk._broken)
        levels = node.post("/api/v1/check", {"key": "k"}).json["levels"]
        assert {level["policy"]: level["limit"] for level in levels} == {"api": 3, "z": 9}
    with nodes(tmp_path / "other", "b", **settings) as (node,):
        assert node.get("/readyz").status == 200
        assert node.post("/api/v1/check", {"key": "k"}).json["limit"] == 9
