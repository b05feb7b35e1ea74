"""What importing costs: fresh processes, taken in turns, less what Python itself costs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_MS = 40.0
BARE = "(nothing)"
# statement -> the module that it needs
OURS = {
    "import headgate": "headgate",
    "from headgate import Limiter": "headgate.gates.limiter",
    "from headgate import Limiter, AsyncLimiter, limit, PeerLimiter": "headgate.gates.peer",
}
THEIRS = {
    "import limits": "limits",
    "import throttled": "throttled",
    "import pyrate_limiter": "pyrate_limiter",
    "import aiolimiter": "aiolimiter",
}


def spawn(statement: str, *flags: str) -> tuple[Sample, str]:
    """CPU and wall nanoseconds of a process that runs the statement, and what it said."""
    tree = COMPILED if is_compiled() else PLAIN
    command = [sys.executable, *flags, "-c", "" if statement == BARE else statement]
    wall = time.perf_counter_ns()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        said = stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter_ns() - wall
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{statement!r} failed:\n{said[-1000:]}")
    return Sample((usage.ru_utime + usage.ru_stime) * 1e9, float(wall)), said


def import_time_ms(statement: str) -> float:
    """What ``-X importtime`` adds up for what is not part of Python's own start."""
    _, said = spawn(statement, "-X", "importtime")
    rows = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| ?(\s*)(\S+)", said)
    after_site = False
    total = 0
    for own, _, _, name in rows:
        if after_site:
            total += int(own)
        after_site = after_site or name == "site"
    return total / 1000


def available(statements: dict[str, str]) -> Iterable[str]:
    for statement, module in statements.items():
        try:
            if importlib.util.find_spec(module) is not None:
                yield statement
        except ModuleNotFoundError:
            continue


def run(*, quick: bool) -> Report:
    report = Report("imports", "1c. Importing", quick=quick)
    rounds = 3 if quick else 21
    statements = [BARE, *available(OURS), *available(THEIRS)]
    series = {statement: Series() for statement in statements}
    for statement in statements:
        spawn(statement)  # compiles and caches
    for number in range(rounds):
        if number % 5 == 0:
            progress(f"round {number + 1} of {rounds}")
        for statement in statements:
            series[statement].add(spawn(statement)[0])
    tell(report, series)
    return report


def tell(report: Report, series: dict[str, Series]) -> None:
    bare = series[BARE]
    table = report.table(
        "Milliseconds beyond starting Python",
        "statement",
        "CPU median",
        "CPU min",
        "wall median",
        "-X importtime",
        note=f"starting Python takes {bare.cpu_min / 1e6:.1f} ms of CPU time. -X importtime counts only "
        "the imports and slows them down.",
    )
    for statement, one in series.items():
        if statement == BARE:
            continue
        listed = min(import_time_ms(statement) for _ in range(3))
        table.add(
            statement,
            (one.cpu_median - bare.cpu_median) / 1e6,
            (one.cpu_min - bare.cpu_min) / 1e6,
            (one.wall_median - bare.wall_median) / 1e6,
            listed,
        )
        if statement in OURS:
            cost = (one.cpu_median - bare.cpu_median) / 1e6
            report.at_most(f"{statement} (median CPU)", cost, MOST_MS, "ms")


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
