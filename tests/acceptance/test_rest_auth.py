"""Tokens over REST: who may do what, in the lane and on the route."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import ConfigurationError
from tests.support.service import Service, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = {"name": "p", "limit": 5, "window": "1m"}
OF_SCOPE = {
    "check": [
        ("POST", "/api/v1/check", {}),
        ("POST", "/api/v1/peek", {}),
        ("POST", "/api/v1/refund", {}),
        ("POST", "/api/v1/check:batch", {"checks": []}),
        ("POST", "/api/v1/reserve", {}),
        ("POST", "/api/v1/commit", {"reservation": "x"}),
        ("POST", "/api/v1/release", {"reservation": "x"}),
    ],
    "read": [
        ("GET", "/api/v1/policies", None),
        ("GET", "/api/v1/policies/p", None),
        ("GET", "/api/v1/metrics", None),
        ("GET", "/api/v1/backpressure", None),
        ("GET", "/metrics", None),
    ],
    "admin": [
        ("POST", "/api/v1/policies", POLICY),
        ("POST", "/api/v1/policies:apply", {"policies": []}),
        ("PUT", "/api/v1/policies/p", POLICY),
        ("DELETE", "/api/v1/policies/p", None),
        ("POST", "/api/v1/backpressure", {}),
    ],
}
CALLS = [(scope, *call) for scope, calls in OF_SCOPE.items() for call in calls]
OPEN = ["/healthz", "/readyz", "/docs", "/openapi.json"]


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "route"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that has had a token, and so asks for one."""
    with running_service(tmp_path_factory.mktemp("guarded"), fast_lane=request.param) as service:
        token(service, "check")
        refresh(service)
        yield service


def token(service: Service, *scopes: str, expires_at: datetime | None = None) -> Any:
    return service.running.context.store.tokens.create("test", scopes, expires_at)


def refresh(service: Service) -> None:
    """What happens every few seconds."""
    service.call(service.running.context.gatekeeper.refresh)


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize(("scope", "method", "path", "body"), CALLS)
def test_without_a_token_nothing_is_done(
    guarded: Service, scope: str, method: str, path: str, body: Any
) -> None:
    answer = guarded.request(method, path, body)
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    assert answer["www-authenticate"] == 'Bearer realm="headgate"'
    assert "headgate token create" in answer.json["detail"]


@pytest.mark.parametrize(("scope", "method", "path", "body"), CALLS)
@pytest.mark.parametrize("held", ["check", "read", "admin"])
def test_a_token_is_good_for_its_scope(
    guarded: Service, scope: str, held: str, method: str, path: str, body: Any
) -> None:
    answer = guarded.request(method, path, body, **bearer(token(guarded, held).text))
    if held in {scope, "admin"}:
        assert answer.status in {200, 201, 204, 404, 409}
    else:
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert answer.json["scope"] == scope


@pytest.mark.parametrize("path", OPEN)
def test_health_and_the_reference_are_for_everybody(guarded: Service, path: str) -> None:
    assert guarded.get(path).status == 200


def test_a_token_can_be_sent_in_two_ways(guarded: Service) -> None:
    text = token(guarded, "check").text
    for fields in (bearer(text), {"authorization": f"bearer  {text} "}, {"x-api-key": text}):
        for _ in range(3):  # looked up, then remembered, then known to the lane
            assert guarded.post("/api/v1/check", {}, **fields).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": "Bearer "},
        {"authorization": "Bearer hg_000000000000_" + "0" * 64},
        {"authorization": "Bearer \u00ff\u00fe"},
        {"authorization": "Bearer " + "x" * 8000},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"x-api-key": "' OR 1=1 --"},
    ],
)
def test_what_is_no_token_is_refused(guarded: Service, fields: dict[str, str]) -> None:
    for _ in range(2):
        assert guarded.post("/api/v1/check", {}, **fields).status == 401


def test_a_revoked_token_is_refused_on_an_open_connection(guarded: Service) -> None:
    issued = token(guarded, "check")
    for _ in range(3):
        assert guarded.post("/api/v1/check", {}, **bearer(issued.text)).status == 200
    guarded.running.context.store.tokens.revoke(issued.token.id)
    refresh(guarded)
    assert guarded.post("/api/v1/check", {}, **bearer(issued.text)).status == 401


def test_an_expired_token_is_refused(guarded: Service) -> None:
    now = datetime.fromtimestamp(guarded.clock.wall_ns() / 1e9, UTC)
    issued = token(guarded, "check", expires_at=now + timedelta(minutes=1))
    for _ in range(3):
        assert guarded.post("/api/v1/check", {}, **bearer(issued.text)).status == 200
    guarded.clock.advance(61)
    refresh(guarded)
    assert guarded.post("/api/v1/check", {}, **bearer(issued.text)).status == 401


def test_the_use_of_a_token_is_noted(guarded: Service) -> None:
    issued = token(guarded, "check")
    guarded.post("/api/v1/check", {}, **bearer(issued.text))
    guarded.clock.advance(61)
    refresh(guarded)
    [kept] = [
        one for one in guarded.running.context.store.tokens.list() if one.id == issued.token.id
    ]
    assert kept.last_used_at is not None


def test_changes_of_policies_are_recorded_with_who_made_them(guarded: Service) -> None:
    issued = token(guarded, "admin")
    policy = {**POLICY, "name": "recorded"}
    guarded.request("PUT", "/api/v1/policies/recorded", policy, **bearer(issued.text))
    [change] = guarded.running.context.store.policies.history("recorded")
    assert issued.token.prefix in change.actor


def test_on_loopback_the_first_token_closes_an_open_service(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        assert service.post("/api/v1/check", {}).status == 200
        issued = token(service, "check")
        refresh(service)
        assert service.post("/api/v1/check", {}).status == 401
        service.running.context.store.tokens.revoke(issued.token.id)
        refresh(service)
        assert service.post("/api/v1/check", {}).status == 401, "revoking must not open it again"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.test"])
def test_beyond_loopback_a_token_is_needed_to_start(tmp_path: Path, host: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="headgate token create"),
        running_service(tmp_path, host=host if host != "example.test" else "0.0.0.0"),
    ):
        pass


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://127.0.0.1.evil.test", "["])
def test_an_open_service_is_not_for_pages_from_elsewhere(tmp_path: Path, origin: str) -> None:
    with running_service(tmp_path) as service:
        answer = service.post("/api/v1/policies", POLICY, origin=origin)
        assert answer.status == 403
        assert service.get("/api/v1/policies").json == {"policies": []}
