"""The lines in which callers wait: one per key, first come, first served.

Only who stands where. What the head of a line waits for is `headgate.gates.waiting`'s affair.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.forecast import Forecast

__all__ = ["MAX_WAITING", "MAX_WAITING_PER_KEY", "Lines", "TaskWaiter", "ThreadWaiter", "Waiter"]

MAX_WAITING_PER_KEY: Final = 1_000
MAX_WAITING: Final = 100_000


class Waiter:
    """One that stands in a line, and how to wake it."""

    __slots__ = ("cost",)

    def __init__(self, cost: int) -> None:
        self.cost = cost

    def wake(self) -> None:
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Whether it can never be woken any more."""
        return False


@final
class ThreadWaiter(Waiter):
    """A thread that blocks."""

    __slots__ = ("_signal",)

    def __init__(self, cost: int) -> None:
        super().__init__(cost)
        self._signal = threading.Event()

    def wake(self) -> None:
        self._signal.set()

    def pause(self, clock: Clock, seconds: float | None) -> None:
        clock.wait_for(self._signal, seconds)
        self._signal.clear()


@final
class TaskWaiter(Waiter):
    """A task of an event loop, which may run in any thread."""

    __slots__ = ("_loop", "_signal")

    def __init__(self, cost: int) -> None:
        import asyncio  # noqa: PLC0415 - the caller runs in a loop: it is loaded already

        super().__init__(cost)
        self._loop = asyncio.get_running_loop()
        self._signal = asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed this very moment
            self._loop.call_soon_threadsafe(self._signal.set)

    def is_gone(self) -> bool:
        return self._loop.is_closed()

    async def pause(self, clock: Clock, seconds: float | None) -> None:
        await clock.wait_for_async(self._signal, seconds)
        self._signal.clear()


@final
class Lines:
    """The lines of one limiter. A line exists while somebody stands in it.

    Args:
        max_per_key: how many may stand in one line.
        max_total: how many may stand in all lines together.

    Attributes:
        lock: held for looking at and changing a line, never while waiting.
    """

    def __init__(
        self, max_per_key: int = MAX_WAITING_PER_KEY, max_total: int = MAX_WAITING
    ) -> None:
        self._max_per_key = max_per_key
        self._max_total = max_total
        # Reentrant: a signal handler or a finalizer may end a turn while this thread holds it.
        self.lock = threading.RLock()
        self._lines: dict[str, deque[Waiter]] = {}
        self._forecasts: dict[str, Forecast] = {}
        self._total = 0

    def __len__(self) -> int:
        """How many wait, for all keys together."""
        return self._total

    def waiting(self, key: str) -> int:
        """How many wait for this key."""
        return len(self._lines.get(key, ()))

    def is_empty(self, key: str) -> bool:
        """Whether nobody waits for this key."""
        line = self._lines.get(key)
        if line is None:
            return True
        if line[0].is_gone():
            self._wake_head(key)
        return key not in self._lines

    def nudge(self, key: str) -> None:
        """Have the head of a line look again, because something was given back."""
        with self.lock:
            self._forecasts.pop(key, None)
            self._wake_head(key)

    def nudge_all(self) -> None:
        """Have the heads of all lines look again, because all limits changed."""
        with self.lock:
            self._forecasts.clear()
            for key in list(self._lines):
                self._wake_head(key)

    def has_room(self, key: str) -> bool:
        return self._total < self._max_total and self.waiting(key) < self._max_per_key

    def join(self, key: str, waiter: Waiter) -> None:
        """Stand at the end of the line."""
        self._lines.setdefault(key, deque()).append(waiter)
        self._total += 1
        forecast = self._forecasts.get(key)
        if forecast is not None:
            forecast.add(waiter.cost)

    def leave(self, key: str, waiter: Waiter, *, served: bool) -> None:
        """Step out, from wherever in the line; whoever is the head now is woken."""
        with self.lock:
            line = self._lines.get(key)
            if line is None or waiter not in line:
                return
            was_head = line[0] is waiter
            line.remove(waiter)
            if not served:
                self._forecasts.pop(key, None)
            self._left(key, line)
            if was_head:
                self._wake_head(key)

    def is_head(self, key: str, waiter: Waiter) -> bool:
        return self._lines[key][0] is waiter

    def forecast(self, key: str, limits: Callable[[], Forecast]) -> Forecast:
        """What comes after all that stand in the line; ``limits`` makes one for before the first."""
        forecast = self._forecasts.get(key)
        if forecast is None:
            forecast = limits()
            for waiter in self._lines.get(key, ()):
                forecast.add(waiter.cost)
            self._forecasts[key] = forecast
        return forecast

    def _wake_head(self, key: str) -> None:
        line = self._lines.get(key)
        while line:
            if not line[0].is_gone():
                line[0].wake()
                return
            self._forecasts.pop(key, None)
            line.popleft()  # its event loop was closed under it, and nobody is there any more
            self._left(key, line)

    def _left(self, key: str, line: deque[Waiter]) -> None:
        self._total -= 1
        if not line:
            del self._lines[key]
            self._forecasts.pop(key, None)
