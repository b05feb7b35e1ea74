"""Whom breakers let through when they are half-open and everybody is there: a part of `benchmarks.gates`.

One failure opens each breaker, and when its time is over so many callers call at one moment. What is
counted is who gets in before the first one is out again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALLERS = 200
OPEN_SECONDS = 0.2
CALL_SECONDS = 0.1


def there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class Inside:
    """Counts who got in before the first got out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended = False
        self.first = 0
        self.all = 0

    def enter(self) -> None:
        with self.lock:
            self.all += 1
            self.first += not self.ended


def by_threads(call: Callable[[Callable[[], None]], object]) -> Inside:
    inside = Inside()
    gate = threading.Barrier(CALLERS)

    def work() -> None:
        inside.enter()
        time.sleep(CALL_SECONDS)
        inside.ended = True

    def run() -> None:
        gate.wait()
        with suppress(Exception):  # a refusal, of whatever library
            call(work)

    threads = [threading.Thread(target=run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return inside


async def by_tasks(call: Callable[[Any], Awaitable[object]]) -> Inside:
    inside = Inside()

    async def work() -> None:
        inside.enter()
        await asyncio.sleep(CALL_SECONDS)
        inside.ended = True

    async def run() -> None:
        with suppress(Exception):  # a refusal, of whatever library
            await call(work)

    await asyncio.gather(*(run() for _ in range(CALLERS)))
    return inside


def fail() -> None:
    raise OSError


async def fail_async() -> None:
    raise OSError


def tripped(call: Callable[[Callable[[], None]], object]) -> Inside:
    """One failure opens it; when it is half-open, all come."""
    with suppress(Exception):  # its own, or that it opens
        call(fail)
    time.sleep(OPEN_SECONDS * 1.5)
    return by_threads(call)


async def tripped_async(call: Callable[[Any], Awaitable[object]]) -> Inside:
    with suppress(Exception):  # its own, or that it opens
        await call(fail_async)
    await asyncio.sleep(OPEN_SECONDS * 1.5)
    return await by_tasks(call)


def half_open_threads() -> dict[str, Callable[[Callable[[], None]], object]]:
    from headgate import CircuitBreaker

    ours = CircuitBreaker("bench", failure_threshold=1, recovery_timeout=OPEN_SECONDS)

    def by_block(work: Callable[[], None]) -> None:
        with ours:
            work()

    found: dict[str, Callable[[Callable[[], None]], object]] = {"headgate": by_block}
    if there("pybreaker"):
        import pybreaker

        theirs = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=OPEN_SECONDS)

        def calling(work: Callable[[], None]) -> None:
            with theirs.calling():
                work()

        queued = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=OPEN_SECONDS)
        found["pybreaker, with calling()"] = calling
        found["pybreaker, call()"] = queued.call
    if there("circuitbreaker"):
        import circuitbreaker

        # It takes whole seconds, and rounds up.
        found["circuitbreaker"] = circuitbreaker.CircuitBreaker(1, 0.01, name="half-open").call
    if there("purgatory"):
        import purgatory

        factory = purgatory.SyncCircuitBreakerFactory(1, OPEN_SECONDS)

        def by_factory(work: Callable[[], None]) -> None:
            with factory.get_breaker("half-open"):
                work()

        found["purgatory"] = by_factory
    return found


def half_open_tasks() -> dict[str, Callable[[Any], Awaitable[object]]]:
    from headgate import CircuitBreaker

    ours = CircuitBreaker("bench", failure_threshold=1, recovery_timeout=OPEN_SECONDS)

    async def by_block(work: Any) -> None:
        async with ours:
            await work()

    found: dict[str, Callable[[Any], Awaitable[object]]] = {"headgate": by_block}
    if there("aiobreaker"):
        import aiobreaker

        wait = timedelta(seconds=OPEN_SECONDS)
        found["aiobreaker"] = aiobreaker.CircuitBreaker(1, wait).call_async
    if there("circuitbreaker"):
        import circuitbreaker

        theirs = circuitbreaker.CircuitBreaker(1, 0.01, name="half-open tasks")
        found["circuitbreaker"] = theirs.call_async
    if there("purgatory"):
        import purgatory

        factory = purgatory.AsyncCircuitBreakerFactory(1, OPEN_SECONDS)

        async def by_factory(work: Any) -> None:
            async with await factory.get_breaker("half-open"):
                await work()

        found["purgatory"] = by_factory
    return found
