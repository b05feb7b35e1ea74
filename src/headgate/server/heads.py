"""The heads of check requests that the lane has understood.

Clients send the same head again and again: it is read once, by the parser that the ordinary route uses,
and known by its bytes from then on. What the lane does not know, or does not want, is for the ordinary
route: the lane never judges a request.
"""

from __future__ import annotations

from typing import Final

import httptools

from headgate.errors import Unauthorized
from headgate.server.auth import Gatekeeper, token_text

__all__ = ["NOT_FOR_THE_LANE", "HeadBook"]

NOT_FOR_THE_LANE: Final = -1
_MAX_HEAD: Final = 2_048
_MAX_HEADS: Final = 1_024
_JSON: Final = (b"application/json", b"application/json; charset=utf-8")
# A head with one of these says more than "here is a check".
_UNUSUAL: Final = frozenset(
    [b"content-encoding", b"expect", b"origin", b"trailer", b"transfer-encoding", b"upgrade"]
)


class HeadBook:
    """Heads, and how long the body is that follows; for those that the lane may answer.

    Args:
        gatekeeper: says whether the caller may check.
        max_body: the longest body of a check.

    Attributes:
        known: the heads that were read.
    """

    def __init__(self, gatekeeper: Gatekeeper, max_body: int) -> None:
        self._gatekeeper = gatekeeper
        self._max_body = max_body
        self.known: dict[bytes, int] = {}
        gatekeeper.on_refresh(self.known.clear)

    def read(self, head: bytes) -> int:
        """The length of the body; `NOT_FOR_THE_LANE` when the ordinary route must see the request."""
        if len(head) > _MAX_HEAD:
            return NOT_FOR_THE_LANE
        fields = _Fields()
        length = fields.read(head)
        if not 0 < length <= self._max_body or not self._may_check(fields):
            return NOT_FOR_THE_LANE
        if len(self.known) >= _MAX_HEADS:
            self.known.clear()
        self.known[head] = length
        return length

    def _may_check(self, fields: _Fields) -> bool:
        try:
            return self._gatekeeper.knows(token_text(fields.pairs), "check")
        except Unauthorized:
            return False


class _Fields:
    """The fields of a head; what httptools calls while it reads one."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._has_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._complete = True

    def on_body(self, body: bytes) -> None:
        # What looked like one head was two.
        self._has_body = True

    def read(self, head: bytes) -> int:
        """The length that the head promises, if it is plain; else `NOT_FOR_THE_LANE`."""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return NOT_FOR_THE_LANE
        if not self._complete or self._has_body or not parser.should_keep_alive():
            return NOT_FOR_THE_LANE
        return self._promised_length()

    def _promised_length(self) -> int:
        fields = dict(self.pairs)
        length = fields.get(b"content-length", b"")
        plain = (
            not _UNUSUAL.intersection(fields)
            and [name for name, _ in self.pairs].count(b"content-length") == 1
            and length.isdigit()
            and len(length) < 10
            and fields.get(b"content-type", b"").lower() in _JSON
        )
        return int(length) if plain else NOT_FOR_THE_LANE
