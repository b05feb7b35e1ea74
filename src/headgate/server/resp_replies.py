"""What goes back over the wire of the RESP door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.decision import Decision
    from headgate.errors import HeadgateError

__all__ = [
    "NIL",
    "OK",
    "array",
    "bulk",
    "decision_reply",
    "error_reply",
    "failure",
    "integer",
    "mapping",
    "throttle_reply",
]

OK: Final = b"+OK\r\n"
NIL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
_MAX_ERROR: Final = 512
_DEGRADED: Final = b"$8\r\ndegraded\r\n"


def bulk(value: bytes) -> bytes:
    """A string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(value: int) -> bytes:
    """A whole number."""
    return b":%d\r\n" % value


def array(items: list[bytes]) -> bytes:
    """Several replies as one."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def mapping(pairs: list[tuple[bytes, bytes]], protocol: int) -> bytes:
    """Names and replies: a map in RESP3, an array of names and replies in turn in RESP2."""
    items = b"".join([bulk(name) + reply for name, reply in pairs])
    if protocol == 3:
        return b"%%%d\r\n%b" % (len(pairs), items)
    return b"*%d\r\n%b" % (2 * len(pairs), items)


def failure(kind: str, message: str) -> bytes:
    """An error; whatever could end the line early is taken out, and a long one is cut."""
    line = " ".join(f"{kind} {message}"[:_MAX_ERROR].split())
    return b"-%b\r\n" % line.encode("utf-8", "replace")


def error_reply(error: HeadgateError) -> bytes:
    """The error as all doors render it: its code, then its message."""
    return failure("ERR", f"{error.code} {error.message}")


def throttle_reply(decision: Decision, capacity: i64) -> bytes:
    """The answer to CL.THROTTLE: limited, capacity, remaining, retry and reset in whole seconds."""
    retry: i64 = NEVER  # it passed, or can never pass
    if decision.retry_after_ns > 0:
        retry = (decision.retry_after_ns + NS_PER_SECOND - 1) // NS_PER_SECOND
    reset: i64 = (decision.reset_after_ns + NS_PER_SECOND - 1) // NS_PER_SECOND
    limited = 0 if decision.allowed else 1
    remaining: i64 = decision.remaining
    return f"*5\r\n:{limited}\r\n:{capacity}\r\n:{remaining}\r\n:{retry}\r\n:{reset}\r\n".encode()


def decision_reply(decision: Decision, protocol: int, reservation: str | None = None) -> bytes:
    """The complete answer, times in whole milliseconds, rounded up; -1 for a wait that never ends.

    An array in RESP2, and in RESP3 a map with the same values under their names. The id of a
    reservation comes after them, and ``degraded`` last, and only when it is true.
    """
    policy = bulk(decision.policy.encode())
    limit: i64 = decision.limit
    remaining: i64 = decision.remaining
    retry = _milliseconds(decision.retry_after_ns)
    reset = _milliseconds(decision.reset_after_ns)
    delay = _milliseconds(decision.delay_ns)
    if protocol == 3:
        return _decision_map(decision, [limit, remaining, retry, reset, delay], policy, reservation)
    count = 7 if reservation is None else 8
    tail = b"" if reservation is None else bulk(reservation.encode())
    if decision.degraded:
        count += 1
        tail += _DEGRADED
    allowed = 1 if decision.allowed else 0
    head = f"*{count}\r\n:{allowed}\r\n:{limit}\r\n:{remaining}\r\n:{retry}\r\n:{reset}\r\n:{delay}\r\n"
    return head.encode() + policy + tail


def _decision_map(
    decision: Decision, numbers: list[int], policy: bytes, reservation: str | None
) -> bytes:
    names = [b"limit", b"remaining", b"retry_after_ms", b"reset_after_ms", b"delay_ms"]
    pairs = [(b"allowed", b"#t\r\n" if decision.allowed else b"#f\r\n")]
    pairs += [(name, integer(number)) for name, number in zip(names, numbers, strict=True)]
    pairs.append((b"policy", policy))
    if reservation is not None:
        pairs.append((b"reservation", bulk(reservation.encode())))
    if decision.degraded:
        pairs.append((b"degraded", b"#t\r\n"))
    return mapping(pairs, 3)


def _milliseconds(nanoseconds: i64) -> i64:
    if nanoseconds == NEVER:
        return NEVER
    return (nanoseconds + NS_PER_MS - 1) // NS_PER_MS
