"""What users and we ourselves test with: time that moves only when told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.clock import NS_PER_SECOND, Clock, seconds_to_ns

if TYPE_CHECKING:
    import asyncio
    import threading

__all__ = ["ManualClock"]

# Turns of the event loop without news on this clock, after which all others are taken to be waiting.
_QUIET_TURNS = 10
_START_OF_2026_NS = 1_767_225_600 * NS_PER_SECOND


class ManualClock(Clock):
    """A clock that stands still until it is moved; sleeping on it moves it.

    >>> clock = ManualClock()
    >>> clock.advance(1.5)
    >>> clock.now_ns()
    1500000000

    Args:
        start_ns: where it starts, in nanoseconds since its origin.
        wall_offset_ns: where its origin lies on the wall; 2026-01-01T00:00:00Z unless told.
    """

    def __init__(self, start_ns: int = 0, wall_offset_ns: int = _START_OF_2026_NS) -> None:
        self._now = start_ns
        self._alarms: list[int] = []
        self._changes = 0
        super().__init__(self._read, wall_offset_ns)

    def advance(self, seconds: float) -> None:
        """Move forward (or back, if negative) by so many seconds."""
        self._now += seconds_to_ns(seconds)

    def advance_ns(self, nanoseconds: int) -> None:
        """Move forward (or back, if negative) by so many nanoseconds."""
        self._now += nanoseconds

    def set_ns(self, nanoseconds: int) -> None:
        """Jump to a moment."""
        self._now = nanoseconds

    def sleep(self, seconds: float) -> None:
        """Return at once, that much later."""
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Return that much later. When several tasks wait, time moves to the nearest moment first."""
        await self._until(self._now + seconds_to_ns(seconds), None)

    def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
        """Return at once if the signal is there; else at once too, that much later."""
        if seconds is None:
            signal.wait()
        elif not signal.is_set():
            self.advance(seconds)

    async def wait_for_async(self, signal: asyncio.Event, seconds: float | None) -> None:
        """Return at the signal, or that much later if it does not come before."""
        if seconds is None:
            await signal.wait()
        else:
            await self._until(self._now + seconds_to_ns(seconds), signal)

    async def _until(self, moment: int, signal: asyncio.Event | None) -> None:
        import asyncio  # noqa: PLC0415 - see Clock.sleep_async

        self._alarms.append(moment)
        self._changes += 1
        seen = quiet = 0
        try:
            while True:
                await asyncio.sleep(0)
                if self._now >= moment or (signal is not None and signal.is_set()):
                    return
                quiet = quiet + 1 if seen == self._changes else 0
                seen = self._changes
                if quiet >= _QUIET_TURNS and moment <= min(self._alarms):
                    self._now = moment
                    return
        finally:
            self._alarms.remove(moment)
            self._changes += 1

    def _read(self) -> int:
        return self._now
