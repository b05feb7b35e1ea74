"""Putting what was measured into a page: between two comments each, and nothing else is touched."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError
from headgate.gates.build import is_compiled
from headgate.lab.report import cell_text

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.lab.report import Claim, Report

__all__ = ["block_text", "claim_cells", "measured_here", "write_block", "write_summary"]


def write_block(page: Path, report: Report, plot: Path | None, when: str = "") -> None:
    """Replace the block of this experiment and mode.

    Args:
        page: a Markdown file that has ``<!-- lab: exp01 virtual -->`` and ``<!-- end -->`` around it.
        report: what is written.
        plot: the picture that is shown; relative to the page's directory. None when there is none.
        when: a line on when and where it was measured, for figures that are not the same every time.

    Raises:
        ConfigurationError: the page is not there, or has no such block.
    """
    _replace(page, f"exp{report.number:02d} {report.mode}", block_text(report, plot, when))


def write_summary(page: Path, reports: list[Report]) -> None:
    """Replace the block ``<!-- lab: all virtual -->`` with the claims of all these, which are of one mode.

    Raises:
        ConfigurationError: the page is not there, or has no such block.
    """
    head = [["", "must show", "wanted", "measured", ""], ["---:", "---", "---", "---", "---"]]
    rows = [
        [str(report.number), *claim_cells(claim)] for report in reports for claim in report.claims
    ]
    table = "\n".join(_row(cells) for cells in [*head, *rows])
    _replace(page, f"all {reports[0].mode}", f"\n{table}\n\n")


def _replace(page: Path, name: str, block: str) -> None:
    begin = f"<!-- lab: {name} -->\n"
    pattern = re.compile(f"({re.escape(begin)}).*?(<!-- end -->)", re.DOTALL)
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        message = (
            f"{page} cannot be read ({error.strerror}); run this where the project is checked out"
        )
        raise ConfigurationError(message) from error
    changed, count = pattern.subn(lambda found: f"{found[1]}{block}{found[2]}", text)
    if not count:
        raise ConfigurationError(f"{page} has no block {begin.strip()!r} that ends in <!-- end -->")
    page.write_text(changed, encoding="utf-8")


def block_text(report: Report, plot: Path | None, when: str = "") -> str:
    """The report in Markdown: conditions, table, verdicts, picture."""
    conditions = "; ".join(f"{name}: {value}" for name, value in report.conditions.items())
    parts = [f"{conditions}." if conditions else "", _table(report)]
    parts += [f"*{note}*" for note in report.notes]
    parts.append(_claims(report.claims))
    if plot is not None:
        parts.append(f"![{report.title}, {report.mode}]({plot.as_posix()})")
    parts.append(when)
    return "\n" + "\n\n".join(part for part in parts if part) + "\n\n"


def measured_here() -> str:
    """When and on what a live run was measured."""
    moment = datetime.fromtimestamp(SystemClock().wall_ns() / 1e9, tz=UTC)
    build = "compiled" if is_compiled() else "plain Python"
    return (
        f"Measured {moment:%Y-%m-%d %H:%M} UTC: {os.cpu_count()} cores, {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {build}."
    )


def claim_cells(claim: Claim) -> list[str]:
    """A claim as cells: what, wanted, measured, verdict."""
    unit = f" {claim.unit}" if claim.unit else ""
    return [
        claim.text,
        f"{claim.relation} {cell_text(claim.bound)}{unit}",
        f"{cell_text(claim.measured)}{unit}",
        "ok" if claim.met else "MISSED",
    ]


def _table(report: Report) -> str:
    numbers = [
        all(not isinstance(row[place], str) for row in report.rows)
        for place in range(len(report.columns))
    ]
    rule = ["---:" if is_number else "---" for is_number in numbers]
    rows = [[cell_text(cell) for cell in row] for row in report.rows]
    return "\n".join(_row(cells) for cells in [report.columns, rule, *rows])


def _claims(claims: list[Claim]) -> str:
    head = [["must show", "wanted", "measured", ""], ["---", "---", "---", "---"]]
    return "\n".join(_row(cells) for cells in [*head, *map(claim_cells, claims)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
