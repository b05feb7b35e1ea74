"""What a decision looks like in HTTP: header fields and problem details.

Two styles, together or alone:

``ietf``
    ``RateLimit-Policy: "api";q=100;w=60`` and ``RateLimit: "api";r=42;t=18``, as in
    draft-ietf-httpapi-ratelimit-headers-10. The draft still moves, so the style has a version:
    ``ietf`` means the newest draft that is written here, ``ietf-draft-10`` means that one for ever.
``x``
    ``X-RateLimit-Limit``, ``X-RateLimit-Remaining`` and ``X-RateLimit-Reset``, of the limit that
    decided. Reset is in seconds from now, not a moment: no two clocks have to agree.

Times are whole seconds, rounded up, so that whoever obeys them is never early. ``t`` of a limit that
refused is the wait until the same call passes; of the others, until the whole allowance is back.
``Retry-After`` stands on 429 and 503 only, and is left out when no wait is long enough.

``X-Headgate-Degraded: true`` stands on a decision of the failure mode, in every style.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import NEVER
from headgate.errors import InvalidInput, RateLimited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.decision import Decision
    from headgate.errors import HeadgateError

__all__ = [
    "DEFAULT_STYLES",
    "PROBLEM_JSON",
    "QUOTA_EXCEEDED",
    "STYLES",
    "HeaderWriter",
    "decision_members",
    "error_problem",
    "problem",
    "retry_after_seconds",
]

STYLES: Final = ("ietf", "ietf-draft-10", "x")
DEFAULT_STYLES: Final = ("ietf", "x")
PROBLEM_JSON: Final = "application/problem+json"
QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The problem type that the draft registers for a 429."""

_NS: Final = 1_000_000_000
_CACHED_POLICIES: Final = 1_024


