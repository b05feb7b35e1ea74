"""Errors as problem details (RFC 9457): the same words for the route, the connection and the framework."""

from __future__ import annotations

from math import ceil
from typing import Final

import msgspec

from headgate.errors import HeadgateError, RateLimited
from headgate.headers import whole_seconds

__all__ = ["PROBLEM_JSON", "problem_body", "problem_fields", "problem_members"]

PROBLEM_JSON: Final = b"application/problem+json"
_OWN: Final = frozenset({"type", "title", "status", "detail", "code"})
_CHALLENGE: Final = b'Bearer realm="headgate"'


def problem_members(error: HeadgateError) -> dict[str, object]:
    """The members of the problem's object; what the error is about stands in members of its own."""
    members: dict[str, object] = {
        "type": f"urn:headgate:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": _printable(error.message),
        "code": error.code,
    }
    for name, value in error.context.items():
        if name not in _OWN and value not in ("", None):
            members[name] = _printable(value) if isinstance(value, str) else value
    return members


def problem_body(error: HeadgateError) -> bytes:
    """The problem as JSON."""
    return msgspec.json.encode(problem_members(error), enc_hook=str)


def problem_fields(error: HeadgateError) -> list[tuple[bytes, bytes]]:
    """The header fields that go with the problem, but for its length."""
    fields = [(b"content-type", PROBLEM_JSON)]
    if error.status == 401:
        fields.append((b"www-authenticate", _CHALLENGE))
    elif error.status == 403:
        fields.append((b"www-authenticate", _CHALLENGE + b', error="insufficient_scope"'))
    elif error.status == 503:
        fields.append((b"retry-after", b"%d" % _retry_seconds(error)))
    return fields


def _retry_seconds(error: HeadgateError) -> int:
    """When to come back: as the refusal says, or soon."""
    if isinstance(error, RateLimited) and not error.decision.never_fits:
        return max(1, whole_seconds(error.decision.retry_after_ns))
    wait = error.context.get("retry_after", 0.0)
    return max(1, ceil(wait)) if isinstance(wait, float) else 1


def _printable(text: str) -> str:
    """Without the half characters that UTF-8 cannot say."""
    return text.encode("utf-8", "replace").decode("utf-8")
