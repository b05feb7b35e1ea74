"""Backpressure over the wire: settings that act, shedding at every door, what each answer says."""

from __future__ import annotations

import json
import socket
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from headgate.backpressure.pressure_header import parse_pressure
from headgate.cli.app import app
from headgate.client import Client
from headgate.errors import Overloaded, StoreUnavailable
from tests.support.service import HOST, Service, ask, message, process_service, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

SETTINGS = {
    "load_threshold": 0.8,
    "circuit_breaker": {"failure_threshold": 10, "recovery_threshold": 5, "timeout": "30s"},
    "load_shedding": {
        "shedding_rate": 0.1,
        "priority_levels": [
            {"level": 1, "multiplier": 0.1},
            {"level": 2, "multiplier": 0.5},
            {"level": 3, "multiplier": 1.0},
        ],
    },
}
BACKPRESSURE = "/api/v1/backpressure"


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "route"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with running_service(directory, fast_lane=request.param) as service:
        service.running.context.service.overload.uniform = lambda: 0.5
        assert (
            service.post("/api/v1/policies", {"name": "p", "limit": 9, "window": 1}).status == 201
        )
        yield service


@pytest.fixture
def calm(served: Service) -> Iterator[Service]:
    """A service that is not under pressure before a test, nor after it."""
    served.clock.advance(3600)
    press(served, 0.0, 2)
    served.post(BACKPRESSURE, SETTINGS)
    yield served
    press(served, 0.0, 100)


def press(service: Service, pressure: float, steps: int = 1) -> None:
    """So many tenths of a second under this pressure."""

    async def tell() -> None:
        for _ in range(steps):
            service.clock.advance(0.1)
            service.running.context.pressure.tell(pressure)

    service.call(tell)


def in_force(service: Service) -> dict[str, Any]:
    document: dict[str, Any] = service.get(BACKPRESSURE).json
    return document["in_force"]


def test_under_pressure_low_tiers_go_first(calm: Service) -> None:
    press(calm, 1.8, 6)  # 60 % of normal and low, 30 % of high, 6 % of critical
    statuses = [
        calm.post("/api/v1/check", {"key": "a", "priority": priority}).status
        for priority in ("critical", "high", "normal", "low", 0, 1, 2, 3)
    ]
    assert statuses == [200, 200, 503, 503] * 2
    press(calm, 1.8, 94)
    assert calm.post("/api/v1/check", {"key": "a", "priority": "critical"}).status == 200
    levels = {
        "load_threshold": 0.8,
        "load_shedding": {"priority_levels": [{"level": 1, "multiplier": 1}]},
    }
    calm.post(BACKPRESSURE, levels)
    press(calm, 1.8, 10)
    assert calm.post("/api/v1/check", {"key": "a", "priority": "critical"}).status == 503


def test_the_refusal_says_what_it_is(calm: Service) -> None:
    press(calm, 1.8, 10)
    answer = calm.post("/api/v1/check", {"key": "a"})
    assert (answer.status, answer["content-type"]) == (503, "application/problem+json")
    assert answer["retry-after"] == "2"
    assert answer.json == {
        "type": "urn:headgate:problem:overloaded",
        "title": "Overloaded",
        "status": 503,
        "detail": "shed by '(overload, normal)': there is more work than can be done in time; "
        "retry after 2.000 s",
        "code": "overloaded",
        "policy": "(overload, normal)",
        "retry_after": 2.0,
    }
    assert parse_pressure(answer["x-pressure"]) is not None


def test_nothing_is_spent_by_what_is_shed(calm: Service) -> None:
    press(calm, 1.8, 10)
    for path in ("check", "peek", "reserve"):
        assert calm.post(f"/api/v1/{path}", {"key": "b"}).status == 503
    press(calm, 0.0, 30)
    assert calm.post("/api/v1/peek", {"key": "b"}).json["remaining"] == 9


def test_what_ends_work_and_what_is_for_operators_is_never_shed(calm: Service) -> None:
    held = calm.post("/api/v1/reserve", {"key": "c", "tokens": 3}).json["reservation"]
    press(calm, 1.8, 100)
    assert calm.post("/api/v1/commit", {"reservation": held}).status == 200
    assert calm.post("/api/v1/refund", {"key": "c", "tokens": 3}).status == 200
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/metrics", "/api/v1/policies"):
        assert calm.get(path).status == 200
    assert calm.post(BACKPRESSURE, SETTINGS).status == 200


def test_items_of_a_batch_are_shed_each_for_itself(calm: Service) -> None:
    press(calm, 1.8, 10)
    checks = [{"key": "d", "priority": priority} for priority in ("low", "critical", "normal")]
    answer = calm.post("/api/v1/check:batch", {"checks": checks})
    assert answer.status == 200
    assert [one.get("code") for one in answer.json["results"]] == ["overloaded", None, "overloaded"]


