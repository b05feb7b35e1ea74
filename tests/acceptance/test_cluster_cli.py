"""``headgate cluster``, ``doctor`` and ``token`` against nodes on a real Valkey."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from headgate.cli.app import app
from tests.support.commands import clean_environment
from tests.support.nodes import apply_everywhere, running_nodes
from tests.support.service import Service, running_service
from tests.support.valkeys import Valkey
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]

pytestmark = [pytest.mark.slow, pytest.mark.needs_redis]

POLICY = {"name": "quick", "limit": 1000, "window": "100s", "consistency": "leased"}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    options = {"redis_url": valkey.url, "store_deadline": 2.0, "cluster": "cli"}
    with running_nodes(tmp_path_factory.mktemp("nodes"), "ab", **options) as services:
        apply_everywhere(services, POLICY)
        yield services


@pytest.fixture
def run(cluster: list[Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    import os

    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    url = f"http://127.0.0.1:{cluster[0].port}"
    runner = CliRunner(
        env={"COLUMNS": "200", "HEADGATE_URL": url, "HEADGATE_DATA_DIR": str(tmp_path)}
    )
    return lambda *arguments, **env: runner.invoke(app, arguments, env=env)


def test_status_says_how_the_nodes_stand(run: Run, cluster: list[Service]) -> None:
    result = run("cluster", "status")
    assert result.exit_code == 0, result.output
    for words in ("cluster cli, seen by a", "redis: in touch", "1 policies", "can be stranded"):
        assert words in result.stdout
    document = json.loads(run("cluster", "status", "--json").stdout)
    assert document == {**cluster[0].get("/api/v1/cluster").json, "store": document["store"]}


def test_members_and_leader(run: Run) -> None:
    shown = [line.split() for line in run("cluster", "members").stdout.splitlines()]
    assert [line[0] for line in shown if line and line[0] in {"a", "b"}] == ["a", "b"]
    members = json.loads(run("cluster", "members", "--json").stdout)["members"]
    assert [member["node"] for member in members] == ["a", "b"]
    assert len({member["configuration"] for member in members} - {None}) == 1
    leader = run("cluster", "leader")
    assert leader.exit_code == 0
    assert leader.stdout.strip() in {"a", "b"}
    assert json.loads(run("cluster", "leader", "--json").stdout)["node"] == "a"


def test_leases_of_a_key(run: Run, cluster: list[Service]) -> None:
    found: list[Any] = []

    def drawn() -> bool:
        for _ in range(5):  # a lease follows demand
            cluster[0].post("/api/v1/check", {"key": "user:1", "tokens": 10})
        found[:] = json.loads(run("cluster", "leases", "user:1", "--json").stdout)["levels"]
        return bool(found) and found[0]["held"] > 0

    eventually(drawn, 1)
    assert found[0]["leases"][0]["node"] == "a"
    shown = run("cluster", "leases", "user:1", "--policy", "quick").stdout
    assert "quick, key user:1: " in shown
    assert "drawn ahead of at most 50" in shown
    assert (
        json.loads(run("cluster", "leases", "user:1", "-p", "x", "--json").stdout)["levels"] == []
    )
    assert "nothing is spent" in run("cluster", "leases", "never-seen").stdout


def test_leases_are_seen_by_a_node_that_was_never_asked_about_the_key(
    run: Run, cluster: list[Service]
) -> None:
    cluster[1].post("/api/v1/check", {"key": "user:elsewhere", "tokens": 500})
    document = json.loads(run("cluster", "leases", "user:elsewhere", "--json").stdout)
    assert document["looked_at"] == 1
    assert document["levels"][0]["policy"] == "quick"
    assert document["levels"][0]["here"]["left"] == 0
    assert 500 <= document["levels"][0]["remaining"] < 1000


def test_a_node_on_its_own(run: Run, tmp_path: Path) -> None:
    with running_service(tmp_path) as alone:
        url = f"http://127.0.0.1:{alone.port}"
        shown = run("cluster", "status", "--url", url)
        assert shown.exit_code == 0
        assert "single: a node on its own" in shown.stdout
        assert "none: limits are counted on each node" in shown.stdout
        assert run("cluster", "leader", "--url", url).exit_code == 0


def test_nobody_answers(run: Run) -> None:
    result = run("cluster", "status", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "headgate serve" in result.stderr


def test_tokens_are_made_in_the_records_of_the_cluster(
    run: Run, valkey: Valkey, tmp_path: Path
) -> None:
    shared = {"HEADGATE_REDIS_URL": valkey.url, "HEADGATE_CLUSTER": "tokens"}
    text = run("token", "create", "one", **shared).stdout.strip()
    assert text.startswith("hg_")
    options = {"redis_url": valkey.url, "cluster": "tokens"}
    with running_service(tmp_path / "node", **options) as node:
        assert node.post("/api/v1/check", {}).status == 401
        bearer = {"authorization": f"Bearer {text}"}
        assert node.post("/api/v1/check", {}, **bearer).status == 200
    assert "one" in run("token", "list", **shared).stdout
    assert not (tmp_path / "headgate.db").exists()


def test_doctor_asks_what_the_settings_name(run: Run, valkey: Valkey) -> None:
    def found(**env: str) -> dict[str, Any]:
        findings = json.loads(run("doctor", "--json", **env).stdout)["findings"]
        return {one["what"]: one for one in findings}

    assert found()["cluster"]["state"] == "ok"
    good = found(HEADGATE_REDIS_URL=valkey.url)
    assert good["shared counters"]["found"].startswith("answers in ")
    assert good["agreement"]["found"].startswith("answers in ")
    bad = found(HEADGATE_REDIS_URL="redis://127.0.0.1:1")
    assert bad["shared counters"]["state"] == "broken"
    assert bad["agreement"]["state"] == "broken"
    assert found(HEADGATE_REDIS_URL="nonsense")["shared counters"]["state"] == "broken"
