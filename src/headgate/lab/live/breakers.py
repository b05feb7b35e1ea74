"""Callers in several processes behind one circuit, on a private Redis or Valkey: experiment 8, live.

A worker is a program of its own: ``python -m headgate.lab.live.breakers KIND URL CALLERS``. It reads commands
line by line: ``trip`` opens the circuit, ``go MOMENT`` has all its callers call at that moment (nanoseconds
on the wall), and answers each with one line: the number of calls that were admitted before the first of
them ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from headgate.clock import NS_PER_MS, NS_PER_SECOND, SystemClock
from headgate.errors import Unreachable
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.lab.live.store import stop_process, store_server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["KINDS", "Worker", "available", "store_server", "workers"]

_OPEN_S: Final = 0.5
_CALL_S: Final = 0.2
_AHEAD_NS: Final = 50 * NS_PER_MS
_CLOCK: Final = SystemClock()

# kind -> the package that it needs
KINDS: Final = {
    "threads": "headgate",
    "tasks": "headgate",
    "alone": "headgate",
    "pybreaker": "pybreaker",
    "purgatory": "purgatory",
}


class Caller(Protocol):
    """What a worker does, by kind: opens its circuit, or has callers call through it."""

    def trip(self) -> None:
        """Open the circuit."""

    def burst(self, callers: int, moment: int) -> int:
        """The calls that were admitted before the first ended."""


def available(kind: str) -> bool:
    """Whether what it needs is installed."""
    return importlib.util.find_spec(KINDS[kind]) is not None


@final
class Tally:
    """Counts who got in before the first got out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = False
        self.admitted = 0

    def enter(self) -> None:
        """One is in."""
        with self._lock:
            self.admitted += not self._ended

    def end(self) -> None:
        """One is out."""
        self._ended = True


def _wait_until(moment: int) -> None:
    _CLOCK.sleep(max(0.0, (moment - _CLOCK.wall_ns()) / NS_PER_SECOND))


def _by_threads(call: Callable[[Callable[[], None]], object], callers: int, moment: int) -> int:
    tally = Tally()

    def work() -> None:
        tally.enter()
        _CLOCK.sleep(_CALL_S)
        tally.end()

    def run() -> None:
        _wait_until(moment)
        with contextlib.suppress(Exception):  # a refusal, of whatever library
            call(work)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally.admitted


async def _by_tasks(call: Any, callers: int, moment: int) -> int:
    tally = Tally()

    async def work() -> None:
        tally.enter()
        await _CLOCK.sleep_async(_CALL_S)
        tally.end()

    async def run() -> None:
        with contextlib.suppress(Exception):  # a refusal, of whatever library
            await call(work)

    await _CLOCK.sleep_async(max(0.0, (moment - _CLOCK.wall_ns()) / NS_PER_SECOND))
    await asyncio.gather(*(run() for _ in range(callers)))
    return tally.admitted


@final
class Ours:
    """Headgate: by threads or by tasks, shared or each process alone."""

    def __init__(self, kind: str, url: str) -> None:
        self._kind = kind
        self._breaker = CircuitBreaker(
            "lab",
            failure_threshold=5,
            recovery_timeout=_OPEN_S,
            jitter=0.0,
            shared=None if kind == "alone" else url,
            shared_timeout=1.0,
        )
        self._runner = asyncio.Runner()

    def trip(self) -> None:
        self._breaker.open()

    def burst(self, callers: int, moment: int) -> int:
        breaker = self._breaker
        if self._kind != "tasks":

            def call(work: Callable[[], None]) -> None:
                with breaker:
                    work()

            return _by_threads(call, callers, moment)

        async def call_async(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            async with breaker:
                await work()

        return self._runner.run(_by_tasks(call_async, callers, moment))


@final
class Pybreaker:
    """pybreaker with its own store on Redis; by threads, which it does not keep in line in ``calling``."""

    def __init__(self, url: str) -> None:
        import pybreaker
        from redis import Redis

        store = pybreaker.CircuitRedisStorage("closed", Redis.from_url(url), namespace="lab")
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=5, reset_timeout=_OPEN_S, state_storage=store
        )

    def trip(self) -> None:
        self._breaker.open()

    def burst(self, callers: int, moment: int) -> int:
        def call(work: Callable[[], None]) -> None:
            with self._breaker.calling():
                work()

        return _by_threads(call, callers, moment)


@final
class Purgatory:
    """purgatory with its own store on Redis; by tasks."""

    def __init__(self, url: str) -> None:
        import purgatory

        self._factory = purgatory.AsyncCircuitBreakerFactory(
            default_threshold=5, default_ttl=_OPEN_S, uow=purgatory.AsyncRedisUnitOfWork(url)
        )
        self._runner = asyncio.Runner()
        self._runner.run(self._factory.initialize())

    def trip(self) -> None:
        async def fail() -> None:
            for _ in range(5):
                with contextlib.suppress(Exception):  # its own, or open already
                    async with await self._factory.get_breaker("lab"):
                        raise OSError

        self._runner.run(fail())

    def burst(self, callers: int, moment: int) -> int:
        async def call(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            async with await self._factory.get_breaker("lab"):
                await work()

        return self._runner.run(_by_tasks(call, callers, moment))


def _caller(kind: str, url: str) -> Caller:
    if kind == "pybreaker":
        return Pybreaker(url)
    return Purgatory(url) if kind == "purgatory" else Ours(kind, url)


def main(kind: str, url: str, callers: int) -> None:
    """A worker's life."""
    caller = _caller(kind, url)
    for line in sys.stdin:
        command, _, moment = line.strip().partition(" ")
        if command == "trip":
            caller.trip()
            found = 0
        else:
            found = caller.burst(callers, int(moment))
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()


# --- from the other side -----------------------------------------------------------------------------


@final
class Worker:
    """A process full of callers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None  # noqa: S101 - as it was started
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def answer(self) -> int:
        """Wait for the answer.

        Raises:
            Unreachable: it has died.
        """
        assert self._process.stdout is not None  # noqa: S101 - as it was started
        line = self._process.stdout.readline()
        if not line:
            raise Unreachable("a worker of the live rig ended; see what it said above")
        return int(line)


@contextlib.contextmanager
def workers(kinds: list[str], url: str, callers: int) -> Iterator[list[Worker]]:
    """Processes with so many callers each, for the block's duration."""
    command = [sys.executable, "-W", "ignore", "-m", "headgate.lab.live.breakers"]
    processes = [
        subprocess.Popen(  # noqa: S603 - our own interpreter, and our own module
            [*command, kind, url, str(callers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    try:
        yield [Worker(process) for process in processes]
    finally:
        for process in processes:
            stop_process(process)


def burst(crew: list[Worker]) -> int:
    """Open the circuit, wait until it is half-open, and have all call at one moment; who got in."""
    for worker in crew:  # a process that shares nothing has a circuit of its own
        worker.tell("trip")
        worker.answer()
    _CLOCK.sleep(1.5 * _OPEN_S)
    moment = _CLOCK.wall_ns() + _AHEAD_NS
    for worker in crew:
        worker.tell(f"go {moment}")
    return sum(worker.answer() for worker in crew)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
