"""What a gate adds to a call, beside other libraries; and whom a half-open breaker lets through.

    python -m benchmarks.gates [--quick]

Each contender protects a function that does nothing; what the bare function takes is taken off. All are
asked in turns, in one process, and all are calm: nothing fails, nothing is shed, nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from itertools import repeat
from typing import TYPE_CHECKING

from benchmarks.half_open import (
    CALL_SECONDS,
    CALLERS,
    Inside,
    half_open_tasks,
    half_open_threads,
    there,
    tripped,
    tripped_async,
)
from benchmarks.harness import Report, Series, arguments, is_compiled, progress, timed, versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Run = Callable[[int], object]

PROBES = 3
PACKAGES = ("pybreaker", "purgatory", "aiobreaker", "circuitbreaker", "aiolimiter")


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


def each(call: Callable[[], object]) -> Run:
    """The loop that all are measured in."""

    def run(operations: int) -> None:
        for _ in repeat(None, operations):
            call()

    return run


def each_async(call: Callable[[], Awaitable[object]]) -> Run:
    loop = asyncio.new_event_loop()

    async def all_of(operations: int) -> None:
        for _ in repeat(None, operations):
            await call()

    def run(operations: int) -> None:
        loop.run_until_complete(all_of(operations))

    return run


# Ours --------------------------------------------------------------------------------------------


def breakers() -> dict[str, Run]:
    from headgate import CircuitBreaker

    breaker = CircuitBreaker("bench")
    timed_too = CircuitBreaker("bench", slow_call=1.0)
    in_row = CircuitBreaker("bench", failure_threshold=5)

    def bare() -> None:
        permit = breaker.allow()
        nothing()
        breaker.record(permit)

    def guarded() -> None:
        with breaker.guard():
            nothing()

    def block() -> None:
        with breaker:
            nothing()

    return {
        "headgate, decorated": each(breaker(nothing)),
        "headgate, decorated, slow calls too": each(timed_too(nothing)),
        "headgate, decorated, failures in a row": each(in_row(nothing)),
        "headgate, allow and record": each(bare),
        "headgate, with breaker.guard()": each(guarded),
        "headgate, with breaker": each(block),
    }


def breakers_async() -> dict[str, Run]:
    from headgate import CircuitBreaker

    breaker = CircuitBreaker("bench")

    async def guarded() -> None:
        async with breaker.guard():
            await nothing_async()

    return {
        "headgate, decorated coroutine": each_async(breaker(nothing_async)),
        "headgate, async with breaker.guard()": each_async(guarded),
    }


def other_gates() -> dict[str, Run]:
    from headgate import AdaptiveLimiter, LoadShedder, LoopBudget

    shedder = LoadShedder("tiered", queue=[].__len__)
    budget = LoopBudget(10**9)
    limiter = AdaptiveLimiter(initial=100)

    def acquire_and_release() -> None:
        limiter.acquire_nowait().succeeded()

    return {
        "shedder, allow": each(shedder.allow),
        "loop budget, can_proceed": each(budget.can_proceed),
        "loop budget, consume": each(budget.consume),
        "adaptive limit, acquire and release": each(acquire_and_release),
    }


# Theirs ------------------------------------------------------------------------------------------


def their_breakers() -> dict[str, Run]:
    found: dict[str, Run] = {}
    if there("pybreaker"):
        import pybreaker

        found["pybreaker"] = each(pybreaker.CircuitBreaker()(nothing))
    if there("circuitbreaker"):
        import circuitbreaker

        found["circuitbreaker"] = each(circuitbreaker.CircuitBreaker(name="bench")(nothing))
    if there("aiobreaker"):
        import aiobreaker

        found["aiobreaker"] = each(aiobreaker.CircuitBreaker()(nothing))
    if there("purgatory"):
        import purgatory

        factory = purgatory.SyncCircuitBreakerFactory()

        def guarded() -> None:
            with factory.get_breaker("bench"):
                nothing()

        found["purgatory"] = each(guarded)
    return found


def their_async() -> dict[str, Run]:
    found: dict[str, Run] = {}
    if there("aiobreaker"):
        import aiobreaker

        found["aiobreaker, coroutine"] = each_async(aiobreaker.CircuitBreaker()(nothing_async))
    if there("circuitbreaker"):
        import circuitbreaker

        breaker = circuitbreaker.CircuitBreaker(name="bench async")
        found["circuitbreaker, coroutine"] = each_async(breaker(nothing_async))
    if there("purgatory"):
        import purgatory

        factory = purgatory.AsyncCircuitBreakerFactory()

        async def guarded() -> None:
            async with await factory.get_breaker("bench"):
                await nothing_async()

        found["purgatory, async with"] = each_async(guarded)
    return found


def their_limiters() -> dict[str, Run]:
    if not there("aiolimiter"):
        return {}

    async def acquire() -> None:
        # One belongs to the event loop that it is first used in.
        nonlocal limiter
        limiter = limiter or AsyncLimiter(10**9, 86_400)
        async with limiter:
            pass

    from aiolimiter import AsyncLimiter

    limiter: AsyncLimiter | None = None
    return {"aiolimiter, async with": each_async(acquire)}


# The report --------------------------------------------------------------------------------------

# contender -> (what is promised, the most nanoseconds)
PROMISED = {
    "headgate, decorated": ("breaker, per decorated call", 500.0),
    "headgate, decorated, slow calls too": ("breaker, timing calls, per decorated call", 500.0),
    "headgate, allow and record": ("breaker, allow and record", 500.0),
    "headgate, with breaker.guard()": ("breaker, per block of guard()", 500.0),
    "headgate, with breaker": ("breaker, per block of the breaker itself", 500.0),
    "shedder, allow": ("shedder, per question", 200.0),
    "loop budget, can_proceed": ("loop budget, per check", 100.0),
    "adaptive limit, acquire and release": ("adaptive concurrency, acquire and release", 1000.0),
}


def measure(runs: dict[str, Run], rounds: int, operations: int) -> dict[str, Series]:
    """All in turns."""
    found = {label: Series() for label in runs}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for label, run in runs.items():
            run(100)  # fills the caches
            found[label].add(timed(lambda run=run: run(operations), operations))
    return found


def overhead(report: Report, rounds: int, operations: int) -> None:
    groups = {
        "breakers": (each(nothing), breakers() | their_breakers()),
        "breakers, coroutines": (each_async(nothing_async), breakers_async() | their_async()),
        "other gates": (each(nothing), other_gates()),
        "for comparison": (each_async(nothing_async), their_limiters()),
    }
    floors = {f"(nothing, {group})": floor for group, (floor, _) in groups.items()}
    runs = {label: run for _, one in groups.values() for label, run in one.items()}
    found = measure(runs | floors, rounds, operations)
    table = report.table(
        "CPU per protected call beyond the call itself, ns", "gate", "median", "min", "times ours"
    )
    for group, (_, members) in groups.items():
        floor = found[f"(nothing, {group})"]
        first = 0.0
        for label in members:
            median = found[label].cpu_median - floor.cpu_median
            first = first or median
            ratio = f"{median / first:.1f}" if group.startswith("breakers") else "-"
            table.add(label, median, found[label].cpu_min - floor.cpu_min, ratio)
            report.data[label] = median
            if label in PROMISED:
                figure, most = PROMISED[label]
                if is_compiled():
                    report.at_most(figure, median, most, "ns")
                else:
                    report.unavailable(figure, f"<= {most:g} ns", "this build is not compiled")


def half_open(report: Report) -> None:
    table = report.table(
        f"{CALLERS} callers at one moment at a half-open breaker, which each call for "
        f"{CALL_SECONDS * 1e3:.0f} ms",
        "breaker",
        "got in before the first was out",
        "got in",
        "seconds for all",
    )
    worst = 0

    def note(label: str, inside: Inside, began: float) -> None:
        nonlocal worst
        table.add(label, inside.first, inside.all, time.perf_counter() - began)
        report.data[f"half-open, {label}"] = inside.first
        if label.startswith("headgate"):
            worst = max(worst, inside.first)

    for label, call in half_open_threads().items():
        progress(f"half-open, threads: {label}")
        began = time.perf_counter()
        note(f"{label}, threads", tripped(call), began)
    for label, call_async in half_open_tasks().items():
        progress(f"half-open, tasks: {label}")
        began = time.perf_counter()
        note(f"{label}, tasks", asyncio.run(tripped_async(call_async)), began)
    report.at_most(
        f"probes of {CALLERS} callers at half-open", worst, PROBES, "calls", "the others: see there"
    )


def main() -> None:
    options = arguments(__doc__)
    report = Report("gates", "Gates: what they add to a call", quick=options.quick)
    overhead(report, *((3, 5_000) if options.quick else (15, 50_000)))
    half_open(report)
    found = ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items())
    report.note(f"Beside: {found}.")
    report.note(
        "pybreaker's call() holds a lock while the protected code runs, so its callers queue up."
    )
    report.finish()


if __name__ == "__main__":
    main()
