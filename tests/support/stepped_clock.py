"""A clock for tests of waiting: whoever waits on it blocks until the test moves time."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from headgate.clock import NS_PER_SECOND, Clock, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0  # real seconds after which a test that hangs says so


class SteppedClock(Clock):
    """Stands still until `advance`; those who wait block really, until their moment or their signal."""

    def __init__(self) -> None:
        self._now = 10**15
        self._changed = threading.Condition()
        self._alarms: list[tuple[int, Callable[[], object]]] = []
        self._threads = 0
        super().__init__(lambda: self._now, 0)

    def advance(self, seconds: float) -> None:
        with self._changed:
            self._now += seconds_to_ns(seconds)
            due = [alarm for alarm in self._alarms if alarm[0] <= self._now]
            self._alarms = [alarm for alarm in self._alarms if alarm[0] > self._now]
        for _, ring in due:
            ring()

    def seconds(self) -> float:
        """Since the clock was made."""
        return (self._now - 10**15) / NS_PER_SECOND

    def sleep(self, seconds: float) -> None:
        self.wait_for(threading.Event(), seconds)

    def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
        if seconds is not None and not self._set_alarm(seconds, signal.set):
            return
        with self._changed:
            self._threads += 1
            self._changed.notify_all()
        assert signal.wait(PATIENCE), "nobody moved the clock"
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()

    async def sleep_async(self, seconds: float) -> None:
        await self.wait_for_async(asyncio.Event(), seconds)

    async def wait_for_async(self, signal: asyncio.Event, seconds: float | None) -> None:
        if seconds is None or self._set_alarm(seconds, signal.set):
            await signal.wait()

    def until_waiting(self, threads: int) -> None:
        """Return when so many threads wait on this clock."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._threads == threads, PATIENCE), self._threads

    def _set_alarm(self, seconds: float, ring: Callable[[], object]) -> bool:
        with self._changed:
            if seconds <= 0:
                return False
            self._alarms.append((self._now + seconds_to_ns(seconds), ring))
            return True


async def settle() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(20):
        await checkpoint()
