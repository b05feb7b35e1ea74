"""Who takes the samples of a load monitor while it is entered: a task, or a thread.

Both sleep for a fifth of the interval, again and again, and note how late they woke.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol, final

from headgate.clock import NS_PER_SECOND, seconds_to_ns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.timer_lag import TimerLag

__all__ = ["Pace", "Runner", "TaskRunner", "ThreadRunner"]

_PROBES: Final = 5
_LONGEST_PROBE: Final = 0.1


class Runner(Protocol):
    """One that takes samples."""

    def is_alive(self) -> bool:
        """Whether it will take more; not in a forked child, nor after its event loop was closed."""


@final
class Pace:
    """When to wake next, and what to do then.

    Args:
        clock: sleeps and says how late it got.
        lag: is told.
        interval: seconds between samples.
        sample: takes one; must not raise.
    """

    def __init__(
        self, clock: Clock, lag: TimerLag, interval: float, sample: Callable[[], object]
    ) -> None:
        self.clock = clock
        self.probe = min(interval / _PROBES, _LONGEST_PROBE)
        self._probe_ns = seconds_to_ns(self.probe)
        self._interval_ns = round(interval * NS_PER_SECOND)
        self._lag = lag
        self._sample = sample
        self._sampled_ns = 0

    def begin(self) -> None:
        """Take the first sample."""
        self._sampled_ns = self.clock.now_ns()
        self._sample()

    def before(self) -> None:
        """About to sleep."""
        self._lag.arm(self.clock.now_ns() + self._probe_ns)

    def after(self) -> None:
        """Awake; takes a sample when one is due."""
        now = self.clock.now_ns()
        self._lag.fired(now)
        if not 0 <= now - self._sampled_ns < self._interval_ns:
            self._sampled_ns = now
            self._sample()

    def end(self) -> None:
        """There will be no more."""
        self._lag.disarm()


@final
class TaskRunner:
    """A task of the running event loop."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Only inside an event loop."""
        import asyncio  # noqa: PLC0415 - the caller runs in a loop: it is loaded already

        self._pace.begin()
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="headgate-load-monitor")

    async def stop(self) -> None:
        """End, and wait for that."""
        import asyncio  # noqa: PLC0415 - likewise

        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def is_alive(self) -> bool:
        task = self._task
        return task is not None and not task.done() and not task.get_loop().is_closed()

    async def _run(self) -> None:
        pace = self._pace
        try:
            while True:
                pace.before()
                await pace.clock.sleep_async(pace.probe)
                pace.after()
        finally:
            pace.end()


@final
class ThreadRunner:
    """A thread, which does not keep the program from ending."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headgate-load-monitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._pace.begin()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for that unless a listener asks for it, in this very thread."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        pace = self._pace
        try:
            while not self._stop.is_set():
                pace.before()
                pace.clock.wait_for(self._stop, pace.probe)
                if not self._stop.is_set():
                    pace.after()
        finally:
            pace.end()
