"""The load of this process as one number, for whatever has to hold back when it rises."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final, final
from weakref import WeakSet

from headgate.backpressure.pressure import PressureMeter, Signals, raw_pressure
from headgate.clock import NS_PER_SECOND, SystemClock, seconds_to_ns
from headgate.errors import InvalidInput
from headgate.gates.load_report import Limits, LoadReport, Resources
from headgate.gates.load_runners import Pace, Runner, TaskRunner, ThreadRunner
from headgate.gates.names import is_number
from headgate.gates.readings import Reading, SystemReadings
from headgate.gates.timer_lag import TimerLag

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.clock import Clock
    from headgate.gates.readings import Readings

__all__ = ["LoadMonitor"]

_log = logging.getLogger("headgate.load")

_LEAST_INTERVAL: Final = 0.001
_MOST_INTERVAL: Final = 3_600.0
_STALE_INTERVALS: Final = 10
_HUGE: Final = 1e15


# All there are, for the sake of forked children.
_monitors: WeakSet[LoadMonitor] = WeakSet()


@final
class LoadMonitor:
    """Watches the event loop, queues, processor, memory, network and requests in flight.

    >>> monitor = LoadMonitor(max_memory_mb=8192)
    >>> 0.0 <= monitor.pressure() <= 2.0
    True

    `pressure` is 0 when idle and 1 at the limit; `headgate.backpressure.pressure` has the formula. Give it
    to whatever adapts: a shedder, features, an adaptive rate.

    As ``async with monitor:`` a task takes the samples and measures how late the event loop is, which in
    asyncio programs is the first signal to rise. As ``with monitor:`` a thread does, and measures how late
    it gets its turn. Without either, whoever asks takes the sample when one is due: no timer's lag is known
    then, and nothing runs in the background.

    Thread-safe. A reading that fails is logged once and counts as not known.

    Args:
        interval: seconds between samples, 0.001 to 3600.
        max_memory_mb: resident memory of this process, in MB of 1048576 bytes.
        max_cpu_percent: processor time of this process; 100 is one processor.
        max_network_mbps: Mbit/s sent or received by this machine, whichever is more. It has a threshold
            and takes no part in the pressure.
        max_in_flight: requests in flight, for `observe_in_flight` without a limit.
        readings: where the figures come from; this machine and container when left out.
        clock: gives the time; the system's when left out.

    Raises:
        InvalidInput: a limit or the interval makes no sense.
        ConfigurationError: ``readings`` is left out and psutil is not installed.
    """

    def __init__(
        self,
        *,
        interval: float = 0.1,
        max_memory_mb: float | None = None,
        max_cpu_percent: float | None = None,
        max_network_mbps: float | None = None,
        max_in_flight: float | None = None,
        readings: Readings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.interval = _valid_interval(interval)
        self._limits = Limits(
            _valid_limit("max_memory_mb", max_memory_mb),
            _valid_limit("max_cpu_percent", max_cpu_percent),
            _valid_limit("max_network_mbps", max_network_mbps),
            _valid_limit("max_in_flight", max_in_flight),
        )
        self.clock: Clock = SystemClock() if clock is None else clock
        self._readings: Readings = SystemReadings() if readings is None else readings
        self._interval_ns = seconds_to_ns(self.interval)
        self._meter = PressureMeter()
        self._resources = Resources(self._limits)
        self._lag = TimerLag()
        self._delays = 0.0
        self._delayed = 0
        self._in_flight: tuple[float, float | None] = (0.0, self._limits.in_flight)
        self._report: LoadReport | None = None
        self._listeners: list[Callable[[LoadReport], object]] = []
        self._failed = False
        # Reentrant, for a signal handler that asks in the middle of a sample.
        self._lock = threading.RLock()
        self._runner: Runner | None = None
        _monitors.add(self)

    def pressure(self) -> float:
        """The smoothed pressure: 0 idle, 1 at the limit, at most 2."""
        self._sample_if_due()
        return self._meter.value

    @property
    def overloaded(self) -> bool:
        """On when the pressure reaches 1, until it is below 0.7."""
        self._sample_if_due()
        return self._meter.overloaded

    def report(self) -> LoadReport:
        """The latest sample; a new one if it is due."""
        self._sample_if_due()
        report = self._report
        return self.sample() if report is None else report

    def sample(self) -> LoadReport:
        """Read everything now. Also tells the listeners."""
        with self._lock:
            report = self._sample()
        self._tell(report)
        return report

    def observe_queue_delay(self, seconds: float) -> None:
        """Tell how long some work waited before it was begun; a sample takes the mean since the last one.

        A queue that stands still begins nothing: tell of its oldest entry's age, too.

        Raises:
            InvalidInput: the delay is negative or no finite number.
        """
        if not is_number(seconds) or not 0.0 <= seconds < _HUGE:  # which NaN is not either
            raise InvalidInput(f"a queue delay must be >= 0 seconds, got {seconds!r:.100}")
        with self._lock:
            self._delays += seconds
            self._delayed += 1

    def observe_in_flight(self, count: float, limit: float | None = None) -> None:
        """Tell how many requests are in flight now; it holds until told otherwise.

        Args:
            count: requests, >= 0.
            limit: how many may be, > 0; ``max_in_flight`` when left out. Without either, no ratio is known.

        Raises:
            InvalidInput: either is out of bounds, or no finite number.
        """
        if not is_number(count) or not 0.0 <= count < _HUGE:
            raise InvalidInput(f"requests in flight must be >= 0, got {count!r:.100}")
        most = self._limits.in_flight if limit is None else _valid_limit("limit", limit)
        self._in_flight = (float(count), most)

    def subscribe(self, listener: Callable[[LoadReport], object]) -> Callable[[], None]:
        """Call back after every sample, in the thread or task that took it.

        A listener that raises is logged and removed.

        Returns:
            What ends the subscription.
        """
        if not callable(listener):
            raise InvalidInput(f"a listener must be callable, got {type(listener).__name__}")
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._unsubscribe(listener)

    async def __aenter__(self) -> LoadMonitor:
        runner = TaskRunner(self._pace())
        self._occupy(runner)
        runner.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if isinstance(runner, TaskRunner):
            await runner.stop()

    def __enter__(self) -> LoadMonitor:
        runner = ThreadRunner(self._pace())
        self._occupy(runner)
        runner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if isinstance(runner, ThreadRunner):
            runner.stop()

    def forget_threads(self) -> None:
        """In a forked child: the thread that held a lock, or took the samples, is not there."""
        self._lock = threading.RLock()
        self._lag = TimerLag()
        self._runner = None

    def _pace(self) -> Pace:
        return Pace(self.clock, self._lag, self.interval, self.sample)

    def _occupy(self, runner: Runner) -> None:
        with self._lock:
            if self._runner is not None and self._runner.is_alive():
                raise InvalidInput(
                    "this load monitor runs already; enter it once, where the program starts"
                )
            self._runner = runner

    def _unsubscribe(self, listener: Callable[[LoadReport], object]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _tell(self, report: LoadReport) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(report)
            except Exception:  # noqa: BLE001 - an observer cannot break the monitor
                _log.exception("a listener of the load monitor failed, and is removed")
                self._unsubscribe(listener)

    def _sample_if_due(self) -> None:
        """Take the sample that nobody else takes.

        While a task or thread runs it is theirs, unless they have not been heard of for long, because the
        event loop hangs.
        """
        report = self._report
        if report is not None:
            runner = self._runner
            patience = 1 if runner is None or not runner.is_alive() else _STALE_INTERVALS
            if 0 <= self.clock.now_ns() - report.at_ns < self._interval_ns * patience:
                return
        # One thread takes it; the others use what is there already.
        lock = self._lock
        if not lock.acquire(blocking=report is None):
            return
        try:
            if self._report is not report:
                return  # somebody else took it meanwhile
            taken = self._sample()
        finally:
            lock.release()
        self._tell(taken)

    def _sample(self) -> LoadReport:
        now = self.clock.now_ns()
        reading = self._read(now)
        count, most = self._in_flight
        delays, delayed = self._delays, self._delayed
        self._delays, self._delayed = 0.0, 0
        signals = Signals(
            loop_lag_ns=self._lag.take(now),
            queue_delay_ns=delays / delayed * NS_PER_SECOND if delayed else None,
            cpu=self._resources.cpu_share(reading),
            psi_some=reading.psi_some,
            memory=self._resources.memory_share(reading),
            in_flight=None if most is None else count / most,
        )
        raw, cause = raw_pressure(signals)
        pressure = self._meter.update(raw, now)
        self._resources.update(reading, signals, (count, most))
        self._report = LoadReport(
            now, pressure, raw, cause, self._meter.overloaded, self._resources.report()
        )
        return self._report

    def _read(self, now: int) -> Reading:
        try:
            reading = self._readings.read(now)
            if isinstance(reading, Reading):
                return reading
            raise TypeError(f"readings gave a {type(reading).__name__}, not a Reading")  # noqa: TRY301 - logged
        except Exception:  # noqa: BLE001 - whatever a platform fails with, work has to go on
            if not self._failed:
                self._failed = True
                _log.exception("reading the load failed; what it would have told is not known")
            return Reading()


def _valid_interval(seconds: float) -> float:
    if not is_number(seconds) or not _LEAST_INTERVAL <= seconds <= _MOST_INTERVAL:  # nor is NaN
        raise InvalidInput(
            f"interval must be {_LEAST_INTERVAL:g} to {_MOST_INTERVAL:g} seconds, got {seconds!r:.100}"
        )
    return float(seconds)


def _valid_limit(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0.0 < value < _HUGE:
        raise InvalidInput(
            f"{name} must be a number above 0, got {value!r:.100}; leave it out for no limit of your own"
        )
    return float(value)


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor.forget_threads()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
