"""The line of those who wait for a permit: first come, first served."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, final

from headgate.clock import seconds_to_ns
from headgate.gates.numbers import YEAR, valid_number

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.gates.permits import Permit

__all__ = ["PermitLine", "Place", "deadline_after"]


def deadline_after(timeout: object) -> int | None:
    """A timeout in nanoseconds; None for ever, which more than a year is too.

    Raises:
        InvalidInput: it is no number of seconds >= 0.
    """
    if timeout is None:
        return None
    seconds = valid_number("timeout", timeout, 0.0, inf, "; leave it out to wait for ever")
    return seconds_to_ns(seconds) if seconds <= YEAR else None


@final
class Place:
    """One who waits.

    Attributes:
        permit: what it was given; None until then.
    """

    __slots__ = ("_deadline_ns", "_patience_ns", "_waiter", "permit")

    def __init__(self, waiter: Any) -> None:
        self._waiter = waiter
        self._patience_ns: int | None = None
        self._deadline_ns = 0
        self.permit: Permit | None = None

    def wait_until(self, now: int, patience_ns: int | None) -> None:
        """Say how long it waits from now on; None for ever."""
        self._patience_ns = patience_ns
        if patience_ns is not None:
            self._deadline_ns = now + patience_ns

    def left(self, now: int) -> int | None:
        """Nanoseconds until it gives up; None when it never does."""
        if self._patience_ns is None:
            return None
        # More is left than there was only after the clock went back: then the wait starts anew.
        self._deadline_ns = min(self._deadline_ns, now + self._patience_ns)
        return self._deadline_ns - now

    def pause(self, clock: Clock, seconds: float | None) -> None:
        self._waiter.pause(clock, seconds)

    async def pause_async(self, clock: Clock, seconds: float | None) -> None:
        await self._waiter.pause(clock, seconds)

    def wake(self) -> None:
        self._waiter.wake()

    def is_gone(self) -> bool:
        """Whether it can never be woken any more, because its event loop was closed."""
        return bool(self._waiter.is_gone())


@final
class PermitLine:
    """Those who wait, at most so many. Its owner locks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: deque[Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, place: Place) -> bool:
        """Stand at the end; False when it is full."""
        if len(self._places) >= self._most:
            return False
        self._places.append(place)
        return True

    def leave(self, place: Place) -> None:
        """Step out, from wherever."""
        if place in self._places:
            self._places.remove(place)

    def next(self) -> Place | None:
        """Take out who is first and still there."""
        while self._places:
            place = self._places.popleft()
            if not place.is_gone():
                return place
        return None
