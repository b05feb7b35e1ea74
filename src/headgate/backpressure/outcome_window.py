"""What became of the latest calls: how many there were, how many failed, how many were slow.

`CountWindow` looks at the last so many calls, `TimeWindow` at those of the last so many seconds, in slots
of equal length that begin at whole multiples of it: the oldest slot is dropped as a new one begins, so
with ten slots of a second the window covers the last nine to ten seconds. Both take constant time and
memory per call.

A clock that goes back a little counts in the newest slot; one that goes back by a window or more, or
forward by as much, leaves nothing that is worth remembering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["FAILED", "SLOW", "SUCCEEDED", "CountWindow", "OutcomeWindow", "TimeWindow"]

# An outcome is a sum of these.
SUCCEEDED: Final = 0
FAILED: Final = 1
SLOW: Final = 2


class OutcomeWindow:
    """The totals of a window.

    Attributes:
        calls, failures, slow: as of the last `add` or `roll`.
    """

    def __init__(self) -> None:
        self.calls: i64 = 0
        self.failures: i64 = 0
        self.slow: i64 = 0

    def add(self, outcome: i64, now: i64) -> None:
        """One more call ended; the outcome is a sum of `FAILED` and `SLOW`."""
        raise NotImplementedError

    def roll(self, now: i64) -> None:
        """Drop what is too old by now."""
        raise NotImplementedError

    def clear(self) -> None:
        """Drop everything."""
        raise NotImplementedError


@final
class CountWindow(OutcomeWindow):
    """The last calls, whenever they were.

    Args:
        size: how many, >= 1.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size: i64 = size
        self._next: i64 = 0
        self._outcomes: list[int] = []

    def add(self, outcome: i64, now: i64) -> None:
        if self.calls < self._size:
            self._outcomes.append(outcome)
            self.calls += 1
        else:
            oldest: i64 = self._outcomes[self._next]
            self._outcomes[self._next] = outcome
            self._next = (self._next + 1) % self._size
            self.failures -= oldest & FAILED
            self.slow -= (oldest & SLOW) >> 1
        self.failures += outcome & FAILED
        self.slow += (outcome & SLOW) >> 1

    def roll(self, now: i64) -> None:
        """Calls do not grow old here."""

    def clear(self) -> None:
        self.calls = 0
        self.failures = 0
        self.slow = 0
        self._next = 0
        self._outcomes = []


@final
class TimeWindow(OutcomeWindow):
    """The calls of the last ``slots * slot_ns`` nanoseconds.

    Args:
        slots: how many, >= 1.
        slot_ns: the length of each, >= 1.
    """

    def __init__(self, slots: int, slot_ns: int) -> None:
        super().__init__()
        self._slots: i64 = slots
        self._slot_ns: i64 = slot_ns
        # The newest slot is kept in numbers, and those before it in lists, at their number modulo slots.
        self._newest: i64 = 0
        self._begins: i64 = 0
        self._calls_now: i64 = 0
        self._failures_now: i64 = 0
        self._slow_now: i64 = 0
        self._calls = [0] * slots
        self._failures = [0] * slots
        self._slow = [0] * slots

    def add(self, outcome: i64, now: i64) -> None:
        age = now - self._begins
        if age < 0 or age >= self._slot_ns:
            self.roll(now)
        self.calls += 1
        self._calls_now += 1
        if outcome & FAILED:
            self.failures += 1
            self._failures_now += 1
        if outcome & SLOW:
            self.slow += 1
            self._slow_now += 1

    def roll(self, now: i64) -> None:
        slot = now // self._slot_ns
        ahead = slot - self._newest
        if ahead == 0:
            return
        if ahead >= self._slots or ahead <= -self._slots:
            self.clear()
            self._begin(slot)
        elif ahead > 0:
            for _ in range(ahead):
                self._next_slot()

    def clear(self) -> None:
        self.calls = 0
        self.failures = 0
        self.slow = 0
        self._calls_now = 0
        self._failures_now = 0
        self._slow_now = 0
        for place in range(len(self._calls)):
            self._calls[place] = 0
            self._failures[place] = 0
            self._slow[place] = 0

    def _begin(self, slot: i64) -> None:
        self._newest = slot
        self._begins = slot * self._slot_ns
        self._calls_now = 0
        self._failures_now = 0
        self._slow_now = 0

    def _next_slot(self) -> None:
        """File the newest slot, and begin one after it in the place of the oldest."""
        place = self._newest % self._slots
        self._calls[place] = self._calls_now
        self._failures[place] = self._failures_now
        self._slow[place] = self._slow_now
        self._begin(self._newest + 1)
        place = self._newest % self._slots
        self.calls -= self._calls[place]
        self.failures -= self._failures[place]
        self.slow -= self._slow[place]
