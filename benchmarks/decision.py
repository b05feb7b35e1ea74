"""One decision inside the program, beside other limiters: time on a hot key, 10k and 1M keys; memory.

Every limiter runs in a process of its own, so that neither memory nor background threads mix. The
processes take turns, round after round, so that noise falls on all alike. CPU time is that of the whole
process, background threads included.

Bytes per key: what the process's resident memory grows by, while the key strings exist before and are
held by the caller throughout. The allocator is told to give back what it can (malloc_trim) before both
readings. That counts what a user pays, allocator slack and over-allocated tables included.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.contenders import CONTENDERS, traffic
from benchmarks.harness import (
    COMPILED,
    PLAIN,
    ROOT,
    Report,
    Sample,
    Series,
    arguments,
    is_compiled,
    progress,
    resident_bytes,
    timed,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MILLION = 1_000_000
ROUND_NS = 250_000_000
OURS = "headgate, compiled"
FLOORS = ("(an empty function)", "(an empty loop)")


# In the worker -----------------------------------------------------------------------------------


def give_back() -> None:
    """Collect garbage and return free memory to the system, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def quiet_down(seconds: float = 30.0) -> None:
    """Wait for a library's background threads, so that they do not run into the next one's round."""
    deadline = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


def make_keys(count: int) -> list[str]:
    """Distinct keys, visited in an order that no cache can foresee."""
    keys = [f"user:{number:07d}" for number in range(count)]
    random.Random(1).shuffle(keys)
    return keys


def worst_call(run: Callable[[Iterable[str]], object], keys: list[str]) -> int:
    """The longest single check, in wall nanoseconds, as the iterator that feeds the loop sees it."""
    worst = 0

    def watched() -> Iterable[str]:
        nonlocal worst
        before = time.perf_counter_ns()
        for key in keys:
            yield key
            now = time.perf_counter_ns()
            worst = max(worst, now - before)
            before = now

    run(watched())
    return worst


class Worker:
    """One limiter, told what to do line by line."""

    def __init__(self, label: str) -> None:
        self.make = CONTENDERS[label][2]
        self.keys: list[str] = []
        self.run = self.make(1)

    def fill(self, count: int) -> dict[str, float]:
        """A new limiter that has seen so many keys; what that took."""
        del self.run
        self.keys = make_keys(count)
        self.run = self.make(count)
        self.run(["warm"])
        give_back()
        before = resident_bytes()
        sample = timed(lambda: self.run(self.keys), count)
        quiet_down()
        give_back()
        grown = resident_bytes() - before
        return {"cpu_ns": sample.cpu_ns, "wall_ns": sample.wall_ns, "bytes": grown / count}

    def check(self, operations: int) -> dict[str, float]:
        requests = traffic(self.keys, operations)
        sample = timed(lambda: self.run(requests), operations)
        quiet_down()
        return {"cpu_ns": sample.cpu_ns, "wall_ns": sample.wall_ns}

    def worst(self, operations: int) -> dict[str, float]:
        worst = worst_call(self.run, self.keys[:operations])
        quiet_down()
        return {"worst_ns": worst}


def serve_worker(label: str) -> None:
    worker = Worker(label)
    for line in sys.stdin:
        task, number = json.loads(line)
        print(json.dumps(getattr(worker, task)(number)), flush=True)


# In the parent -----------------------------------------------------------------------------------