@pytest.mark.parametrize("priority", ["urgent", "", 4, -1, True, 1.5, [], "0"])
def test_a_priority_that_is_none(calm: Service, priority: object) -> None:
    for path in ("check", "peek", "reserve"):
        answer = calm.post(f"/api/v1/{path}", {"key": "a", "priority": priority})
        assert (answer.status, answer.json["field"]) == (422, "priority"), answer.body
        if priority in ("urgent", 4):
            assert "must be one of critical, high, normal, low, or a tier" in answer.json["detail"]


def test_pipelined_or_split_or_alone_the_bytes_are_the_same(calm: Service) -> None:
    press(calm, 1.8, 10)
    checks = [
        message("POST", "/api/v1/check", json.dumps({"key": "e", "priority": one}).encode())
        for one in ("low", "critical", "normal")
    ]
    alone = []
    for check in checks:
        with calm.connect() as peer:
            peer.send(check)
            alone.append(peer.receive().undated)
    calm.clock.advance(0)
    together = []
    with calm.connect() as peer:
        peer.send(b"".join(checks))
        together += [peer.receive().undated for _ in checks]
        for check in checks:
            peer.send(check[:30])
            peer.send(check[30:])
            together.append(peer.receive().undated)
    refused = [alone[0], alone[2]]
    assert [together[0], together[2]] == refused
    assert [together[3], together[5]] == refused


def test_lane_and_route_use_the_same_words(tmp_path: Path) -> None:
    answers = []
    for lane in (True, False):
        with running_service(tmp_path / str(lane), fast_lane=lane) as service:
            service.running.context.service.overload.uniform = lambda: 0.5
            press(service, 2.0, 10)
            answers.append(service.post("/api/v1/check", {"key": "a"}).undated)
    assert answers[0].startswith(b"HTTP/1.1 503 ")
    assert answers[0] == answers[1]


# The header -----------------------------------------------------------------------------------------


