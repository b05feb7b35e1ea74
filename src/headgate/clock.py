"""The one place that reads a clock.

Everything else takes ``now`` as an argument: whole nanoseconds since the clock's own origin. A clock
also knows where its origin lies on the wall (``wall_offset_ns``), for what is aligned to the calendar
and for what outlives the process.

`SystemClock` counts on the monotonic clock, so a step of the wall clock neither hands out allowance
nor takes it away. The price is stated: a process sees the calendar as it was set when the process
started (the monotonic clock is still disciplined by NTP's slewing, only steps are missed).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable

__all__ = ["NS_PER_MS", "NS_PER_SECOND", "Clock", "SystemClock", "seconds_to_ns"]

NS_PER_SECOND: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


def seconds_to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds, rounded to the nearest."""
    return round(seconds * NS_PER_SECOND)


class Clock:
    """A source of time.

    Attributes:
        now_ns: call it for nanoseconds since the origin. An attribute rather than a method, so that a
            hot path calls the operating system's clock with nothing in between.
        wall_offset_ns: nanoseconds from the Unix epoch to the origin.
    """

    def __init__(self, now_ns: Callable[[], int], wall_offset_ns: int) -> None:
        self.now_ns = now_ns
        self.wall_offset_ns = wall_offset_ns

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, as this clock sees the wall."""
        return self.now_ns() + self.wall_offset_ns

    def sleep(self, seconds: float) -> None:
        """Block this thread; `ManualClock` moves time instead."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task; `ManualClock` moves time instead."""
        import asyncio  # noqa: PLC0415 - asyncio costs 20 ms to import; sync users never need it

        await asyncio.sleep(seconds)

    def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
        """Block this thread until the signal or the time, whichever comes first; None: no time."""
        signal.wait(seconds)

    async def wait_for_async(self, signal: asyncio.Event, seconds: float | None) -> None:
        """Suspend this task until the signal or the time, whichever comes first; None: no time."""
        import asyncio  # noqa: PLC0415 - see sleep_async

        try:
            async with asyncio.timeout(seconds):
                await signal.wait()
        except TimeoutError:
            return


class SystemClock(Clock):
    """The machine's monotonic clock, anchored to the wall once."""

    def __init__(self) -> None:
        super().__init__(time.monotonic_ns, time.time_ns() - time.monotonic_ns())
