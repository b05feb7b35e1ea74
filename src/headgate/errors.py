"""Every way in which Headgate says that something failed.

One tree. "No" is not in it: a denied request is a `Decision` with ``allowed=False``. Only the
decorators, the middleware and the waiting calls turn a "no" into `RateLimited`.

Each error has a stable ``code`` (what programs match on), a ``status`` (what HTTP answers with) and
a message that states the constraint and then the remedy. REST, RESP and the command line all render
the same error object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from headgate.decision import Decision

__all__ = [
    "BatchTooLarge",
    "CircuitOpen",
    "ConfigurationError",
    "Conflict",
    "Evicted",
    "FeatureOff",
    "Forbidden",
    "HeaderTooLarge",
    "HeadgateError",
    "InternalError",
    "InvalidCost",
    "InvalidInput",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "LineFull",
    "MalformedRequest",
    "MethodNotAllowed",
    "MissingKey",
    "NotFound",
    "Overloaded",
    "PreconditionFailed",
    "QueuedTooLong",
    "RateLimited",
    "RequestTimeout",
    "ShuttingDown",
    "StoreUnavailable",
    "TooLarge",
    "TooManyConnections",
    "TooManyLimits",
    "TooManyPeers",
    "TooManyReservations",
    "Unauthorized",
    "UnknownReservation",
    "Unreachable",
    "UnsupportedMediaType",
    "UriTooLong",
]


class HeadgateError(Exception):
    """The root of the tree.

    Attributes:
        code: a stable identifier in snake_case; never reworded once released.
        status: the HTTP status that a door answers with.
        context: the values that the message speaks of, for programs.
    """

    code: ClassVar[str] = "headgate_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Headgate failed"

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __str__(self) -> str:
        return self.message


class RateLimited(HeadgateError):
    """A decorator, a middleware or a waiting call met a "no".

    Attributes:
        decision: the complete answer, with the wait after which the same call passes.
    """

    code = "rate_limited"
    status = 429
    title = "Too many requests"
    jsonrpc_code: ClassVar[int] = -32001

    def __init__(self, decision: Decision, key: str = "") -> None:
        super().__init__(self._describe(decision, key), key=key, policy=decision.policy)
        self.decision = decision
        self.key = key

    def _describe(self, decision: Decision, key: str) -> str:
        when = (
            "it can never pass: the cost is above the capacity"
            if decision.never_fits
            else f"retry after {decision.retry_after:.3f} s"
        )
        return (
            f"rate limit {decision.policy!r} reached: {decision.limit} per "
            f"{decision.window_ns / 1e9:g} s; {when}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries in task queues: rebuild from the decision.
        return (type(self), (self.decision, self.key))


class CircuitOpen(RateLimited):
    """The peer's circuit breaker is open; its calls are refused until it recovers."""

    code = "circuit_open"
    status = 503
    title = "Circuit open"
    jsonrpc_code = -32002

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"the circuit of {key!r:.200} is open, because its calls failed; "
            f"retry after {decision.retry_after:.3f} s"
        )


class LineFull(RateLimited):
    """So many callers wait for their turn that one more may not."""

    code = "line_full"
    title = "Too many are waiting"

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"so many wait for {decision.policy!r} that one more may not; "
            f"retry after {decision.retry_after:.3f} s"
        )


class Overloaded(RateLimited):
    """Shed, because there is more work than can be done: come back later, or send less."""

    code = "overloaded"
    status = 503
    title = "Overloaded"

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"shed by {decision.policy!r}: there is more work than can be done in time; "
            f"retry after {decision.retry_after:.3f} s"
        )


class FeatureOff(Overloaded):
    """A feature is switched off to save work, and has no fallback."""

    code = "feature_off"
    title = "Feature switched off"

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"the feature {decision.policy!r} is switched off, because there is too much to do or "
            f"somebody said so; retry after {decision.retry_after:.3f} s, or give it a fallback"
        )


class QueuedTooLong(Overloaded):
    """Waited in a queue, or would have, for longer than is of use."""

    code = "queued_too_long"
    title = "Queued for too long"

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"{decision.policy!r} had no seat free in time; "
            f"retry after {decision.retry_after:.3f} s"
        )


class Evicted(Overloaded):
    """Gave way to more urgent work while it waited in a queue; nothing of it was begun."""

    code = "evicted"
    title = "Gave way to more urgent work"

    def _describe(self, decision: Decision, key: str) -> str:
        return (
            f"gave way to more urgent work while it waited for {decision.policy!r}; "
            f"retry after {decision.retry_after:.3f} s"
        )


