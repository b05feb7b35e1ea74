"""Peers that break the protocol, flood, dawdle or leave: each is answered, and the service stays up."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.service import PATIENCE, message, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.service import Peer, Response, Service

CHECK = message("POST", "/api/v1/check", b'{"key": "a"}')
HEALTH = message("GET", "/healthz")
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits a quarter of a second for a request, and half a second for the next."""
    with running_service(
        tmp_path_factory.mktemp("impatient"), request_timeout=0.25, keep_alive_timeout=0.5
    ) as service:
        yield service


@pytest.fixture(autouse=True)
def still_there(service: Service) -> Iterator[None]:
    yield
    assert service.get("/healthz").status == 200


def refusal(peer: Peer) -> Response:
    """The last answer on a connection."""
    answer = peer.receive()
    assert answer["connection"] == "close"
    assert answer["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert peer.at_end()
    return answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"*1\r\n$4\r\nPING\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"G\x00T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"POST /api/v1/check HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/v1/check HTTP/1.1\r\ncontent-length: 1e3\r\n\r\n",
        b"POST /api/v1/check HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
        b"POST /api/v1/check HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /api/v1/check HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"POST /api/v1/check HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"\xff" * 1000,
    ],
)
def test_what_is_no_http_is_told_so(service: Service, garbage: bytes) -> None:
    with service.connect() as peer:
        peer.send(garbage)
        answer = refusal(peer)
    assert answer.status == 400
    assert answer.json["code"] == "malformed_request"


@pytest.mark.parametrize("before", [CHECK, HEALTH, CHECK + HEALTH, HEALTH + CHECK + CHECK])
def test_requests_before_garbage_are_answered_first(service: Service, before: bytes) -> None:
    with service.connect() as peer:
        peer.send(before + b"garbage\r\n\r\n")
        for _ in range(before.count(b"HTTP/1.1")):
            assert peer.receive().status == 200
        assert refusal(peer).status == 400


def test_garbage_in_the_body_of_a_second_request(service: Service) -> None:
    head = message("POST", "/api/v1/check", None, {"transfer-encoding": "chunked"})
    with service.connect() as peer:
        peer.send(HEALTH + head + b"garbage\r\n")
        assert peer.receive().status == 200
        assert refusal(peer).status == 400


def test_requests_in_one_piece_are_answered_in_order(service: Service) -> None:
    with service.connect() as peer:
        keys = [f"order:{n}" for n in range(200)]
        wanted = []
        for number, key in enumerate(keys):
            path = "/healthz" if number % 7 == 3 else f"/nothing/{key}" if number % 7 == 5 else None
            wanted.append(200 if path in {None, "/healthz"} else 404)
            request = message("GET", path) if path else CHECK
            peer.send(request)
        assert [peer.receive().status for _ in keys] == wanted


def test_a_thousand_checks_in_one_piece(service: Service) -> None:
    with service.connect() as peer:
        peer.send(CHECK * 1000)
        assert {peer.receive().status for _ in range(1000)} == {200}


def test_a_thousand_requests_for_the_application_in_one_piece(service: Service) -> None:
    bodies = [b'{"key": "%d"}' % number for number in range(1000)]
    with service.connect() as peer:
        peer.send(b"".join(message("POST", "/api/v1/peek", body) for body in bodies) + CHECK)
        assert {peer.receive().status for _ in range(1001)} == {200}


@pytest.mark.parametrize("cut", [1, 10, 30, 80, 110, 119])
def test_a_request_in_two_pieces_wherever_it_is_cut(service: Service, cut: int) -> None:
    data = CHECK + CHECK
    with service.connect() as peer:
        peer.send(data[:cut])
        peer.send(data[cut:])
        assert [peer.receive().status for _ in range(2)] == [200, 200]


def test_a_request_byte_by_byte(service: Service) -> None:
    with service.connect() as peer:
        for number in range(len(CHECK)):
            peer.send(CHECK[number : number + 1])
        assert peer.receive().status == 200
        peer.send(CHECK)
        assert peer.receive().status == 200