class Contender:
    """A worker process, and what it measured."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.series: dict[str, Series] = {}
        self.bytes_per_key = float("nan")
        self.worst_ns = float("nan")
        tree = {"compiled": COMPILED, "plain": PLAIN}.get(CONTENDERS[label][0], PLAIN)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decision", "--worker", label],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, task: str, number: int) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([task, number]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label} ended with {self.process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def measure(self, stage: str, operations: int) -> None:
        answer = self.ask("check", operations)
        sample = Sample(answer["cpu_ns"], answer["wall_ns"])
        self.series.setdefault(stage, Series()).add(sample)

    def fill(self, count: int) -> dict[str, float]:
        return self.ask("fill", count)

    def close(self) -> None:
        self.process.communicate(timeout=60)


def available(labels: Iterable[str]) -> list[str]:
    import importlib.util

    def is_there(label: str) -> bool:
        build, module, _ = CONTENDERS[label]
        if build == "compiled" and not is_compiled():
            return False
        return build != "" or not module or importlib.util.find_spec(module) is not None

    return [label for label in labels if is_there(label)]


def measure_stage(
    contenders: list[Contender], stage: str, keys: int, rounds: int, round_ns: int
) -> None:
    """The same keys for all, in turns; about the same time for each."""
    operations = {}
    for contender in contenders:
        contender.fill(keys)
        probe = contender.ask("check", 2_000)["cpu_ns"]
        operations[contender.label] = max(2_000, int(round_ns / max(probe, 10.0)))
    for number in range(rounds):
        progress(f"{stage}: round {number + 1} of {rounds}")
        for contender in contenders:
            contender.measure(stage, operations[contender.label])


def measure_many(contenders: list[Contender], stage: str, keys: int, rounds: int) -> None:
    """As many keys as fit: what they cost in memory, then passes over all of them."""
    for contender in contenders:
        progress(f"{stage}: {contender.label} takes in {keys:,} keys")
        contender.bytes_per_key = contender.fill(keys)["bytes"]
    for number in range(rounds):
        progress(f"{stage}: round {number + 1} of {rounds}")
        for contender in contenders:
            contender.measure(stage, keys)
    for contender in contenders:
        contender.worst_ns = contender.ask("worst", keys)["worst_ns"]


def run(*, quick: bool) -> Report:
    report = Report("decision", "1. One decision in the program", quick=quick)
    many = 50_000 if quick else MILLION
    contenders = [Contender(label) for label in available(CONTENDERS)]
    try:
        measure_stage(contenders, "hot key", 1, 2 if quick else 9, ROUND_NS // (10 if quick else 1))
        measure_stage(
            contenders, "10k keys", 10_000, 2 if quick else 5, ROUND_NS // (10 if quick else 1)
        )
        many_keys = f"{many:,} keys"
        measure_many(contenders, many_keys, many, 1 if quick else 3)
    finally:
        for contender in contenders:
            contender.close()
    tell(report, contenders, many_keys)
    return report


def tell(report: Report, contenders: list[Contender], many_keys: str) -> None:
    stages = ["hot key", "10k keys", many_keys]
    columns = [f"{stage} {kind}" for stage in stages for kind in ("min", "median")]
    table = report.table(
        "CPU nanoseconds per decision, loop included",
        "limiter",
        *columns,
        "bytes/key",
        "worst ms",
        note="bytes/key: beyond the caller's key string. worst: longest single call in one pass over all "
        "keys, in wall time, so other programs of this machine may be in it.",
    )
    for one in contenders:
        cells = [
            value
            for stage in stages
            for value in (one.series[stage].cpu_min, one.series[stage].cpu_median)
        ]
        floor = one.label in FLOORS
        table.add(
            one.label,
            *cells,
            None if floor else one.bytes_per_key,
            None if floor else one.worst_ns / 1e6,
        )
    tell_ratios(report, contenders, stages)
    packages = versions("limits", "throttled-py", "pyrate-limiter", "aiolimiter")
    report.note("beside: " + ", ".join(f"{name} {found}" for name, found in packages.items()))
    judge(report, {one.label: one for one in contenders}, many_keys)


def tell_ratios(report: Report, contenders: list[Contender], stages: list[str]) -> None:
    by_label = {one.label: one for one in contenders}
    ours = by_label.get(OURS) or by_label["headgate, plain Python"]
    table = report.table(
        f"How many times the CPU of {ours.label} (medians)", "limiter", *stages, "wall/CPU, hot key"
    )
    for one in contenders:
        if one.label not in FLOORS:
            ratios = [one.series[s].cpu_median / ours.series[s].cpu_median for s in stages]
            hot = one.series["hot key"]
            table.add(one.label, *ratios, hot.wall_median / hot.cpu_median)


def judge(report: Report, found: dict[str, Contender], many_keys: str) -> None:
    target = "<= 150 ns"
    if OURS not in found:
        report.unavailable("decision, hot key", target, "no compiled build: run `make compiled`")
        return
    hot = found[OURS].series["hot key"]
    loop = found["(an empty loop)"].series["hot key"].cpu_median
    report.at_most(
        "Limiter.check, hot key, compiled (median CPU, loop included)",
        hot.cpu_median,
        150,
        "ns",
        f"the loop itself is {loop:.1f} ns of that; minimum {hot.cpu_min:.0f} ns",
    )
    denied = found["headgate, compiled, denied"].series["hot key"]
    report.at_most("the same, when the answer is no", denied.cpu_median, 150, "ns")
    report.at_most(f"bytes per key at {many_keys}", found[OURS].bytes_per_key, 130, "bytes")


def main() -> None:
    if "--worker" in sys.argv:
        serve_worker(sys.argv[sys.argv.index("--worker") + 1])
        return
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