class InvalidInput(HeadgateError, ValueError):
    """The caller's input breaks a stated constraint."""

    code = "invalid_input"
    status = 422
    title = "Invalid input"


class InvalidKey(InvalidInput, TypeError):
    """A key is empty, too long, or not a string."""

    code = "invalid_key"
    title = "Invalid key"


class MissingKey(InvalidInput):
    """A request lacks the attribute that it is limited by."""

    code = "missing_key"
    status = 400
    title = "Missing key"


class InvalidCost(InvalidInput, TypeError):
    """A cost is negative, too large, or not a whole number."""

    code = "invalid_cost"
    title = "Invalid cost"


class InvalidRate(InvalidInput):
    """A rate cannot be read, or is outside what can be kept."""

    code = "invalid_rate"
    title = "Invalid rate"


class InvalidPolicy(InvalidInput):
    """A policy breaks a constraint.

    Attributes:
        field: the path of the offending field, such as ``levels.0.limit``; "" when it is the whole.
        line: the line in the policy file, 1-based; 0 when the policy did not come from a file.
    """

    code = "invalid_policy"
    title = "Invalid policy"

    def __init__(self, message: str, field: str = "", line: int = 0, **context: object) -> None:
        super().__init__(message, field=field, **context)
        self.field = field
        self.line = line


class MalformedRequest(InvalidInput):
    """The request could not be read at all: not JSON, not UTF-8, not the expected shape."""

    code = "malformed_request"
    status = 400
    title = "Malformed request"


class TooLarge(InvalidInput):
    """A body, a header or a document is above its limit."""

    code = "too_large"
    status = 413
    title = "Too large"


class BatchTooLarge(InvalidInput):
    """A batch holds more checks than one call may carry."""

    code = "batch_too_large"
    title = "Batch too large"


class Unauthorized(HeadgateError):
    """No token, or one that is not known."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(HeadgateError):
    """The token is known and lacks the scope that the call needs."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(HeadgateError):
    """The named thing does not exist."""

    code = "not_found"
    status = 404
    title = "Not found"


class UnknownReservation(NotFound):
    """The reservation was committed, released, has expired, or never was."""

    code = "unknown_reservation"
    title = "Unknown reservation"


class Conflict(HeadgateError):
    """The thing changed under the caller, or exists already."""

    code = "conflict"
    status = 409
    title = "Conflict"


class TooManyReservations(HeadgateError):
    """More holds are open than may be kept."""

    code = "too_many_reservations"
    status = 503
    title = "Too many reservations"


class TooManyLimits(HeadgateError):
    """More limits that callers bring along are in use than may be kept."""

    code = "too_many_limits"
    status = 503
    title = "Too many limits"


class TooManyPeers(HeadgateError):
    """More peers hold something that may not be forgotten than may be kept."""

    code = "too_many_peers"
    status = 503
    title = "Too many peers"


class StoreUnavailable(HeadgateError):
    """The store of records did not answer."""

    code = "store_unavailable"
    status = 503
    title = "Store unavailable"


class Unreachable(HeadgateError):
    """A service that was asked from afar did not answer, or not as Headgate does."""

    code = "unreachable"
    status = 503
    title = "Service unreachable"


class ConfigurationError(HeadgateError):
    """The service cannot start as it is configured."""

    code = "configuration_error"
    title = "Configuration error"


class UriTooLong(TooLarge):
    """The address of a request is above its limit."""

    code = "uri_too_long"
    status = 414
    title = "Address too long"


class HeaderTooLarge(TooLarge):
    """The head of a request is above its limit."""

    code = "header_too_large"
    status = 431
    title = "Header fields too large"


class UnsupportedMediaType(InvalidInput):
    """The body is not of the type that the call takes."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class MethodNotAllowed(HeadgateError):
    """The address exists and has no such method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class PreconditionFailed(Conflict):
    """The thing is not in the state that the caller made a condition."""

    code = "precondition_failed"
    status = 412
    title = "Precondition failed"


class RequestTimeout(HeadgateError):
    """A request was begun and not finished in time."""

    code = "request_timeout"
    status = 408
    title = "Request timeout"


class TooManyConnections(HeadgateError):
    """More connections are open than may be."""

    code = "too_many_connections"
    status = 503
    title = "Too many connections"


class ShuttingDown(HeadgateError):
    """The service is about to stop; another one will answer."""

    code = "shutting_down"
    status = 503
    title = "Shutting down"


class InternalError(HeadgateError):
    """A defect in Headgate; the log has the details."""

    code = "internal_error"
    title = "Internal error"
