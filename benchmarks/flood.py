"""A flood of random keys at the default cap: memory, pauses, and whether limited keys stay limited.

Before the flood some keys are driven to their limit. They keep asking while ten million keys come by
that are never seen again. A limited key may be admitted as often as its bucket refills, and not once
more: that it was not forgotten is counted, key by key.

Each check is timed in CPU time of the thread, so that the machine's other programs are not in its pauses.
Making up the random key is (some 300 ns); so is reading that clock, which takes a system call. What a
check costs is therefore measured apart, on keys made beforehand and without looking at the clock.
"""

from __future__ import annotations

import gc
import time
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from benchmarks.harness import (
    MEGABYTE,
    RESULTS,
    Report,
    arguments,
    is_compiled,
    progress,
    resident_bytes,
)

if TYPE_CHECKING:
    from headgate import Limiter

LIMIT = 10
WINDOW_NS = 60_000_000_000
LIMITED_KEYS = 1_000
ASK_EVERY = 100
MAX_KEYS = 1_000_000
MOST_MEGABYTES = 400.0
PAUSES_NS = (100_000, 1_000_000, 10_000_000)


class Flood:
    """One flood over one limiter, and what was seen meanwhile."""

    def __init__(self, limiter: Limiter, keys: int, cost: int) -> None:
        self.limiter = limiter
        self.keys = keys
        self.cost = cost
        self.limited = [f"limited:{number}" for number in range(LIMITED_KEYS)]
        self.admitted = dict.fromkeys(self.limited, 0)
        self.asked = 0
        self.worst_ns = 0
        self.pauses = dict.fromkeys(PAUSES_NS, 0)
        self.history: list[tuple[int, float, int]] = []
        self.flood_admitted = 0
        self.elapsed_ns = 0
        self.check_ns = 0.0

    def run(self) -> None:
        began = time.monotonic_ns()
        self._drive_to_limit()
        done = 0
        step = max(ASK_EVERY, self.keys // 50)
        self._look(0)
        while done < self.keys:
            self._pour(min(step, self.keys - done), seed=done)
            done += step
            self._look(min(done, self.keys))
        self.elapsed_ns = time.monotonic_ns() - began
        self.check_ns = self._pour_unwatched(min(200_000, self.keys))

    def _drive_to_limit(self) -> None:
        for key in self.limited:
            while self.limiter.check(key).allowed:
                self.admitted[key] += 1

    def _pour(self, number: int, seed: int) -> None:
        check = self.limiter.check
        clock = time.thread_time_ns
        bits = Random(seed).getrandbits
        cost, limited, next_limited = self.cost, self.limited, count(self.asked)
        admitted, worst = 0, 0
        for place in range(number):
            before = clock()
            admitted += check(f"{bits(64):016x}", cost).allowed
            took = clock() - before
            if took > 100_000:
                self._note_pause(took)
            worst = max(worst, took)
            if place % ASK_EVERY == 0:
                key = limited[next(next_limited) % LIMITED_KEYS]
                self.asked += 1
                self.admitted[key] += check(key).allowed
        self.flood_admitted += admitted
        self.worst_ns = max(self.worst_ns, worst)

    def _pour_unwatched(self, number: int) -> float:
        """CPU nanoseconds per check of the flood."""
        bits = Random(-1).getrandbits
        keys = [f"{bits(64):016x}" for _ in range(number)]
        check, cost = self.limiter.check, self.cost
        began = time.process_time_ns()
        for key in keys:
            check(key, cost)
        return (time.process_time_ns() - began) / number

    def _note_pause(self, took: int) -> None:
        for pause in PAUSES_NS:
            self.pauses[pause] += took > pause

    def _look(self, done: int) -> None:
        self.history.append((done, resident_bytes() / MEGABYTE, len(self.limiter._table)))  # noqa: SLF001

    def admitted_meanwhile(self) -> int:
        """Checks of limited keys that passed after the burst was spent."""
        return sum(self.admitted.values()) - LIMIT * LIMITED_KEYS

    def over_admitted(self) -> int:
        """By how many checks the limited keys got more than burst and refill allow, in all."""
        allowed = LIMIT + self.elapsed_ns * LIMIT // WINDOW_NS
        return sum(max(0, admitted - allowed) for admitted in self.admitted.values())


def plot(history: list[tuple[int, float, int]], height: int = 10, width: int = 50) -> str:
    """Memory over the keys seen, in characters."""
    most = max(megabytes for _, megabytes, _ in history)
    points = [history[place * (len(history) - 1) // (width - 1)] for place in range(width)]
    lines = []
    for row in range(height, 0, -1):
        level = most * row / height
        marks = "".join(
            "#" if megabytes >= level - most / height / 2 else " " for _, megabytes, _ in points
        )
        lines.append(f"{level:7.0f} MB |{marks.rstrip()}")
    lines.append(f"           +{'-' * width}")
    lines.append(f"            0{f'{history[-1][0]:,} keys':>{width - 1}}")
    return "\n".join(lines)


def draw(history: list[tuple[int, float, int]]) -> str | None:
    """The same as a picture, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([done / 1e6 for done, _, _ in history], [megabytes for _, megabytes, _ in history])
    axes.set(xlabel="random keys seen, millions", ylabel="resident memory, MB", ylim=(0, None))
    path = RESULTS / "flood.png"
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return str(path.name)


def flood(keys: int, cost: int) -> Flood:
    from headgate import Limiter

    limiter = Limiter(f"{LIMIT}/minute", max_keys=MAX_KEYS)
    one = Flood(limiter, keys, cost)
    one.run()
    return one


def collection_pause_ms() -> float:
    """What one full garbage collection takes now, in CPU time."""
    before = time.thread_time_ns()
    gc.collect()
    return (time.thread_time_ns() - before) / 1e6


def run(*, quick: bool) -> Report:
    report = Report("flood", "5. A flood of random keys", quick=quick)
    keys = 200_000 if quick else 10_000_000
    progress(f"{keys:,} random keys, each asking once")
    light = flood(keys, 1)
    collecting = collection_pause_ms()
    progress(f"{keys // 5:,} random keys, each spending its whole burst at once")
    heavy = flood(keys // 5, LIMIT)
    tell_memory(report, light)
    tell_outcome(report, light, heavy)
    report.note(f"a full garbage collection with the table full takes {collecting:.1f} ms")
    report.note("resident memory includes the interpreter and the key strings (65 bytes each)")
    if not is_compiled():
        report.note("plain Python: run with PYTHONPATH=build/compiled for the compiled figures")
    judge(report, light, heavy)
    return report


def tell_memory(report: Report, light: Flood) -> None:
    table = report.table(
        f"Resident memory, cap of {MAX_KEYS:,} keys", "random keys seen", "MB", "keys kept"
    )
    for done, megabytes, kept in light.history[::5]:
        table.add(done, megabytes, kept)
    table.note = plot(light.history)
    drawn = draw(light.history)
    if drawn:
        report.note(f"build/bench/{drawn} shows the same")


def tell_outcome(report: Report, light: Flood, heavy: Flood) -> None:
    table = report.table(
        "What became of whom",
        "",
        f"flood of cost 1, {light.keys:,}",
        f"of cost {LIMIT}, {heavy.keys:,}",
    )
    floods = (light, heavy)
    stats = [one.limiter.stats() for one in floods]
    table.add("flood checks admitted", *(one.flood_admitted for one in floods))
    table.add("keys kept at the end", *(one.keys for one in stats))
    table.add("forgotten: carried no information", *(one.forgotten for one in stats))
    table.add("evicted to make room", *(one.evicted for one in stats))
    table.add("tokens forgone by evicting", *(one.tokens_forgone for one in stats))
    table.add("decided on the shared overflow", *(one.overflowed for one in stats))
    table.add("limited keys", *(len(one.limited) for one in floods))
    table.add("asked meanwhile", *(one.asked for one in floods))
    table.add("admitted of these", *(one.admitted_meanwhile() for one in floods))
    table.add("admitted beyond burst and refill", *(one.over_admitted() for one in floods))
    table.add("CPU ns per check of the flood", *(one.check_ns for one in floods))
    table.add("longest pause, ms", *(one.worst_ns / 1e6 for one in floods))
    for pause in PAUSES_NS:
        table.add(f"pauses over {pause / 1e6:g} ms", *(one.pauses[pause] for one in floods))


def judge(report: Report, light: Flood, heavy: Flood) -> None:
    peak = max(megabytes for _, megabytes, _ in light.history)
    report.at_most(f"resident memory during {light.keys:,} random keys", peak, MOST_MEGABYTES, "MB")
    over = light.over_admitted() + heavy.over_admitted()
    report.judge(
        "limited keys stay limited", "0 admitted beyond refill", f"{over:,}", met=over == 0
    )
    worst = max(light.worst_ns, heavy.worst_ns) / 1e6
    report.judge(
        "longest pause of one check (CPU)",
        "none promised",
        f"{worst:.1f} ms",
        met=None,
        note="a dict of a million keys copies itself in one go when it grows; see docs/figures.md",
    )


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
