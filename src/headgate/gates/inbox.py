"""What a bounded loop has before it, what it may take, and what became of it; for both kinds of loop.

No lock is held while a function of the user's runs: neither a handler nor what hears about overflow.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, SupportsIndex, TypeVar, final

from headgate.errors import InvalidInput
from headgate.gates.loop_budget import LoopBudget
from headgate.gates.numbers import valid_plain_call
from headgate.inputs import valid_count

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EMPTY", "Inbox", "LoopStats", "Overflow"]

_T = TypeVar("_T")
if TYPE_CHECKING:
    from typing import Literal

    Overflow = Literal["drop_oldest", "drop_newest"] | Callable[[Any], object]
else:
    Overflow = object

EMPTY: Final = -1.0
"""A wait that means: nothing is there."""

_MAX_CAPACITY: Final = 10**7
_POLICIES: Final = ("drop_oldest", "drop_newest")
_log: Final = logging.getLogger("headgate.loop")


class LoopStats(NamedTuple):
    """What became of what was put into a loop, since it was made.

    Attributes:
        received: how often `put` was called.
        handled: handlers that ended well.
        failed: handlers that raised.
        cancelled: handlers that ended cancelled, by somebody else than the loop.
        hung: handlers that the loop gave up, because they took longer than their timeout.
        dropped: items that gave way: the oldest or the newest.
        diverted: items that the overflow function was given.
        idle: times that nothing came within the receive timeout.
        pauses: times that the budget was used up.
        waiting: items that wait now.
        peak: the most that ever waited.
    """

    received: int
    handled: int
    failed: int
    cancelled: int
    hung: int
    dropped: int
    diverted: int
    idle: int
    pauses: int
    waiting: int
    peak: int


@final
class Inbox(Generic[_T]):
    """A bounded queue, a budget for emptying it, and the counts.

    Args:
        capacity: items that may wait.
        overflow: what happens to an item more.
        budget: of the loop.
        on_error: told of every exception of a handler, with the item.
        name: of the loop, in the log.
    """

    def __init__(
        self,
        capacity: SupportsIndex,
        overflow: Overflow,
        budget: LoopBudget,
        on_error: Callable[[BaseException, Any], object] | None,
        name: str,
    ) -> None:
        if not isinstance(budget, LoopBudget):
            raise InvalidInput(f"budget must be a LoopBudget, got {type(budget).__name__}")
        if not callable(overflow) and overflow not in _POLICIES:
            raise InvalidInput(
                f"overflow must be one of {', '.join(_POLICIES)}, or a function that is given "
                f"what has no room, got {overflow!r:.60}"
            )
        if on_error is not None:
            valid_plain_call("on_error", on_error)
        if callable(overflow):
            valid_plain_call("overflow", overflow)
        self.budget = budget
        self.name = name
        self._capacity = valid_count("capacity", capacity, _MAX_CAPACITY)
        self._overflow = overflow
        self._on_error = on_error
        self._items: deque[_T] = deque()
        # Reentrant: a signal handler or a finalizer may put something while this thread holds it.
        self._lock = threading.RLock()
        self._wake: Callable[[], object] | None = None
        self._received = self._handled = self._failed = self._cancelled = self._hung = 0
        self._dropped = self._diverted = self._idle = self._pauses = self._peak = 0

    def put(self, item: _T) -> bool:
        """Add an item, or do with it what the overflow policy says; False when it was not added."""
        wake = None
        with self._lock:
            self._received += 1
            added = self._has_room()
            if added:
                self._items.append(item)
                self._peak = max(self._peak, len(self._items))
                wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        if not added and callable(self._overflow):
            self.call_out("overflow", self._overflow, item)
        return added

    def take(self, into: list[_T]) -> float:
        """Append the next item, if the budget admits one iteration.

        Returns:
            0.0 with an item; `EMPTY` when there is none; else the seconds to pause, since the budget is
            used up: what its backoff says, but no longer than until there is room.
        """
        with self._lock:
            if not self._items:
                return EMPTY
            if self.budget.consume():
                into.append(self._items.popleft())
                return 0.0
            self._pauses += 1
        # retry_after may have become 0.0 meanwhile, which would pass for an item.
        return max(min(self.budget.next_pause(), self.budget.retry_after()), 1e-6)

    def wake_with(self, wake: Callable[[], object]) -> bool:
        """Have the next `put` call this; False when something is there already."""
        with self._lock:
            if self._items:
                return False
            self._wake = wake
            return True

    def nudge(self) -> None:
        """Wake whoever waits for an item, though none has come."""
        with self._lock:
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def was_idle(self) -> None:
        with self._lock:
            self._idle += 1

    def ended_well(self) -> None:
        with self._lock:
            self._handled += 1
        self.budget.progress()

    def was_cancelled(self) -> None:
        with self._lock:
            self._cancelled += 1

    def hung(self) -> None:
        with self._lock:
            self._hung += 1
        _log.warning("loop %r gave up a handler that did not come back in time", self.name)

    def failed(self, error: BaseException, item: _T) -> None:
        """Count an exception of a handler, log some of them, and tell who wants to know."""
        with self._lock:
            self._failed += 1
            failures = self._failed
        if (
            failures & (failures - 1) == 0
        ):  # the 1st, 2nd, 4th, 8th ...: a log is no place for a flood
            _log.warning("loop %r: failure %d of a handler", self.name, failures, exc_info=error)
        if self._on_error is not None:
            self.call_out("on_error", self._on_error, error, item)

    def call_out(self, role: str, function: Callable[..., object], *arguments: object) -> None:
        """Call what the user gave us to be told something; it cannot harm the loop."""
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 - whatever it raises is its own affair
            _log.warning("loop %r: %s raised", self.name, role, exc_info=True)

    def stats(self) -> LoopStats:
        with self._lock:
            return LoopStats(
                received=self._received,
                handled=self._handled,
                failed=self._failed,
                cancelled=self._cancelled,
                hung=self._hung,
                dropped=self._dropped,
                diverted=self._diverted,
                idle=self._idle,
                pauses=self._pauses,
                waiting=len(self._items),
                peak=self._peak,
            )

    def _has_room(self) -> bool:
        """Whether one more may wait, after whatever gives way for it."""
        if len(self._items) < self._capacity:
            return True
        if self._overflow == "drop_oldest":
            self._items.popleft()
            self._dropped += 1
            return True
        if callable(self._overflow):
            self._diverted += 1
        else:
            self._dropped += 1
        return False