def test_empty_lines_between_requests_do_no_harm(service: Service) -> None:
    with service.connect() as peer:
        peer.send(b"\r\n\r\n" + CHECK + b"\r\n" + HEALTH)
        assert [peer.receive().status for _ in range(2)] == [200, 200]


def test_expect_continue_is_obeyed(service: Service) -> None:
    fields = {"content-type": "application/json", "content-length": "2", "expect": "100-continue"}
    with service.connect() as peer:
        peer.send(message("POST", "/api/v1/check", None, fields))
        assert peer.receive().status == 100
        peer.send(b"{}")
        assert peer.receive().status == 200


def test_http_1_0_is_answered_and_closed(service: Service) -> None:
    with service.connect() as peer:
        peer.send(CHECK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert peer.receive().status == 200
        assert peer.at_end()


def test_an_upgrade_is_not_followed(service: Service) -> None:
    for protocol in ("websocket", "h2c"):
        with service.connect() as peer:
            fields = {"connection": "upgrade", "upgrade": protocol}
            peer.send(message("GET", "/healthz", None, fields))
            assert peer.receive().status == 200


@pytest.mark.parametrize("size", [9_000, 100_000, 2 * MEBIBYTE])
def test_a_long_address_is_refused(service: Service, size: int) -> None:
    with service.connect() as peer:
        send_what_is_read(peer, message("GET", "/" + "a" * size))
        assert refusal(peer).json["code"] == "uri_too_long"


@pytest.mark.parametrize("size", [17_000, 100_000, 2 * MEBIBYTE])
def test_a_long_field_is_refused(service: Service, size: int) -> None:
    with service.connect() as peer:
        send_what_is_read(peer, message("GET", "/healthz", None, {"x": "v" * size}))
        answer = refusal(peer)
    assert (answer.status, answer.json["code"]) == (431, "header_too_large")


def test_many_fields_are_refused(service: Service) -> None:
    with service.connect() as peer:
        send_what_is_read(
            peer, message("GET", "/healthz", None, {f"x-{n}": "v" for n in range(9000)})
        )
        assert refusal(peer).status == 431


def test_fields_after_the_body_count_too(service: Service) -> None:
    head = message("POST", "/nothing", None, {"transfer-encoding": "chunked"})
    with service.connect() as peer:
        send_what_is_read(peer, head + b"0\r\n" + b"x: v\r\n" * 5000 + b"\r\n")
        assert peer.receive().status in {404, 431}


def test_an_endless_chunk_extension_is_cut_off(service: Service) -> None:
    head = message("POST", "/api/v1/check", None, {"transfer-encoding": "chunked"})
    with service.connect() as peer:
        send_what_is_read(peer, head + b"1;" + b"x" * MEBIBYTE)
        assert peer.receive().status in {400, 415, 431}


@pytest.mark.parametrize("path", ["/api/v1/check", "/api/v1/policies"])
def test_ten_megabytes_are_refused_before_they_are_read(service: Service, path: str) -> None:
    body = b"x" * (10 * MEBIBYTE)
    with service.connect() as peer:
        send_what_is_read(peer, message("POST", path, body))
        answer = refusal(peer)
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_ten_megabytes_in_pieces_are_refused_too(service: Service) -> None:
    head = message("POST", "/api/v1/check", None,
                   {"content-type": "application/json", "transfer-encoding": "chunked"})  # fmt: skip
    piece = b"%x\r\n%b\r\n" % (32_768, b"x" * 32_768)
    with service.connect() as peer:
        send_what_is_read(peer, head + piece * 320 + b"0\r\n\r\n")
        answer = refusal(peer)
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def send_what_is_read(peer: Peer, data: bytes) -> None:
    """Send it all if the other side takes it; it may well close before that."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.send(data)


@pytest.mark.parametrize(
    "half",
    [
        b"P",
        b"POST /api/v1/check HTTP/1.1\r\n",
        CHECK[:-5],
        CHECK[: CHECK.index(b"\r\n\r\n") + 4],
        CHECK + CHECK[:-5],
        HEALTH + b"GET /he",
        message("POST", "/api/v1/check", b"{}", {"x": "y"})[:-1],
        message("POST", "/api/v1/policies", b"{}")[:-1],
        message("POST", "/api/v1/policies", None,
                {"content-type": "application/json", "transfer-encoding": "chunked"}) + b"5\r\nab",
    ],
)  # fmt: skip
def test_half_a_request_and_then_silence(impatient: Service, half: bytes) -> None:
    with impatient.connect() as peer:
        peer.send(half)
        if half.startswith((CHECK, HEALTH)):
            assert peer.receive().status == 200
        answer = refusal(peer)
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")


def test_a_dripping_request_has_no_more_time(impatient: Service) -> None:
    with impatient.connect() as peer:
        peer.socket.settimeout(0.05)
        answer = b""
        for byte in CHECK * 10:
            try:
                peer.send(bytes([byte]))
                answer += peer.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if b"408" in answer:
                break
        assert b"HTTP/1.1 408" in answer


@pytest.mark.slow
def test_an_idle_connection_is_closed(impatient: Service) -> None:
    for requests in (b"", CHECK, HEALTH):
        with impatient.connect() as peer:
            peer.send(requests)
            if requests:
                peer.receive()
            assert peer.at_end()


@pytest.mark.slow
def test_a_busy_connection_is_not_closed(impatient: Service) -> None:
    with impatient.connect() as peer:
        peer.socket.settimeout(0.05)
        for number in range(20):
            peer.send(CHECK if number % 5 else HEALTH)
            assert peer.receive().status == 200
            with pytest.raises(TimeoutError):
                peer.socket.recv(1)


@pytest.mark.slow  # it takes thousands of answers to fill the buffers of the system
@pytest.mark.parametrize("question", [CHECK, HEALTH, b"GET / HTTP/1.1\r\n\r\n"])
def test_who_does_not_read_is_not_read_from_and_is_cut_off(
    impatient: Service, question: bytes
) -> None:
    with impatient.connect() as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.socket.settimeout(PATIENCE)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            peer.send(question * (16 * MEBIBYTE // len(question)))


def test_who_leaves_without_a_word_does_no_harm(service: Service) -> None:
    for part in (CHECK, HEALTH, CHECK[:-3], message("POST", "/api/v1/policies", b"{}")[:-1]):
        peer = service.connect()
        peer.send(part)
        linger = struct.pack("ii", 1, 0)  # reset instead of a farewell
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.socket.close()


def test_who_has_said_all_still_gets_the_answer(service: Service) -> None:
    for request in (CHECK, HEALTH, message("GET", "/api/v1/policies")):
        with service.connect() as peer:
            peer.send(request)
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.receive().status == 200
            assert peer.at_end()


def test_connections_have_a_limit(tmp_path: Path) -> None:
    with running_service(tmp_path, max_connections=3) as service:
        peers = [service.connect() for _ in range(3)]
        for peer in peers:
            peer.send(CHECK)
            assert peer.receive().status == 200
        with service.connect() as one_too_many:
            answer = refusal(one_too_many)
        assert (answer.status, answer.json["code"]) == (503, "too_many_connections")
        assert answer["retry-after"] == "1"
        peers.pop().socket.close()
        with service.connect() as peer:
            peer.send(CHECK)
            assert peer.receive().status == 200
        for peer in peers:
            peer.socket.close()


def test_keys_without_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    with running_service(tmp_path, max_keys=1_000) as service:
        service.post("/api/v1/policies", {"name": "p", "limit": 1, "window": "1h"})
        with service.connect() as peer:
            peer.send(message("POST", "/api/v1/check", b'{"key": "limited"}') * 2)
            assert [peer.receive().status for _ in range(2)] == [200, 429]
            for start in range(0, 5_000, 500):
                keys = range(start, start + 500)
                bodies = [b'{"key": "random:%d"}' % number for number in keys]
                peer.send(b"".join(message("POST", "/api/v1/check", body) for body in bodies))
                for _ in bodies:
                    peer.receive()
            peer.send(message("POST", "/api/v1/check", b'{"key": "limited"}'))
            assert peer.receive().status == 429
        assert service.get("/api/v1/metrics").json["totals"]["keys"] <= 1_000
