"""Reading a request's body, never more of it than is allowed, and answering with bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import Request, Response

from headgate.errors import HeadgateError, MalformedRequest, TooLarge, UnsupportedMediaType
from headgate.server.problems import problem_body, problem_fields
from headgate.server.render import split_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JSON", "BytesResponse", "problem_response", "read_json", "tail_response"]

JSON: Final = b"application/json"


class BytesResponse(Response):
    """An answer whose header fields are exactly these, and its length."""

    def __init__(
        self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = list(fields)


def json_response(
    body: bytes, status: int = 200, fields: Sequence[tuple[bytes, bytes]] = ()
) -> BytesResponse:
    """JSON, with more header fields."""
    length = b"%d" % len(body)
    return BytesResponse(
        status, [(b"content-type", JSON), (b"content-length", length), *fields], body
    )


def tail_response(status: int, tail: bytes) -> BytesResponse:
    """What `headgate.server.render` wrote."""
    fields, body = split_tail(tail)
    return BytesResponse(status, fields, body)


def problem_response(
    error: HeadgateError, fields: Sequence[tuple[bytes, bytes]] = ()
) -> BytesResponse:
    """An error as problem details."""
    body = problem_body(error)
    own = [*problem_fields(error), *fields, (b"content-length", b"%d" % len(body))]
    if error.status == 413:
        # The rest of the body is not worth reading.
        own.append((b"connection", b"close"))
    return BytesResponse(error.status, own, body)


async def read_json(request: Request, limit: int) -> bytes:
    """The body of a request that says it is JSON.

    Raises:
        UnsupportedMediaType: it says something else. Browsers let any page send what is not JSON.
        TooLarge: it is longer than the limit, or says it will be.
        MalformedRequest: its length is not a number, or the peer left.
    """
    _require_json(request)
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        message = "content-length must be a whole number"
        raise MalformedRequest(message)
    if len(announced) > 18 or int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "")
    essence, _, parameters = media_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if essence.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        message = f"the body must be application/json, got {ascii(media_type[:60]) or 'no type'}"
        raise UnsupportedMediaType(f"{message}; send the header content-type: application/json")
    if request.headers.get("content-encoding", "identity") != "identity":
        message = "the body must not be compressed; send it without content-encoding"
        raise UnsupportedMediaType(message)


def _too_large(limit: int) -> TooLarge:
    message = (
        f"the body of this request has at most {limit} bytes; send less, or in several requests"
    )
    return TooLarge(message, max_bytes=limit)
