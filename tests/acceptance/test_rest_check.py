"""``POST /api/v1/check``: every test runs through the fast lane and through the ordinary route."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.service import Peer, Response, Service, message, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECK = "/api/v1/check"
POLICIES = [
    {"name": "by-key", "limit": 10, "window": "1s", "match": {"key": "user:*"}},
    {"name": "by-user", "limit": 60, "window": "1m", "burst": 5, "dimensions": ["user_id"]},
    {"name": "nested", "dimensions": ["tenant"], "match": {"tenant": "*"}, "window": "1h",
     "levels": [
         {"name": "user", "dimensions": ["tenant", "who"], "limit": 2},
         {"name": "all", "limit": 3},
     ]},
    {"name": "queue", "algorithm": "leaky_bucket_queue", "limit": 2, "window": "1s",
     "dimensions": ["job"]},
]  # fmt: skip


@dataclass(frozen=True)
class Door:
    """One way of asking: through which service, and in how many pieces."""

    name: str
    service: Service

    @property
    def clock(self) -> Any:
        return self.service.clock

    def lane_answers(self) -> int:
        lane = self.service.running.context.lane
        return 0 if lane is None else lane.admitted + lane.denied

    def send(self, peer: Peer, body: bytes, fields: dict[str, str] | None = None) -> Response:
        if self.name == "chunked":
            peer.send(chunked(body, fields))
        elif self.name == "two pieces":
            data = message("POST", CHECK, body, fields)
            end = data.index(b"\r\n\r\n") + 4
            peer.send(data[:end])
            peer.send(data[end:])
        else:
            peer.send(message("POST", CHECK, body, fields))
        return peer.receive()

    def ask(self, document: Any, fields: dict[str, str] | None = None) -> Response:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        with self.service.connect() as peer:
            return self.send(peer, body, fields)


def chunked(body: bytes, fields: dict[str, str] | None = None) -> bytes:
    head = message("POST", CHECK, None, {"content-type": "application/json",
                                         "transfer-encoding": "chunked", **(fields or {})})  # fmt: skip
    half = len(body) // 2
    pieces = [piece for piece in (body[:half], body[half:]) if piece]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Service]]:
    directory: Path = tmp_path_factory.mktemp("service")
    with (
        running_service(directory, fast_lane=True) as with_lane,
        running_service(directory, fast_lane=False) as without,
    ):
        for service in (with_lane, without):
            answer = service.post("/api/v1/policies:apply", {"policies": POLICIES})
            assert answer.status == 200, answer.body
        yield {True: with_lane, False: without}


@pytest.fixture(params=["lane", "two pieces", "chunked", "route"])
def door(request: pytest.FixtureRequest, services: dict[bool, Service]) -> Door:
    service = services[request.param != "route"]
    service.clock.advance(3600)  # what earlier tests have spent is back
    return Door(request.param, service)


def test_a_check_that_passes_says_all_there_is_to_say(door: Door) -> None:
    answer = door.ask({"key": "user:1", "tokens": 4})
    assert answer.status == 200
    assert answer.json == {
        "allowed": True, "policy": "by-key", "limit": 10, "remaining": 6,
        "retry_after": 0.0, "reset_after": 0.4, "delay": 0.0,
    }  # fmt: skip
    assert [name for name, _ in answer.fields] == [
        "date", "server", "x-pressure", "content-type", "content-length", "ratelimit-policy", "ratelimit",
        "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    ]  # fmt: skip
    assert answer["content-type"] == "application/json"
    assert answer["ratelimit-policy"] == '"by-key";q=10;w=1'
    assert answer["ratelimit"] == '"by-key";r=6;t=1'
    assert answer["x-ratelimit-limit"] == "10"
    assert answer["x-ratelimit-remaining"] == "6"
    assert answer["x-ratelimit-reset"] == "1"
    assert answer["server"] == "headgate"


def test_a_refusal_is_a_problem_with_the_whole_decision(door: Door) -> None:
    door.ask({"key": "user:2", "tokens": 10})
    answer = door.ask({"key": "user:2", "tokens": 3})
    assert answer.status == 429
    assert answer["content-type"] == "application/problem+json"
    assert answer["retry-after"] == "1"
    problem = answer.json
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["code"] == "rate_limited"
    assert problem["status"] == 429
    assert problem["violated-policies"] == ["by-key"]
    assert problem["allowed"] is False
    assert problem["retry_after"] == pytest.approx(0.3)
    assert "10 per 1 s" in problem["detail"]


def test_obeying_retry_after_is_enough(door: Door) -> None:
    door.ask({"key": "user:3", "tokens": 10})
    wait = door.ask({"key": "user:3", "tokens": 3}).json["retry_after"]
    door.clock.advance(wait - 0.001)
    assert door.ask({"key": "user:3", "tokens": 3}).status == 429
    door.clock.advance(0.001)
    assert door.ask({"key": "user:3", "tokens": 3}).status == 200


def test_what_can_never_pass_has_no_retry_after(door: Door) -> None:
    answer = door.ask({"key": "user:4", "tokens": 11})
    assert answer.status == 429
    assert answer.get("retry-after") is None
    assert answer.json["retry_after"] is None
    assert "never" in answer.json["detail"]


def test_zero_tokens_only_ask(door: Door) -> None:
    assert door.ask({"key": "user:5", "tokens": 0}).json["remaining"] == 10
    assert door.ask({"key": "user:5", "tokens": 0}).json["remaining"] == 10


def test_policies_count_by_metadata(door: Door) -> None:
    answers = [door.ask({"metadata": {"user_id": "7"}}).status for _ in range(6)]
    assert answers == [200] * 5 + [429]
    assert door.ask({"metadata": {"user_id": "8"}}).status == 200


def test_several_limits_are_decided_together(door: Door) -> None:
    first = door.ask({"metadata": {"tenant": "acme", "who": "ann"}})
    assert [level["policy"] for level in first.json["levels"]] == ["nested/user", "nested/all"]
    assert first["ratelimit"] == '"nested/user";r=1;t=1800, "nested/all";r=2;t=1200'
    assert first["ratelimit-policy"] == '"nested/user";q=2;w=3600, "nested/all";q=3;w=3600'
    door.ask({"metadata": {"tenant": "acme", "who": "ann"}})
    denied = door.ask({"metadata": {"tenant": "acme", "who": "ann"}})
    assert denied.status == 429
    assert denied.json["violated-policies"] == ["nested/user"]
    assert [level["remaining"] for level in denied.json["levels"]] == [0, 1]
    assert door.ask({"metadata": {"tenant": "acme", "who": "bob"}}).status == 200


def test_a_queue_says_how_long_to_wait(door: Door) -> None:
    assert door.ask({"metadata": {"job": "7"}}).json["delay"] == 0.0
    answer = door.ask({"metadata": {"job": "7"}})
    assert answer.status == 200
    assert answer.json["delay"] == 0.5


def test_a_request_that_no_policy_applies_to_is_admitted_by_default(door: Door) -> None:
    answer = door.ask({"key": "nobody"})
    assert answer.status == 200
    assert answer.json["policy"] == ""
    assert answer.get("ratelimit") is None


def test_an_empty_object_is_a_check(door: Door) -> None:
    assert door.ask({}).status == 200


def test_any_text_is_a_key(door: Door) -> None:
    key = 'user:\u00e9\u4e2d\U0001f600"\\\n\x00'
    assert door.ask({"key": key}).json["remaining"] == 9
    assert door.ask({"key": key}).json["remaining"] == 8


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 400, "malformed_request", None),
        (b"{", 400, "malformed_request", None),
        (b'{"key": "a"} x', 400, "malformed_request", None),
        (b"\xef\xbb\xbf{}", 400, "malformed_request", None),
        (b'{"key": "\xff"}', 400, "malformed_request", None),
        (b'{"key": "\\ud800"}', 400, "malformed_request", None),
        (b'{"tokens": NaN}', 400, "malformed_request", None),
        (b'{"tokens": Infinity}', 400, "malformed_request", None),
        (b"[]", 422, "invalid_input", None),
        (b'"text"', 422, "invalid_input", None),
        (b'{"tokens": -1}', 422, "invalid_input", "tokens"),
        (b'{"tokens": 1.5}', 422, "invalid_input", "tokens"),
        (b'{"tokens": true}', 422, "invalid_input", "tokens"),
        (b'{"tokens": "1"}', 422, "invalid_input", "tokens"),
        (b'{"tokens": null}', 422, "invalid_input", "tokens"),
        (b'{"tokens": 1000000000001}', 422, "invalid_input", "tokens"),
        (b'{"tokens": ' + b"9" * 5000 + b"}", 422, "invalid_input", "tokens"),
        (b'{"tokens": 1e400}', 422, "invalid_input", "tokens"),
        (b'{"key": 5}', 422, "invalid_input", "key"),
        (b'{"key": ""}', 422, "invalid_key", "key"),
        (b'{"key": "' + b"k" * 1025 + b'"}', 422, "invalid_key", "key"),
        (b'{"key": "' + "\u00e9".encode() * 513 + b'"}', 422, "invalid_key", "key"),
        (b'{"metadata": {"a": 1}}', 422, "invalid_input", "metadata"),
        (b'{"metadata": {"a": null}}', 422, "invalid_input", "metadata"),
        (b'{"metadata": {"a": {"b": "c"}}}', 422, "invalid_input", "metadata"),
        (b'{"metadata": {"": "c"}}', 422, "invalid_input", "metadata"),
        (b'{"metadata": {"key": "c"}}', 422, "invalid_input", "metadata.key"),
        (b'{"metadata": {"a": "' + b"v" * 1025 + b'"}}', 422, "invalid_key", "metadata"),
        (b'{"metadata": []}', 422, "invalid_input", "metadata"),
        (b'{"cost": 1}', 422, "invalid_input", None),
        (b"[" * 30_000, 422, "invalid_input", None),
        (b'{"metadata":' * 2_000, 422, "invalid_input", "metadata"),
        (json.dumps({"metadata": {str(n): "" for n in range(65)}}).encode(), 422, "invalid_input",
         "metadata"),
    ],
)  # fmt: skip
def test_what_is_no_check_is_a_clear_error_and_spends_nothing(
    door: Door, body: bytes, status: int, code: str, field: str | None
) -> None:
    answer = door.ask(body)
    assert (answer.status, answer.json["code"]) == (status, code), answer.body
    assert answer["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["type"] == f"urn:headgate:problem:{code}"
    assert answer.json.get("field") == field
    assert len(answer.body) < 1_000


def test_what_is_known_is_said_for_an_unknown_field(door: Door) -> None:
    detail = door.ask({"cost": 1}).json["detail"]
    assert "'cost'" in detail
    assert "key, tokens, metadata" in detail


def test_a_whole_number_may_be_written_as_a_fraction(door: Door) -> None:
    assert door.ask(b'{"key": "user:f", "tokens": 2.0}').json["remaining"] == 8
    assert door.ask(b'{"key": "user:f", "tokens": 2e0}').json["remaining"] == 6


def test_a_key_of_the_longest_length_is_fine(door: Door) -> None:
    assert door.ask({"key": "user:" + "k" * 1019}).status == 200


def test_a_body_of_the_longest_length_is_read_and_one_byte_more_is_not(door: Door) -> None:
    assert door.ask(b"{}" + b" " * 65_534).status == 200
    answer = door.ask(b"{}" + b" " * 65_535)
    assert answer.status == 413
    assert answer.json["max_bytes"] == 65_536


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "Application/JSON"}, 200),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "x-request-id": "7"}, 200),
        ({"content-type": "application/json", "connection": "keep-alive"}, 200),
        ({"content-type": "application/json", "origin": "http://evil.test"}, 403),
        ({"content-type": "application/json", "origin": "http://localhost:3000"}, 200),
        ({"content-type": "application/json", "x-long": "v" * 4000}, 200),
    ],
)
def test_header_fields_count(door: Door, fields: dict[str, str], status: int) -> None:
    body = b"{}"
    framing = (
        {"transfer-encoding": "chunked"}
        if door.name == "chunked"
        else {"content-length": str(len(body))}
    )
    data = message("POST", CHECK, None, {**fields, **framing})
    with door.service.connect() as peer:
        peer.send(data + (b"2\r\n{}\r\n0\r\n\r\n" if door.name == "chunked" else body))
        answer = peer.receive()
    assert answer.status == status, answer.body
    assert (status == 200) == (answer.get("content-type") == "application/json")


def test_a_connection_is_used_again_and_again(door: Door) -> None:
    with door.service.connect() as peer:
        remaining = [door.send(peer, b'{"key": "user:9"}').json["remaining"] for _ in range(5)]
    assert remaining == [9, 8, 7, 6, 5]


def test_a_connection_survives_an_error(door: Door) -> None:
    with door.service.connect() as peer:
        assert door.send(peer, b"nonsense").status == 400
        assert door.send(peer, b"{}").status == 200
        assert door.send(peer, b'{"tokens": -1}').status == 422
        assert door.send(peer, b"{}").status == 200


def test_connection_close_is_obeyed(door: Door) -> None:
    with door.service.connect() as peer:
        answer = door.send(peer, b"{}", {"connection": "close"})
        assert answer["connection"] == "close"
        assert peer.at_end()


def test_the_lane_is_taken_when_it_should_be(door: Door) -> None:
    before = door.lane_answers()
    door.ask({"key": "user:lane"})
    taken = door.lane_answers() - before
    assert taken == (1 if door.name in {"lane", "two pieces"} else 0)


BODIES = [
    *(json.dumps(one).encode() for one in (
        {}, {"key": "user:d"}, {"key": "user:d", "tokens": 9}, {"key": "user:d", "tokens": 11},
        {"key": "user:d", "tokens": 0}, {"key": "nobody"}, {"metadata": {"user_id": "d"}},
        {"key": "user:d", "metadata": {"user_id": "d"}}, {"metadata": {"job": "d"}},
        {"metadata": {"job": "d"}}, {"metadata": {"job": "d"}},
        {"metadata": {"tenant": "d", "who": "d"}}, {"metadata": {"tenant": "d", "who": "d"}},
        {"metadata": {"tenant": "d", "who": "d"}}, {"metadata": {"tenant": "d"}},
        {"key": "user:d", "tokens": -1}, {"key": 5}, {"no": 1}, {"key": ""},
    )),
    b"nonsense", b"\xff", b"[]",
]  # fmt: skip


def test_the_lane_and_the_route_answer_alike_to_the_byte(services: dict[bool, Service]) -> None:
    doors = [Door(name, services[True]) for name in ("lane", "two pieces", "chunked")]
    doors.append(Door("route", services[False]))
    transcripts = []
    for door in doors:
        door.clock.advance(7200)
        with door.service.connect() as peer:
            transcripts.append([door.send(peer, body).undated for body in BODIES * 2])
    for door, transcript in zip(doors, transcripts, strict=True):
        assert transcript == transcripts[0], door.name
