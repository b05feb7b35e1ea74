"""What every bench shares: timing, medians, tables, verdicts, and a note of the conditions.

CPU time is what we compare: on a machine that does other things besides, wall time says more about
those. Each figure is taken in several rounds, interleaved with what it is compared with, and given as
the median and the minimum. The minimum is the steadier of the two: noise only ever adds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
COMPILED = ROOT / "build" / "compiled"
PLAIN = ROOT / "src"
RESULTS = ROOT / "build" / "bench"
MEGABYTE = 1_000_000


# Conditions --------------------------------------------------------------------------------------


def is_compiled() -> bool:
    """Whether the `headgate` that would be imported here has its hot rooms compiled."""
    spec = importlib.util.find_spec("headgate.engine.table")
    return bool(spec and spec.origin and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)))


def build_name() -> str:
    return "compiled" if is_compiled() else "plain Python"


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def revision() -> str:
    """The commit that was measured, with a plus when the tree had changes on top."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def conditions() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "revision": revision(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build": build_name(),
        "load_average": round(os.getloadavg()[0], 2),
    }


# Timing ------------------------------------------------------------------------------------------


@dataclass
class Sample:
    """One round: CPU and wall nanoseconds per operation."""

    cpu_ns: float
    wall_ns: float


def timed(work: Callable[[], object], operations: int) -> Sample:
    """Run the work once; nanoseconds per operation."""
    wall = time.perf_counter_ns()
    cpu = time.process_time_ns()
    work()
    cpu = time.process_time_ns() - cpu
    wall = time.perf_counter_ns() - wall
    return Sample(cpu / operations, wall / operations)


@dataclass
class Series:
    """The rounds of one figure."""

    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)

    @property
    def cpu_median(self) -> float:
        return median(sample.cpu_ns for sample in self.samples)

    @property
    def cpu_min(self) -> float:
        return min(sample.cpu_ns for sample in self.samples)

    @property
    def wall_median(self) -> float:
        return median(sample.wall_ns for sample in self.samples)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of an ordered sequence does not exceed (nearest rank)."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def resident_bytes(pid: int | str = "self") -> int:
    """The memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Reports -----------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """One promised figure: what was promised, what came out."""

    figure: str
    target: str
    measured: str
    met: bool | None  # None: no target, or nothing to judge by
    note: str = ""

    def word(self) -> str:
        if self.met is None:
            return "-"
        return "ok" if self.met else "MISS"


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: object) -> None:
        self.rows.append([shown(cell) for cell in cells])

    def text(self) -> str:
        widths = [
            max(len(row[place]) for row in [self.columns, *self.rows])
            for place in range(len(self.columns))
        ]

        def line(cells: Sequence[str]) -> str:
            first = cells[0].ljust(widths[0])
            rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
            return "  ".join([first, *rest]).rstrip()

        ruler = line(["-" * width for width in widths])
        body = [line(self.columns), ruler, *(line(row) for row in self.rows)]
        return "\n".join([self.title, "", *body, *(["", self.note] if self.note else [])])


def shown(cell: object) -> str:
    """A cell as text: numbers with about three digits that matter."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        if cell != cell:  # noqa: PLR0124 - only NaN differs from itself
            return "-"
        return (
            f"{cell:,.0f}"
            if abs(cell) >= 100
            else f"{cell:,.1f}"
            if abs(cell) >= 10
            else f"{cell:.2f}"
        )
    return str(cell)


class Report:
    """The tables and verdicts of one bench."""

    def __init__(self, name: str, title: str, *, quick: bool) -> None:
        self.name = name
        self.title = title
        self.quick = quick
        self.conditions = conditions()
        self.tables: list[Table] = []
        self.verdicts: list[Verdict] = []
        self.notes: list[str] = []
        self.data: dict[str, Any] = {}

    def table(self, title: str, *columns: str, note: str = "") -> Table:
        table = Table(title, list(columns), note=note)
        self.tables.append(table)
        return table

    def judge(
        self, figure: str, target: str, measured: str, *, met: bool | None, note: str = ""
    ) -> None:
        self.verdicts.append(Verdict(figure, target, measured, met, note))

    def at_most(self, figure: str, value: float, most: float, unit: str, note: str = "") -> None:
        """A figure that must not exceed its target."""
        self.judge(
            figure,
            f"<= {most:g} {unit}",
            f"{shown(float(value))} {unit}",
            met=value <= most,
            note=note,
        )

    def at_least(self, figure: str, value: float, least: float, unit: str, note: str = "") -> None:
        """A figure that must exceed its target."""
        self.judge(
            figure,
            f"> {least:,.0f} {unit}",
            f"{shown(float(value))} {unit}",
            met=value > least,
            note=note,
        )

    def unavailable(self, figure: str, target: str, reason: str) -> None:
        """A figure that could not be taken: reported, and never passed off as met."""
        self.judge(figure, target, "not measured", met=None, note=reason)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def text(self) -> str:
        parts = [f"== {self.title}", conditions_line(self.conditions, quick=self.quick)]
        parts += [table.text() for table in self.tables]
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        parts.append(verdicts_text(self.verdicts))
        return "\n\n".join(part for part in parts if part)

    def finish(self) -> None:
        """Print it all and write ``build/bench/<name>.json``."""
        print(self.text(), flush=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        document = {
            "name": self.name,
            "title": self.title,
            "quick": self.quick,
            "conditions": self.conditions,
            "tables": [asdict(table) for table in self.tables],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "notes": self.notes,
            "data": self.data,
        }
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")


def conditions_line(found: dict[str, Any], *, quick: bool) -> str:
    quickly = ", QUICK (small numbers, not for quoting)" if quick else ""
    return (
        f"{found['date']}, revision {found['revision']}, {found['cpu']} x {found['cores']}, "
        f"{found['python']}, {found['build']}, load average {found['load_average']}{quickly}"
    )


def verdicts_text(verdicts: Iterable[Verdict]) -> str:
    table = Table("Against the targets", ["figure", "target", "measured", ""])
    remarks = []
    for verdict in verdicts:
        table.add(verdict.figure, verdict.target, verdict.measured, verdict.word())
        if verdict.note:
            remarks.append(f"* {verdict.figure}: {verdict.note}")
    return "\n\n".join([table.text(), *remarks]) if table.rows else ""


# Command line ------------------------------------------------------------------------------------


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it runs")
    return parser.parse_args()


def progress(text: str) -> None:
    """Say what is going on, apart from the results."""
    print(f"   {text}", file=sys.stderr, flush=True)
