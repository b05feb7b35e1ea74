"""Peek, refund, batches and reservations over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.service import message

if TYPE_CHECKING:
    from tests.support.service import Response, Service

POLICY = {"name": "ten", "limit": 10, "window": "10s", "match": {"key": "k:*"}}


@pytest.fixture(autouse=True)
def policy(service: Service) -> None:
    service.request("PUT", "/api/v1/policies/ten", POLICY)
    service.clock.advance(3600)


def post(service: Service, action: str, **document: Any) -> Response:
    return service.post(f"/api/v1/{action}", document)


def test_peek_spends_nothing_and_refuses_nothing(service: Service) -> None:
    post(service, "check", key="k:1", tokens=8)
    for _ in range(2):
        answer = post(service, "peek", key="k:1", tokens=3)
        assert answer.status == 200
        assert answer.json["allowed"] is False
        assert answer.json["remaining"] == 2
        assert answer.json["retry_after"] == 1.0
        assert answer["content-type"] == "application/json"
        assert answer["ratelimit"] == '"ten";r=2;t=1'


def test_refund_gives_back_and_never_more_than_all(service: Service) -> None:
    post(service, "check", key="k:2", tokens=6)
    assert post(service, "refund", key="k:2", tokens=4).json["remaining"] == 8
    assert post(service, "refund", key="k:2", tokens=4).json["remaining"] == 10
    assert post(service, "refund", key="k:2", tokens=0).status == 422


def test_a_batch_is_answered_in_order_each_for_itself(service: Service) -> None:
    checks = [{"key": "k:3", "tokens": 6}, {"key": "k:3", "tokens": 6}, {"key": "k:3"}, {}]
    answer = post(service, "check:batch", checks=checks)
    assert answer.status == 200
    results = answer.json["results"]
    assert [one["allowed"] for one in results] == [True, False, True, True]
    assert [one["remaining"] for one in results] == [4, 4, 3, 0]
    assert [one["policy"] for one in results] == ["ten", "ten", "ten", ""]


def test_a_batch_of_a_thousand(service: Service) -> None:
    answer = post(service, "check:batch", checks=[{"key": f"k:{n}"} for n in range(1000)])
    assert len(answer.json["results"]) == 1000


def test_an_empty_batch_has_no_results(service: Service) -> None:
    assert post(service, "check:batch", checks=[]).json == {"results": []}


@pytest.mark.parametrize(
    "bad", [{"key": ""}, {"tokens": -1}, {"key": "k" * 1025}, {"no": 1}, {"metadata": {"a": 1}}]
)
def test_one_bad_item_refuses_the_batch_and_nothing_is_spent(
    service: Service, bad: dict[str, Any]
) -> None:
    checks = [{"key": "k:4", "tokens": 5}, bad, {"key": "k:4", "tokens": 5}]
    answer = post(service, "check:batch", checks=checks)
    assert answer.status == 422
    assert answer.json["index"] == 1
    assert post(service, "peek", key="k:4").json["remaining"] == 10


def test_a_batch_above_a_thousand_is_refused(service: Service) -> None:
    answer = post(service, "check:batch", checks=[{"key": "k:5"}] * 1001)
    assert (answer.status, answer.json["code"]) == (422, "batch_too_large")
    assert post(service, "peek", key="k:5").json["remaining"] == 10


def test_a_body_above_a_mebibyte_is_refused(service: Service) -> None:
    with service.connect() as peer:
        peer.send(message("POST", "/api/v1/check:batch", b" " * (1024 * 1024 + 1)))
        answer = peer.receive()
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_a_reservation_is_settled_at_its_real_cost(service: Service) -> None:
    held = post(service, "reserve", key="k:6", tokens=8, ttl=30)
    assert held.status == 200
    assert held.json["remaining"] == 2
    assert held.json["expires_in"] == 30.0
    settled = post(service, "commit", reservation=held.json["reservation"], tokens=3)
    assert settled.json["remaining"] == 7
    again = post(service, "commit", reservation=held.json["reservation"])
    assert (again.status, again.json["code"]) == (404, "unknown_reservation")


def test_a_released_reservation_gives_all_back(service: Service) -> None:
    held = post(service, "reserve", key="k:7", tokens=8)
    released = post(service, "release", reservation=held.json["reservation"])
    assert released.json["remaining"] == 10


def test_an_expired_reservation_gives_all_back(service: Service) -> None:
    held = post(service, "reserve", key="k:8", tokens=10, ttl=2)
    service.clock.advance(2)
    assert post(service, "peek", key="k:8").json["remaining"] == 10
    assert post(service, "commit", reservation=held.json["reservation"]).status == 404


def test_a_reservation_can_be_denied(service: Service) -> None:
    answer = post(service, "reserve", key="k:9", tokens=11)
    assert answer.status == 429
    assert "reservation" not in answer.json


@pytest.mark.parametrize("ttl", [0, -1, 86_401, "60s", None])
def test_a_time_to_live_has_bounds(service: Service, ttl: object) -> None:
    answer = post(service, "reserve", key="k:10", ttl=ttl)
    assert (answer.status, answer.json["field"]) == (422, "ttl")


@pytest.mark.parametrize("reservation", ["", "x" * 65, 5, None])
def test_a_reservation_has_a_proper_name(service: Service, reservation: object) -> None:
    answer = post(service, "release", reservation=reservation)
    assert (answer.status, answer.json["field"]) == (422, "reservation")