def test_every_answer_carries_the_pressure(calm: Service) -> None:
    press(calm, 0.4)
    # The server takes it into its own fields ten times a second.
    wait_for_pressure(calm, 0.4)
    answers = [
        calm.post("/api/v1/check", {"key": "f"}),
        calm.post("/api/v1/check", {"key": 7}),
        calm.post("/api/v1/peek", {"key": "f"}),
        calm.get("/healthz"),
        calm.get("/docs"),
        calm.get("/nowhere"),
        calm.request("DELETE", "/healthz"),
        calm.get("/api/v1/metrics"),
    ]
    with calm.connect() as peer:
        peer.send(b"not http at all\r\n\r\n")
        answers.append(peer.receive())
    with calm.connect() as peer:
        peer.send(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n")
        answers.append(peer.receive())
    assert [answer.status for answer in answers] == [
        200, 422, 200, 200, 200, 404, 405, 200, 400, 414,
    ]  # fmt: skip
    for answer in answers:
        report = parse_pressure(answer["x-pressure"])
        assert report is not None
        assert (report.p, report.admitted, report.ttl_ms) == (0.4, 1.0, 1000)


def wait_for_pressure(service: Service, pressure: float) -> None:
    for _ in range(10_000):
        report = parse_pressure(service.get("/healthz")["x-pressure"])
        if report is not None and report.p == pressure:
            return
    pytest.fail("the header did not follow the pressure")


# Settings -------------------------------------------------------------------------------------------


def test_settings_act_at_once(calm: Service) -> None:
    press(calm, 0.9, 20)  # 0.1 above the threshold: 1 % more with each step
    assert in_force(calm)["shedding"]["low"] == pytest.approx(0.2)
    calm.post(BACKPRESSURE, {"load_shedding": {"shedding_rate": 0}})
    press(calm, 2.0, 20)
    assert in_force(calm)["shedding"]["low"] == 0
    assert calm.post("/api/v1/check", {"key": "g", "priority": "low"}).status == 200
    levels = [{"level": 2, "multiplier": 1.0}, {"level": 4, "multiplier": 0.0}]
    calm.post(BACKPRESSURE, {"load_shedding": {"priority_levels": levels}})
    assert in_force(calm)["multipliers"] == {
        "critical": 1.0,
        "high": 1.0,
        "normal": 1.0,
        "low": 0.0,
    }


def test_what_is_in_force_can_be_read(calm: Service) -> None:
    press(calm, 1.8, 10)
    before = in_force(calm)["shed"]["low"]
    calm.post("/api/v1/check", {"key": "h", "priority": "low"})
    read = calm.get(BACKPRESSURE).json
    now = read.pop("in_force")
    assert read == SETTINGS
    assert now["pressure"] == 1.8
    assert now["load_threshold"] == 0.8
    assert now["shedding_rate"] == 0.1
    assert now["multipliers"] == {"critical": 0.1, "high": 0.5, "normal": 1.0, "low": 1.0}
    assert now["shedding"] == {"critical": 0.1, "high": 0.5, "normal": 0.99, "low": 0.99}
    assert now["shed"]["low"] == before + 1
    assert now["breakers"] == {
        "store": {
            "state": "closed",
            "failure_threshold": 10,
            "recovery_threshold": 5,
            "timeout": 30.0,
        }
    }


def test_before_anything_is_set_the_defaults_are_in_force(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        answer = service.get(BACKPRESSURE)
        assert (answer.status, answer.get("etag")) == (200, None)
        assert list(answer.json) == ["in_force"]
        assert answer.json["in_force"]["load_threshold"] == 1.0


def test_the_metrics_tell(calm: Service) -> None:
    press(calm, 1.8, 10)
    calm.post("/api/v1/check", {"key": "i", "priority": "low"})
    text = calm.get("/metrics").body.decode()
    assert "headgate_pressure 1.8" in text
    assert 'headgate_shedding{priority="high"} 0.5' in text
    assert 'headgate_shed_total{priority="low"}' in text
    assert 'headgate_breaker_state{breaker="store",state="closed"} 1.0' in text
    assert 'headgate_breaker_state{breaker="store",state="open"} 0.0' in text
    assert 'route="/api/v1/check",status="503"' in text
    assert 'headgate_feature_on{feature="reference"} 0.0' in text


# Features -------------------------------------------------------------------------------------------


def test_features_go_off_under_pressure(calm: Service) -> None:
    calm.call(lambda: force_all(calm, None))
    names = [one["name"] for one in calm.get("/api/v1/features").json["features"]]
    assert names == ["reference", "top_denied", "recent_keys"]
    press(calm, 1.2)
    assert [one["on"] for one in calm.get("/api/v1/features").json["features"]] == [False] * 3
    refused = calm.get("/docs")
    assert (refused.status, refused.json["code"]) == (503, "feature_off")
    assert int(refused["retry-after"]) >= 1
    assert calm.running.context.service.remembers is False


async def force_all(service: Service, value: bool | None) -> None:
    for state in service.running.context.features.states():
        service.running.context.features.force(state.name, value)


def test_features_can_be_forced(calm: Service) -> None:
    press(calm, 1.2)
    path = "/api/v1/features/recent_keys"
    forced = calm.request("PUT", path, {"forced": True})
    assert (forced.status, forced.json["on"], forced.json["forced"]) == (200, True, True)
    assert calm.running.context.service.remembers is True
    assert calm.request("PUT", path, {"forced": False}).json["on"] is False
    assert calm.running.context.service.remembers is False
    assert calm.request("PUT", path, {"forced": None}).json["forced"] is None
    assert calm.get(path).json["name"] == "recent_keys"


@pytest.mark.parametrize(
    ("name", "document", "status"),
    [
        ("nothing", {"forced": True}, 404),
        ("reference", {"forced": 1}, 422),
        ("reference", {}, 422),
        ("reference", {"forced": True, "x": 1}, 422),
    ],
)
def test_bad_changes_of_features(
    calm: Service, name: str, document: dict[str, Any], status: int
) -> None:
    assert calm.request("PUT", f"/api/v1/features/{name}", document).status == status
    assert calm.get("/api/v1/features/nothing").status == 404


# The store ------------------------------------------------------------------------------------------


def test_a_store_that_fails_is_left_alone_and_checks_go_on(tmp_path: Path) -> None:
    asked = []

    def gone() -> None:
        asked.append(1)
        raise StoreUnavailable("gone")

    with running_service(tmp_path) as service:
        service.post("/api/v1/policies", {"name": "p", "limit": 9, "window": 1})
        rule = {"failure_threshold": 3, "recovery_threshold": 2, "timeout": "30s"}
        service.post(BACKPRESSURE, {"circuit_breaker": rule})
        store = service.running.context.store
        policies = store._store.policies
        policies.list = gone
        answers = [service.get("/api/v1/policies") for _ in range(5)]
        assert [answer.status for answer in answers] == [503] * 5
        assert {answer.json["code"] for answer in answers} == {"store_unavailable"}
        assert len(asked) == 3
        assert answers[0]["retry-after"] == "1"
        assert 24 <= int(answers[4]["retry-after"]) <= 36
        assert store.breaker.state.value == "open"
        assert service.post("/api/v1/check", {"key": "a"}).status == 200
        del policies.list
        assert service.get("/api/v1/policies").status == 503
        service.clock.advance(40)
        assert [service.get("/api/v1/policies").status for _ in range(3)] == [200] * 3
        assert store.breaker.state.value == "closed"


# The client and the command line --------------------------------------------------------------------


def test_the_client_raises_what_the_service_says(calm: Service) -> None:
    press(calm, 1.8, 10)
    with Client(f"http://{HOST}:{calm.port}") as client:
        with pytest.raises(Overloaded, match="more work than can be done") as caught:
            client.check("a", priority="low")
        assert caught.value.decision.retry_after == 2.0
        assert client.check("a", priority="critical").allowed
        assert client.peek("a", priority=0).allowed


def test_the_command_line_says_that_nothing_was_decided(calm: Service) -> None:
    press(calm, 1.8, 10)
    url = f"http://{HOST}:{calm.port}"
    for options, code in ((["--priority", "low"], 2), (["--priority", "critical"], 0), ([], 2)):
        result = CliRunner().invoke(app, ["check", "a", "--url", url, *options])
        assert result.exit_code == code, result.output


# RESP -----------------------------------------------------------------------------------------------


class RespPeer:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=20)
        self._file = self._socket.makefile("rb")

    def __call__(self, *args: str) -> bytes:
        words = [b"$%d\r\n%b\r\n" % (len(one), one.encode()) for one in args]  # ASCII only
        self._socket.sendall(b"*%d\r\n%b" % (len(words), b"".join(words)))
        line = self._file.readline()
        if line.startswith(b"*"):
            for _ in range(int(line[1:])):
                if self._file.readline().startswith(b"$"):
                    self._file.readline()
        return line

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_the_resp_door_sheds_too(tmp_path: Path) -> None:
    from tests.support.servers import free_port

    with running_service(tmp_path, resp_port=free_port()) as service:
        service.running.context.service.overload.uniform = lambda: 0.5
        resp = RespPeer(service.running.resp_port)
        assert resp("HEADGATE.CHECK", "a", "1", "PRIORITY", "low").startswith(b"*7")
        press(service, 2.0, 6)
        for command in (
            ("HEADGATE.CHECK", "a", "1", "PRIORITY", "low"),
            ("HEADGATE.CHECK", "a", "1"),
            ("HEADGATE.PEEK", "a", "1", "PRIORITY", "3"),
            ("HEADGATE.RESERVE", "a", "1", "1000"),
            ("CL.THROTTLE", "a", "5", "10", "60"),
        ):
            assert resp(*command).startswith(b"-ERR overloaded shed by "), command
        assert resp("HEADGATE.CHECK", "a", "1", "PRIORITY", "critical").startswith(b"*7")
        assert resp("HEADGATE.CHECK", "a", "1", "priority", "low").startswith(b"-ERR overloaded")
        assert resp("HEADGATE.CHECK", "a", "1", "PRIORITY").startswith(b"-ERR invalid_input")
        assert resp("HEADGATE.CHECK", "a", "1", "PRIORITY", "urgent").startswith(b"-ERR invalid")
        assert resp("HEADGATE.REFUND", "a", "1").startswith(b"*7")
        resp.close()


# Restarts -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_settings_survive_a_restart(tmp_path: Path) -> None:
    with process_service(tmp_path) as server:
        assert ask(server.port, "POST", BACKPRESSURE, SETTINGS).status == 200
        server.process.kill()
        server.process.wait(20)
    with process_service(tmp_path) as server:
        read = ask(server.port, "GET", BACKPRESSURE).json
        assert read.pop("in_force")["breakers"]["store"]["timeout"] == 30.0
        assert read == SETTINGS


@pytest.mark.slow
def test_a_service_watches_its_load_unless_told_not_to(tmp_path: Path) -> None:
    def causes(server: Server) -> Iterator[str]:
        for _ in range(20_000):
            yield ask(server.port, "GET", BACKPRESSURE).json["in_force"]["cause"]

    with process_service(tmp_path / "on", backpressure="on") as server:
        assert "loop_lag" in causes(server)  # which asks until it is
    with process_service(tmp_path / "off", backpressure="off") as server:
        assert set(islice(causes(server), 50)) == {""}


def test_settings_of_a_version_that_is_not_ours_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    with running_service(tmp_path, database_url=url) as service:
        service.running.context.store.settings.put("backpressure", {"load_threshold": "high"})
    with running_service(tmp_path, database_url=url) as service:
        assert in_force(service)["load_threshold"] == 1.0


def test_what_another_process_sets_counts_soon(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        service.running.context.store.settings.put("backpressure", {"load_threshold": 0.25})
        assert in_force(service)["load_threshold"] == 1.0
        service.call(service.running.context.backpressure.refresh)
        assert in_force(service)["load_threshold"] == 0.25
