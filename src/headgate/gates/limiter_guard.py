"""One call under an adaptive limiter, or the calls of one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat, TypeVar, final

from headgate.errors import InvalidInput
from headgate.gates.permit_line import deadline_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.gates.adaptive_limiter import AdaptiveLimiter
    from headgate.gates.permits import Permit

__all__ = ["LimiterGuard"]

_F = TypeVar("_F", bound="Callable[..., Any]")


@final
class LimiterGuard:
    """One call under an `AdaptiveLimiter`, or, as a decorator, the calls of one function."""

    def __init__(self, limiter: AdaptiveLimiter, timeout: SupportsFloat | None) -> None:
        if type(timeout) is not float or timeout != 0.0:
            deadline_after(timeout)
        self._limiter = limiter
        self._timeout = timeout
        self._permit: Permit | None = None

    def __enter__(self) -> Permit:
        self._require_free()
        if self._timeout == 0:
            self._permit = self._limiter.acquire_nowait()
        else:
            self._permit = self._limiter.acquire(self._timeout)
        return self._permit

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        permit = self._permit
        self._permit = None
        if permit is not None:
            permit.__exit__(kind, error, trace)

    async def __aenter__(self) -> Permit:
        self._require_free()
        if self._timeout == 0:
            self._permit = self._limiter.acquire_nowait()
        else:
            self._permit = await self._limiter.acquire_async(self._timeout)
        return self._permit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: _F) -> _F:
        """The function, each call of which goes through a guard of its own."""
        from headgate.gates.wrapping import wrap  # noqa: PLC0415 - only who decorates needs it

        limiter = self._limiter
        timeout = self._timeout

        def turn(*_call: object) -> LimiterGuard:
            return LimiterGuard(limiter, timeout)

        wrapped: _F = wrap(function, turn, turn)
        return wrapped

    def _require_free(self) -> None:
        if self._permit is not None:
            raise InvalidInput("a guard is for one call at a time; call guard() for each")
