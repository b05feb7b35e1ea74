"""Permits for calls in flight, and the list of those that are out, the oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final

from headgate.errors import RateLimited

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_extensions import i64

__all__ = ["DROPPED", "IGNORED", "SUCCEEDED", "Ends", "Permit", "PermitsOut"]

SUCCEEDED: Final = 1
IGNORED: Final = 0
DROPPED: Final = -1


class Ends(Protocol):
    """Whom a permit came from."""

    drops: tuple[type[BaseException], ...]

    def end(self, permit: Permit, outcome: int) -> bool:
        """Take a permit back; False when it was not out any more."""


@final
class Permit:
    """The right to have one call in flight. End it, in one of three ways, when the call is over.

    As a context manager (``with`` or ``async with``) it ends by itself: as succeeded when nothing was
    raised; as dropped for the exceptions that its limiter was told mean overload; as ignored for all
    others, because a failure that comes fast says nothing about how long an answer takes.

    Only the first end counts. One that comes later, or after the lease is over, does nothing.
    """

    __slots__ = ("_source", "after", "before", "held", "in_flight", "started_ns")

    def __init__(self, source: Ends) -> None:
        self._source = source
        self.held = False
        self.started_ns: i64 = 0
        self.in_flight: i64 = 0
        self.before: Permit | None = None
        self.after: Permit | None = None

    def succeeded(self) -> bool:
        """The call was answered, and its latency counts. False when the permit had ended before."""
        return self._source.end(self, SUCCEEDED)

    def ignored(self) -> bool:
        """The call says nothing about the load: it failed, or was cancelled. False as above."""
        return self._source.end(self, IGNORED)

    def dropped(self) -> bool:
        """The callee was overloaded, or did not answer in time. False as above."""
        return self._source.end(self, DROPPED)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        outcome = SUCCEEDED
        if kind is not None:
            # Refusals of our own are told of by who refused; they never reached the callee.
            is_drop = issubclass(kind, self._source.drops) and not issubclass(kind, RateLimited)
            outcome = DROPPED if is_drop else IGNORED
        self._source.end(self, outcome)

    async def __aenter__(self) -> Permit:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


@final
class PermitsOut:
    """A linked list, in the order in which the permits were given out. Its owner locks.

    Attributes:
        count: how many are out.
        oldest: the first of them.
    """

    def __init__(self) -> None:
        self.count: i64 = 0
        self.oldest: Permit | None = None
        self._newest: Permit | None = None

    def add(self, permit: Permit, now: i64) -> None:
        """Give one out."""
        self.count += 1
        permit.started_ns = now
        permit.in_flight = self.count
        permit.held = True
        newest = self._newest
        permit.before = newest
        if newest is None:
            self.oldest = permit
        else:
            newest.after = permit
        self._newest = permit

    def remove(self, permit: Permit) -> None:
        """Take one back; harmless when it is not out, as after a finalizer came in between."""
        if not permit.held:
            return
        before = permit.before
        after = permit.after
        if before is None:
            self.oldest = after
        else:
            before.after = after
        if after is None:
            self._newest = before
        else:
            after.before = before
        permit.before = None
        permit.after = None
        permit.held = False
        self.count -= 1

    def rebase(self, now: i64) -> None:
        """Have none start later than now, after the clock went back: its lease would never end."""
        permit = self.oldest
        while permit is not None:
            permit.started_ns = min(permit.started_ns, now)
            permit = permit.after
