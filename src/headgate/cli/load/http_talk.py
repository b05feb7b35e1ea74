"""Checks over HTTP, one at a time on each connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from headgate.client.failures import error_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HttpTalk", "check_request"]


def check_request(host: str, body: bytes, token: str | None) -> bytes:
    """The bytes of one check."""
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST /api/v1/check HTTP/1.1\r\nhost: {host}\r\n{authorization}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class HttpTalk:
    """Sends the requests in turn, beginning at one of them."""

    def __init__(self, requests: Sequence[bytes], first: int) -> None:
        self._requests = requests
        self._next = first % len(requests)
        self._heard = b""

    def ask(self) -> bytes:
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        return request

    def hear(self, data: bytes) -> tuple[int, int] | None:
        if self._heard:
            data = self._heard + data
        head = data.find(b"\r\n\r\n") + 4
        if head < 4:
            self._heard = data
            return None
        place = data.find(b"content-length: ", 0, head) + 16
        if len(data) < head + int(data[place : data.find(b"\r", place)]):
            self._heard = data
            return None
        self._heard = b""
        status = data[9:12]
        if status == b"200":
            return 1, 1
        if status == b"429":
            return 1, 0
        raise error_of(_members(data[head:]), int(status))


def _members(body: bytes) -> dict[str, object]:
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    return members if isinstance(members, dict) else {}
