"""At most n iterations in any window, in constant memory.

The window is cut into 64 slots, each with a count. What was taken counts until the slot it was taken
in, and 64 more, are over: at least a window, and at most a 64th of it longer. So no window, wherever it
begins, holds more than the limit, and a loop that takes all it can gets at least 64/65 of it.

Choose the token bucket instead where twice the limit may pass around one moment (a burst after a pause,
and what refills meanwhile): it needs one number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["IterationWindow"]

_SLOTS: Final = 64
_KEPT: Final = 65  # the present slot besides


@final
class IterationWindow:
    """The counts of one budget.

    A clock that goes back hands nothing out: what was taken counts for one window from the new time on.

    Args:
        limit: iterations per window, >= 1.
        window_ns: its length, >= 1.

    Attributes:
        used: how many the window holds; brought up to date by each call that is given the time.
    """

    __slots__ = ("_at", "_counts", "_slot_ns", "_start", "limit", "used")

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit: i64 = limit
        self.used: i64 = 0
        self._slot_ns: i64 = -(-window_ns // _SLOTS)
        self._counts: list[int] = [0] * _KEPT
        self._at: i64 = 0
        self._start: i64 = 0

    def room(self, now: i64) -> i64:
        """How many may be taken at once."""
        if not 0 <= now - self._start < self._slot_ns:
            self._move_to(now)
        return self.limit - self.used

    def take(self, count: i64, now: i64) -> bool:
        """Take so many if there is room for all of them; otherwise take nothing."""
        if not 0 <= now - self._start < self._slot_ns:
            self._move_to(now)
        if count > self.limit - self.used:
            return False
        self._counts[self._at] += count
        self.used += count
        return True

    def wait(self, count: i64, now: i64) -> i64:
        """The least wait in nanoseconds after which so many (at most the limit) can be taken."""
        missing: i64 = count - self.room(now)
        if missing <= 0:
            return 0
        slots: i64 = 0
        slot: i64 = self._at
        while missing > 0 and slots < _KEPT:
            slot = slot + 1 if slot + 1 < _KEPT else 0
            missing -= self._counts[slot]
            slots += 1
        return self._start + slots * self._slot_ns - now

    def _move_to(self, now: i64) -> None:
        """Make the slot that holds this moment the present one, and forget what is over."""
        elapsed: i64 = now - self._start
        if elapsed < 0 or self.used == 0:
            self._start = now
            return
        slots: i64 = elapsed // self._slot_ns
        if slots >= _KEPT:
            self._start = now
            slots = _KEPT
        else:
            self._start += slots * self._slot_ns
        # In place: a new list could start a garbage collection, and with it other threads, halfway.
        while slots > 0:
            self._at = self._at + 1 if self._at + 1 < _KEPT else 0
            self.used -= self._counts[self._at]
            self._counts[self._at] = 0
            slots -= 1
