"""One request of a daemon: when it began, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.backpressure.request_statistics import Outcome
from headgate.errors import InvalidInput, RateLimited

if TYPE_CHECKING:
    from types import TracebackType

    from headgate.gates.daemon_connections import DaemonConnection
    from headgate.gates.daemon_guard import DaemonGuard

__all__ = ["DaemonRequest"]


@final
class DaemonRequest:
    """One request. Entering raises when it may not begin."""

    __slots__ = ("_began_ns", "_connection", "_failed", "_guard")

    def __init__(self, guard: DaemonGuard, connection: DaemonConnection | None) -> None:
        self._guard = guard
        self._connection = connection
        self._began_ns: int | None = None
        self._failed = False

    def failed(self) -> None:
        """Say that it failed, where no exception does."""
        self._failed = True

    def __enter__(self) -> DaemonRequest:
        if self._began_ns is not None:
            raise InvalidInput("this request is under way; make another one for the next")
        self._failed = False
        self._began_ns = self._guard.begin(self._connection)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        began, self._began_ns = self._began_ns, None
        if began is None:
            return
        outcome = Outcome.FAILED if self._failed else Outcome.OK
        if kind is not None:
            says = issubclass(kind, Exception) and not issubclass(kind, RateLimited)
            outcome = Outcome.FAILED if says else Outcome.ABANDONED
        invalid = kind is not None and issubclass(kind, InvalidInput)
        self._guard.ended(self._connection, began, outcome, invalid=invalid)

    async def __aenter__(self) -> DaemonRequest:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)
