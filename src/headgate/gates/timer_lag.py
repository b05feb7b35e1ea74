"""How late timers fire: the sign of an event loop, or of an interpreter, with more to do than it can."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, final

__all__ = ["TimerLag"]

_MOST: Final = 1_000


@final
class TimerLag:
    """Collects how late a probe woke, time after time.

    A probe that is overdue now counts as one that is so late already, so that whoever looks from another
    thread sees a blocked event loop while it is blocked.
    """

    __slots__ = ("_due_ns", "_lags", "_lock")

    def __init__(self) -> None:
        self._lags: deque[int] = deque(maxlen=_MOST)
        self._due_ns: int | None = None
        self._lock = threading.Lock()  # the probe and whoever looks may be different threads

    def arm(self, due_ns: int) -> None:
        """A probe is to wake at this moment."""
        self._due_ns = due_ns

    def fired(self, now_ns: int) -> None:
        """It woke. A clock that went back makes it no earlier than due."""
        with self._lock:
            if self._due_ns is not None:
                self._lags.append(max(0, now_ns - self._due_ns))
            self._due_ns = None

    def disarm(self) -> None:
        """There are no more probes; what was collected is void."""
        with self._lock:
            self._due_ns = None
            self._lags.clear()

    def take(self, now_ns: int) -> int | None:
        """The 90th percentile (nearest rank) since the last call, in nanoseconds; None without probes."""
        with self._lock:
            lags = sorted(self._lags)
            self._lags.clear()
            due_ns = self._due_ns
        overdue = 0 if due_ns is None else max(0, now_ns - due_ns)
        if not lags:
            return None if due_ns is None else overdue
        rank = (9 * len(lags) + 9) // 10
        return max(lags[rank - 1], overdue)
