"""The calls of the specification, metrics, backpressure, health, the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.support.service import Service

BACKPRESSURE = {
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


def test_the_four_calls_of_the_specification(service: Service) -> None:
    policy = {
        "name": "api-rate-limit", "algorithm": "token_bucket", "limit": 1000, "window": "1m",
        "burst": 100, "dimensions": ["user_id", "api_key"], "priority": "high",
    }  # fmt: skip
    assert service.post("/api/v1/policies", policy).status == 201
    metadata = {"user_id": "12345", "api_key": "abc123", "endpoint": "/api/data"}
    check = {"key": "user:12345", "tokens": 1, "metadata": metadata}
    checked = service.post("/api/v1/check", check)
    assert (checked.status, checked.json["remaining"]) == (200, 99)
    assert checked.json["policy"] == "api-rate-limit"
    kept = service.post("/api/v1/backpressure", BACKPRESSURE)
    assert (kept.status, kept.json) == (200, BACKPRESSURE)
    read = service.get("/api/v1/metrics?key=user:12345")
    assert read.status == 200
    [usage] = read.json["usage"]
    assert usage == {
        "policy": "api-rate-limit", "key": "5:12345,abc123", "limit": 1000, "window": 60.0,
        "capacity": 100, "used": 1, "remaining": 99, "reset_after": 0.06,
        "rate_per_second": pytest.approx(1 / 60),
    }  # fmt: skip


def test_reading_metrics_spends_nothing_and_knows_unseen_keys(service: Service) -> None:
    service.post("/api/v1/policies", {"name": "m", "limit": 3, "window": 1, "match": {"key": "m*"}})
    for _ in range(5):
        [usage] = service.get("/api/v1/metrics?key=m1").json["usage"]
        assert (usage["used"], usage["remaining"]) == (0, 3)
    assert service.get("/api/v1/metrics?key=nobody%20else").json["usage"] == []


@pytest.mark.parametrize("query", ["key=", "key=" + "k" * 1025])
def test_a_key_to_read_has_bounds(service: Service, query: str) -> None:
    answer = service.get(f"/api/v1/metrics?{query}")
    assert (answer.status, answer.json["field"]) == (422, "key")


def test_the_counters_of_the_service(service: Service) -> None:
    service.post("/api/v1/policies", {"name": "n", "limit": 1, "window": 60, "match": {"key": "n"}})
    for _ in range(3):
        service.post("/api/v1/check", {"key": "n"})
    document = service.get("/api/v1/metrics").json
    assert document["totals"]["denied"] >= 2
    [ours] = [one for one in document["policies"] if one["policy"] == "n"]
    assert ours == {"policy": "n", "admitted": 1, "denied": 2, "keys": 1}
    assert {"policy": "n", "key": "n", "denied": 2} in document["top_denied"]


def kept(service: Service) -> dict[str, Any]:
    document: dict[str, Any] = service.get("/api/v1/backpressure").json
    del document["in_force"]
    return document


def test_backpressure_is_read_back_and_replaced(service: Service) -> None:
    service.post("/api/v1/backpressure", BACKPRESSURE)
    first = service.get("/api/v1/backpressure")
    assert kept(service) == BACKPRESSURE
    assert service.post("/api/v1/backpressure", {"load_threshold": 0.5})["etag"] != first["etag"]
    assert kept(service) == {"load_threshold": 0.5}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"load_threshold": 0}, "load_threshold"),
        ({"load_threshold": 1.1}, "load_threshold"),
        ({"load_threshold": "high"}, "load_threshold"),
        ({"circuit_breaker": {"timeout": "soon"}}, "circuit_breaker.timeout"),
        ({"circuit_breaker": {"timeout": "99ms"}}, "circuit_breaker.timeout"),
        ({"circuit_breaker": {"timeout": "61m"}}, "circuit_breaker.timeout"),
        ({"circuit_breaker": {"failure_threshold": 0}}, "circuit_breaker.failure_threshold"),
        ({"circuit_breaker": {"x": 0}}, "circuit_breaker"),
        ({"load_shedding": {"shedding_rate": 2}}, "load_shedding.shedding_rate"),
        (
            {"load_shedding": {"priority_levels": [{"level": 1}]}},
            "load_shedding.priority_levels.0",
        ),
        (
            {"load_shedding": {"priority_levels": [{"level": 1, "multiplier": 1}] * 2}},
            "load_shedding.priority_levels",
        ),
        ({"x": 1}, None),
    ],
)
def test_bad_backpressure_is_refused(
    service: Service, document: dict[str, Any], field: str | None
) -> None:
    service.post("/api/v1/backpressure", BACKPRESSURE)
    answer = service.post("/api/v1/backpressure", document)
    assert (answer.status, answer.json.get("field")) == (422, field), answer.body
    assert kept(service) == BACKPRESSURE


def test_health(service: Service) -> None:
    assert service.get("/healthz").json == {"status": "ok"}
    assert service.get("/readyz").json == {"status": "ready"}


def test_prometheus_can_read_the_metrics(service: Service) -> None:
    service.post("/api/v1/policies", {"name": "p", "limit": 1, "window": 60, "match": {"key": "p"}})
    for _ in range(2):
        service.post("/api/v1/check", {"key": "p"})
    answer = service.get("/metrics")
    assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert samples["headgate_decisions_total", "admitted", "p"] == 1
    assert samples["headgate_decisions_total", "denied", "p"] == 1
    assert samples["headgate_top_denied", "p", "p"] == 1
    assert samples["headgate_http_requests_total", "/api/v1/check", "200", "POST"] >= 1
    assert samples["headgate_http_requests_total", "/api/v1/policies", "201", "POST"] >= 1
    assert samples["headgate_keys_max",] == 1_000_000


def test_unknown_addresses_share_one_series(service: Service) -> None:
    for number in range(5):
        service.get(f"/nowhere/{number}")
    text = service.get("/metrics").body.decode()
    assert "nowhere" not in text
    assert 'route="(none)",status="404"' in text


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/api/v1/policies", "GET, POST"),
        ("POST", "/api/v1/policies/x", "DELETE, GET, PUT"),
        ("GET", "/api/v1/check", "POST"),
        ("OPTIONS", "/api/v1/check", "POST"),
        ("PATCH", "/api/v1/backpressure", "GET, POST"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_says_which_are_right(
    service: Service, method: str, path: str, allow: str
) -> None:
    answer = service.request(method, path)
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer["allow"] == allow


def test_the_reference_needs_no_network(service: Service) -> None:
    openapi = service.get("/openapi.json").json
    assert "/api/v1/check" in openapi["paths"]
    page = service.get("/docs")
    assert page["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert "/api/v1/check:batch" in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://127.0.0.1:8080", "")


def test_every_reference_in_openapi_leads_somewhere(service: Service) -> None:
    openapi = service.get("/openapi.json").json
    known = openapi["components"]["schemas"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [one for inner in value.values() for one in references(inner)]
        if isinstance(value, list):
            return [one for inner in value for one in references(inner)]
        return []

    found = {one.rpartition("/")[2] for one in references(openapi)}
    assert found <= set(known)
    assert set(known) <= found, "schemas that nothing refers to"