def whole_seconds(nanoseconds: int) -> int:
    """Rounded up, so that whoever waits so long is never early."""
    return -(-nanoseconds // _NS)


def retry_after_seconds(decision: Decision) -> int | None:
    """The value of Retry-After; None when the call passed, or never can.

    >>> from headgate import Decision
    >>> retry_after_seconds(
    ...     Decision(False, 10, 0, 1_200_000_000, 60_000_000_000, 0, "api", 60_000_000_000)
    ... )
    2
    """
    if decision.allowed or decision.retry_after_ns == NEVER:
        return None
    return whole_seconds(decision.retry_after_ns)


@final
class HeaderWriter:
    """Writes a decision as header fields, in the styles that were chosen once.

    >>> from headgate import Decision
    >>> decision = Decision(True, 100, 42, 0, 17_400_000_000, 0, "api", 60_000_000_000)
    >>> for name, value in HeaderWriter().text(decision):
    ...     print(f"{name}: {value}")
    RateLimit-Policy: "api";q=100;w=60
    RateLimit: "api";r=42;t=18
    X-RateLimit-Limit: 100
    X-RateLimit-Remaining: 42
    X-RateLimit-Reset: 18

    Args:
        styles: some of `STYLES`; none writes nothing but Retry-After.

    Raises:
        InvalidInput: a style is not known.
    """

    def __init__(self, styles: Sequence[str] = DEFAULT_STYLES) -> None:
        if isinstance(styles, str):
            styles = (styles,)
        for style in styles:
            if style not in STYLES:
                raise InvalidInput(
                    f"a header style must be one of {', '.join(STYLES)}, got {style!r:.60}"
                )
        self._ietf = "ietf" in styles or "ietf-draft-10" in styles
        self._x = "x" in styles
        self._policies: dict[tuple[str, int, int], str] = {}

    def text(self, decision: Decision, status: int = 200) -> list[tuple[str, str]]:
        """The fields with their names as people write them."""
        fields: list[tuple[str, str]] = []
        if decision.policy or decision.levels:
            if self._ietf:
                fields.append(("RateLimit-Policy", self._policy_field(decision)))
                fields.append(("RateLimit", _limit_field(decision)))
            if self._x:
                fields.append(("X-RateLimit-Limit", str(decision.limit)))
                fields.append(("X-RateLimit-Remaining", str(decision.remaining)))
                fields.append(("X-RateLimit-Reset", str(_reset_seconds(decision))))
        if decision.degraded:
            fields.append(("X-Headgate-Degraded", "true"))
        if status == 429 or status == 503:
            wait = retry_after_seconds(decision)
            if wait is not None:
                fields.append(("Retry-After", str(wait)))
        return fields

    def raw(self, decision: Decision, status: int = 200) -> list[tuple[bytes, bytes]]:
        """The fields as ASGI wants them: bytes, names in lower case."""
        return [
            (_RAW_NAMES[name], value.encode("ascii")) for name, value in self.text(decision, status)
        ]

    def _policy_field(self, decision: Decision) -> str:
        if not decision.levels:
            return self._policy_item(decision)
        return ", ".join([self._policy_item(level) for level in decision.levels])

    def _policy_item(self, decision: Decision) -> str:
        """A policy's half of the field hardly ever changes: it is kept."""
        identity = (decision.policy, decision.limit, decision.window_ns)
        item = self._policies.get(identity)
        if item is None:
            # w is whole seconds >= 1. Rounded up the limit looks stricter than it is, never laxer.
            window = whole_seconds(decision.window_ns)
            item = f"{_quoted(decision.policy)};q={decision.limit};w={window}"
            if len(self._policies) >= _CACHED_POLICIES:
                self._policies.clear()
            self._policies[identity] = item
        return item


_RAW_NAMES: Final = {
    "RateLimit-Policy": b"ratelimit-policy",
    "RateLimit": b"ratelimit",
    "X-RateLimit-Limit": b"x-ratelimit-limit",
    "X-RateLimit-Remaining": b"x-ratelimit-remaining",
    "X-RateLimit-Reset": b"x-ratelimit-reset",
    "X-Headgate-Degraded": b"x-headgate-degraded",
    "Retry-After": b"retry-after",
}


def decision_members(decision: Decision) -> dict[str, object]:
    """A decision as JSON members: waits in seconds, ``retry_after`` null when no wait is enough.

    ``degraded`` is among them only when it is true.
    """
    members: dict[str, object] = {
        "allowed": decision.allowed,
        "policy": decision.policy,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": None if decision.never_fits else decision.retry_after,
        "reset_after": decision.reset_after,
        "delay": decision.delay,
    }
    if decision.degraded:
        members["degraded"] = True
    return members


def problem(decision: Decision, status: int = 429) -> dict[str, object]:
    """Problem details (RFC 9457) for a refusal, with the decision as extension members."""
    violated = [level.policy for level in decision.levels if not level.allowed]
    return {
        "type": QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": status,
        "detail": RateLimited(decision).message,
        "code": RateLimited.code,
        "violated-policies": violated or [decision.policy],
        **decision_members(decision),
    }


def error_problem(error: HeadgateError) -> dict[str, object]:
    """Problem details (RFC 9457) for an error that is not a refusal by a limit."""
    return {
        "type": f"urn:headgate:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }


def _limit_field(decision: Decision) -> str:
    if not decision.levels:
        return _limit_item(decision)
    return ", ".join([_limit_item(level) for level in decision.levels])


def _limit_item(decision: Decision) -> str:
    return f"{_quoted(decision.policy)};r={decision.remaining};t={_reset_seconds(decision)}"


def _reset_seconds(decision: Decision) -> int:
    """Seconds until more is to be had: Retry-After must not be earlier than this."""
    if decision.allowed or decision.retry_after_ns == NEVER:
        return whole_seconds(decision.reset_after_ns)
    return whole_seconds(decision.retry_after_ns)


def _quoted(name: str) -> str:
    """A structured-field string (RFC 9651): printable ASCII, so that no name can break a header."""
    if name.isalnum() and name.isascii():
        return f'"{name}"'
    kept = [character if " " <= character <= "~" else "?" for character in name]
    escaped = "".join(kept).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
