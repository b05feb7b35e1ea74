"""From problem details back to the error that they were made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.decision import Decision
from headgate.errors import HeadgateError, InvalidPolicy, RateLimited, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["error_of"]

_LONGEST = 366 * 86_400
_STANDARD = frozenset({"type", "title", "status", "detail", "code"})


def error_of(problem: dict[str, Any], status: int) -> HeadgateError:
    """The error that a service rendered as this problem."""
    code = str(problem.get("code", ""))
    detail = str(problem.get("detail", "")) or f"the service answered with status {status}"
    context = {name: value for name, value in problem.items() if name not in _STANDARD}
    if code == InvalidPolicy.code:
        return InvalidPolicy(detail, str(context.pop("field", "")))
    for kind in _kinds(HeadgateError):
        if kind.code != code or kind is RateLimited:  # which comes as a decision
            continue
        if issubclass(kind, RateLimited):
            return kind(_refusal(problem), str(problem.get("key", "")))
        error = kind(detail)
        error.context = context
        return error
    message = f"{detail} ({code or 'no code'}, status {status}); is it a newer Headgate?"
    return Unreachable(message, status=status, code=code)


def _refusal(problem: dict[str, Any]) -> Decision:
    """What is known of the decision behind a refusal: whose it is, and when to come back."""
    wait: object = problem.get("retry_after")
    wait_ns = NS_PER_SECOND
    if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 <= wait < _LONGEST:
        wait_ns = seconds_to_ns(wait)
    return Decision(False, 0, 0, wait_ns, wait_ns, 0, str(problem.get("policy", "")), 0)


def _kinds(kind: type[HeadgateError]) -> Iterator[type[HeadgateError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)
