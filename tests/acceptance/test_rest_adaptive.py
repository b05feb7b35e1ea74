"""Adaptive policies over REST, and permits with leases at every door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock
from tests.acceptance.test_rest_backpressure import BACKPRESSURE, press
from tests.support.service import Service, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = {"name": "api", "limit": 100, "window": "1s", "adaptive": "aimd", "priority": "critical"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path) as service:
        assert service.post("/api/v1/policies", POLICY).status == 201
        yield service


def limit(service: Service) -> int:
    answer = service.post("/api/v1/check", {"key": "k"})
    shown: int = answer.json["limit"]
    assert answer["x-ratelimit-limit"] == str(shown)
    return shown


def test_pressure_lowers_the_limits_of_adaptive_policies(service):
    assert limit(service) == 100
    press(service, 1.05, 4)  # tenths of a second: two looks
    assert limit(service) == 81
    in_force = service.get(BACKPRESSURE).json["in_force"]
    assert in_force["adaptive"] == {"api": pytest.approx(0.81)}
    metrics = service.get("/metrics").body.decode()
    assert 'headgate_rate_factor{policy="api"} 0.81' in metrics
    for _ in range(5):
        for _ in range(20):
            limit(service)
        press(service, 0.1, 3)
    assert limit(service) > 90


def test_the_document_comes_back_as_it_was_sent(service):
    stepwise = {**POLICY, "adaptive": {"rule": "stepwise", "threshold": 0.7, "adjustment": 0.2}}
    assert service.request("PUT", "/api/v1/policies/api", stepwise).status == 200
    assert service.get("/api/v1/policies/api").json["adaptive"] == stepwise["adaptive"]
    press(service, 0.75, 4)
    assert limit(service) == 64


def test_a_rule_that_there_is_not_is_refused_with_its_place(service):
    answer = service.post("/api/v1/policies", {**POLICY, "name": "b", "adaptive": "aimed"})
    assert answer.status == 422
    assert answer.json["field"] == "adaptive"
    assert "aimd, stepwise" in answer.json["detail"]


# Permits with leases (A7) -----------------------------------------------------------------------


@pytest.fixture
def permits(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path, resp_port=0) as service:
        policy = {"name": "jobs", "algorithm": "concurrency", "limit": 2, "window": "60s"}
        assert service.post("/api/v1/policies", policy).status == 201
        yield service


def reserve(service, status=200, ttl=30):
    answer = service.post("/api/v1/reserve", {"key": "k", "tokens": 1, "ttl": ttl})
    assert answer.status == status, answer.body
    return answer.json.get("reservation")


def test_permits_over_rest(permits):
    first = reserve(permits)
    reserve(permits)
    reserve(permits, 429)
    assert permits.post("/api/v1/release", {"reservation": first}).status == 200
    assert permits.post("/api/v1/release", {"reservation": first}).status == 404
    second = reserve(permits)
    reserve(permits, 429)
    assert permits.post("/api/v1/commit", {"reservation": second}).status == 200
    reserve(permits)


def test_a_lease_that_nobody_ends_gives_its_permit_back(permits):
    reserve(permits, ttl=10)
    reserve(permits, ttl=20)
    permits.clock.advance(9.99)
    reserve(permits, 429)
    permits.clock.advance(0.02)
    reserve(permits)
    reserve(permits, 429)


def test_permits_over_resp_are_the_same_permits(permits):
    with redis.Redis(port=permits.running.resp_port, protocol=2) as client:

        def ask(*command):
            return client.execute_command(*command)

        held = ask("HEADGATE.RESERVE", "k", 1, 30_000)
        assert held[0] == 1
        reserve(permits)
        assert ask("HEADGATE.RESERVE", "k", 1, 30_000)[0] == 0
        reserve(permits, 429)
        ask("HEADGATE.RELEASE", held[-1])
        with pytest.raises(redis.ResponseError, match="reservation"):
            ask("HEADGATE.RELEASE", held[-1])
        assert ask("HEADGATE.RESERVE", "k", 1, 10_000)[0] == 1
        permits.clock.advance(10.01)
        assert ask("HEADGATE.RESERVE", "k", 1, 10_000)[0] == 1
        assert ask("HEADGATE.RESERVE", "k", 1, 10_000)[0] == 0


def test_a_check_takes_a_permit_that_a_refund_or_the_lease_gives_back(permits):
    for _ in range(2):
        assert permits.post("/api/v1/check", {"key": "k"}).status == 200
    assert permits.post("/api/v1/check", {"key": "k"}).status == 429
    permits.post("/api/v1/refund", {"key": "k", "tokens": 1})
    assert permits.post("/api/v1/check", {"key": "k"}).status == 200
    permits.clock.advance(60.0)
    assert permits.post("/api/v1/peek", {"key": "k"}).json["remaining"] == 2


def test_a_permit_in_the_library():
    clock = ManualClock()
    limiter = Limiter("2/60s", algorithm="concurrency", clock=clock)
    with limiter.acquire("k"), limiter.acquire("k"):
        assert not limiter.check("k")
    assert limiter.peek("k").remaining == 2
    assert limiter.check("k")
    assert limiter.check("k")
    clock.advance(60.0)
    assert limiter.peek("k").remaining == 2
