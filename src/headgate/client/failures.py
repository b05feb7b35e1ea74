"""From problem details back to the error that they were made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError, InvalidPolicy, RateLimited, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["error_of"]

_STANDARD = frozenset({"type", "title", "status", "detail", "code"})


def error_of(problem: dict[str, Any], status: int) -> HeadgateError:
    """The error that a service rendered as this problem."""
    code = str(problem.get("code", ""))
    detail = str(problem.get("detail", "")) or f"the service answered with status {status}"
    context = {name: value for name, value in problem.items() if name not in _STANDARD}
    if code == InvalidPolicy.code:
        return InvalidPolicy(detail, str(context.pop("field", "")))
    for kind in _kinds(HeadgateError):
        # A refusal needs a decision and never comes as an error; an abstract one has no code of its own.
        if kind.code == code and not issubclass(kind, RateLimited):
            error = kind(detail)
            error.context = context
            return error
    message = f"{detail} ({code or 'no code'}, status {status}); is it a newer Headgate?"
    return Unreachable(message, status=status, code=code)


def _kinds(kind: type[HeadgateError]) -> Iterator[type[HeadgateError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)
