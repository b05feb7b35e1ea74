"""Policies over REST: in force at once, guarded by versions, never half-applied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.service import message

if TYPE_CHECKING:
    from tests.support.service import Response, Service

LIST = "/api/v1/policies"


def document(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "limit": 5, "window": "1m", "match": {"key": f"{name}:*"}, **fields}


def put(service: Service, name: str, body: dict[str, Any], **fields: str) -> Response:
    return service.request("PUT", f"{LIST}/{name}", body, **fields)


def remaining(service: Service, key: str) -> int:
    answer: int = service.post("/api/v1/peek", {"key": key}).json["remaining"]
    return answer


def test_a_policy_is_in_force_when_the_answer_comes(service: Service) -> None:
    created = service.post(LIST, document("a"))
    assert created.status == 201
    assert created["location"] == f"{LIST}/a"
    assert remaining(service, "a:1") == 5


def test_what_was_read_can_be_put_back(service: Service) -> None:
    service.post(LIST, document("b", burst=7, description="so so"))
    read = service.get(f"{LIST}/b")
    assert read.json["burst"] == 7
    assert put(service, "b", read.json, if_match=read["etag"]).status == 200


def test_a_name_is_taken_once(service: Service) -> None:
    service.post(LIST, document("c"))
    again = service.post(LIST, document("c"))
    assert (again.status, again.json["code"]) == (409, "conflict")


def test_put_creates_and_replaces_and_keys_keep_what_they_spent(service: Service) -> None:
    assert put(service, "d", document("d")).status == 201
    service.post("/api/v1/check", {"key": "d:1", "tokens": 3})
    assert put(service, "d", document("d", limit=10)).status == 200
    assert remaining(service, "d:1") == 7


def test_the_address_names_the_policy(service: Service) -> None:
    body = document("e")
    del body["name"]
    assert put(service, "e", body).status == 201
    answer = put(service, "e", document("other"))
    assert (answer.status, answer.json["field"]) == (422, "name")


def test_a_change_can_be_bound_to_a_version(service: Service) -> None:
    first = put(service, "f", document("f"))["etag"]
    second = put(service, "f", document("f", limit=6), if_match=first)["etag"]
    assert first != second
    stale = put(service, "f", document("f", limit=7), if_match=first)
    assert (stale.status, stale.json["code"]) == (412, "precondition_failed")
    assert (stale.json["expected_version"], stale.json["current_version"]) == (1, 2)
    assert "is at version 2" in stale.json["detail"]
    assert "made for version 1" in stale.json["detail"]
    assert service.get(f"{LIST}/f").json["limit"] == 6
    assert put(service, "f", document("f"), if_match=f'"x", {second}').status == 200
    assert put(service, "f", document("f"), if_match=f"W/{second}").status == 412
    assert put(service, "f", document("f"), if_match="*").status == 200
    assert put(service, "f", document("f"), if_match="rubbish").status == 400
    assert put(service, "f", document("f"), if_none_match="*").status == 412
    assert put(service, "f", document("f"), if_none_match='"1"').status == 422
    assert put(service, "nobody", document("nobody"), if_match="*").status == 412
    assert put(service, "new", document("new"), if_none_match="*").status == 201


def test_a_whole_number_may_be_written_as_a_fraction(service: Service) -> None:
    assert put(service, "w", document("w", limit=6.0)).json["limit"] == 6


def test_delete_takes_it_out_of_force(service: Service) -> None:
    tag = put(service, "g", document("g"))["etag"]
    assert service.request("DELETE", f"{LIST}/g", if_match='"999"').status == 412
    gone = service.request("DELETE", f"{LIST}/g", if_match=tag)
    assert (gone.status, gone.body) == (204, b"")
    assert service.get(f"{LIST}/g").status == 404
    assert service.request("DELETE", f"{LIST}/g").status == 404
    assert service.post("/api/v1/peek", {"key": "g:1"}).json["policy"] == ""


def test_what_is_known_already_is_not_sent_again(service: Service) -> None:
    tag = put(service, "h", document("h"))["etag"]
    for known in (tag, f"W/{tag}", f'"0", {tag}', "*"):
        answer = service.get(f"{LIST}/h", if_none_match=known)
        assert (answer.status, answer.body, answer["etag"]) == (304, b"", tag)
    assert service.get(f"{LIST}/h", if_none_match='"0"').status == 200
    listed = service.get(LIST)
    assert service.get(LIST, if_none_match=listed["etag"]).status == 304
    put(service, "h", document("h", limit=9))
    assert service.get(LIST, if_none_match=listed["etag"]).status == 200


def test_apply_takes_all_or_none(service: Service) -> None:
    good = [document("i1"), document("i2")]
    answer = service.post(f"{LIST}:apply", {"policies": good})
    assert [one["name"] for one in answer.json["policies"]] == ["i1", "i2"]
    bad = [document("i1", limit=9), document("i3", limit=0)]
    refused = service.post(f"{LIST}:apply", {"policies": bad})
    assert (refused.status, refused.json["field"]) == (422, "1.limit")
    assert service.get(f"{LIST}/i1").json["limit"] == 5
    assert service.get(f"{LIST}/i3").status == 404
    assert remaining(service, "i1:1") == 5


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"algorithm": "magic"}, "algorithm"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 10**13}, "limit"),
        ({"limit": 10**400}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"burst": 0}, "burst"),
        ({"window": 0}, "window"),
        ({"window": "0s"}, "window"),
        ({"window": "soon"}, "window"),
        ({"window": "9" * 300 + "s"}, "window"),
        ({"window": None}, "window"),
        ({"dimensions": ["a", "a"]}, "dimensions"),
        ({"dimensions": "a"}, "dimensions"),
        ({"name": "no spaces"}, "name"),
        ({"name": ""}, "name"),
        ({"burts": 5}, "burts"),
        ({"priority": "urgent"}, "priority"),
        ({"levels": []}, "levels"),
        ({"levels": [{"name": "x", "limit": 0}]}, "levels.0.limit"),
        ({"match": {"key": []}}, "match.key"),
    ],
)
def test_a_bad_policy_is_refused_with_its_field(
    service: Service, fields: dict[str, Any], field: str
) -> None:
    before = service.get(LIST).json
    answer = service.post(LIST, {**document("bad"), **fields})
    assert (answer.status, answer.json["code"]) == (422, "invalid_policy"), answer.body
    assert answer.json["field"] == field
    assert len(answer.body) < 2_000
    assert service.get(LIST).json == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"name": NaN}', 400),
        (b'{"name": "\xff"}', 400),
        (b'{"levels": ' + b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"policies": {}}', 422),
    ],
)
def test_what_is_no_document_is_refused(service: Service, body: bytes, status: int) -> None:
    for path in (LIST, f"{LIST}:apply"):
        with service.connect() as peer:
            peer.send(message("POST", path, body))
            answer = peer.receive()
        assert answer.status == status, answer.body
        assert answer["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{LIST}/absent", 404),
        (f"{LIST}/" + "n" * 5000, 404),
        (f"{LIST}/%00", 404),
        (f"{LIST}/%ff", 404),
        (f"{LIST}/a%2Fb", 404),
        (f"{LIST}/", 404),
    ],
)
def test_what_is_not_there(service: Service, path: str, status: int) -> None:
    answer = service.get(path)
    assert (answer.status, answer.json["code"]) == (status, "not_found")


def test_two_changes_at_the_same_time_leave_the_engine_as_the_store(service: Service) -> None:
    put(service, "race", document("race"))
    peers = [service.connect() for _ in range(8)]
    for limit, peer in enumerate(peers, 11):
        body = json.dumps(document("race", limit=limit)).encode()
        peer.send(message("PUT", f"{LIST}/race", body))
    assert {peer.receive().status for peer in peers} == {200}
    for peer in peers:
        peer.socket.close()
    assert remaining(service, "race:1") == service.get(f"{LIST}/race").json["limit"]
