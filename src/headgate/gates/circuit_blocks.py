"""Blocks that are one call each: which permit belongs to which ``with``.

A breaker is one object for all callers, so ``with breaker:`` has to find its permit again at the end of the
block. Permits lie on a stack that each task and each thread has of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.breaker import ANY_CALL, NO_LEASE
from headgate.errors import InvalidInput
from headgate.gates.circuit_core import CircuitCore, CircuitPermit

if TYPE_CHECKING:
    from types import TracebackType

    from headgate.gates.circuit_breaker import CircuitBreaker

__all__ = ["CallGuard", "pop", "push"]

# The innermost one's; each knows the next. One variable for all breakers, for a context never forgets one.
_entered: Final[ContextVar[CircuitPermit | None]] = ContextVar("headgate_circuits", default=None)
_get: Final = _entered.get  # looking these up would take as long as calling them
_set: Final = _entered.set


def push(permit: CircuitPermit) -> None:
    """A block was entered."""
    permit.around = _get()
    _set(permit)


def pop(core: CircuitCore) -> CircuitPermit:
    """The permit of the block that is being left.

    There is none when it was entered in another thread or task. Then the outcome is that of a call which
    is not known, and its permit's place, if it was a probe, times out.
    """
    permit = _get()
    if permit is not None and permit.owner is core:
        _set(permit.around)
        return permit
    while permit is not None:
        around = permit.around
        if around is not None and around.owner is core:
            permit.around = around.around
            return around
        permit = around
    lost = CircuitPermit(core, ANY_CALL, NO_LEASE, 0)
    lost.timed = False
    return lost


@final
class CallGuard:
    """One call through a breaker; see `CircuitBreaker.guard`. Entering returns the permit."""

    def __init__(self, breaker: CircuitBreaker, timed: bool) -> None:  # noqa: FBT001 - made by guard()
        self._breaker = breaker
        self._timed = timed
        self._permit: CircuitPermit | None = None

    def __enter__(self) -> CircuitPermit:
        self._require_new()
        permit = self._permit = self._breaker.enter()
        permit.timed = self._timed
        return permit

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._permit is not None:
            self._breaker.left(self._permit, error)

    async def __aenter__(self) -> CircuitPermit:
        self._require_new()
        permit = self._permit = await self._breaker.enter_async()
        permit.timed = self._timed
        return permit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._permit is not None:
            await self._breaker.left_async(self._permit, error)

    def _require_new(self) -> None:
        if self._permit is not None:
            raise InvalidInput("a guard is for one call; write breaker.guard() for each")
