"""How the outcomes of ``headgate lab`` are shown."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Final

import typer
from rich.text import Text

from headgate.cli.output import console, print_json, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headgate.lab.report import Claim, Experiment, Progress, Report
    from headgate.lab.running import Outcome

__all__ = ["lab_progress", "show_experiments", "show_outcome", "show_verdicts"]

_WIDEST: Final = 110


@contextlib.contextmanager
def lab_progress(what: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar on standard error; none when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda done, now: progress.update(task, completed=done, description=f"{what}: {now}")


def show_experiments(found: Sequence[Experiment], *, as_json: bool) -> None:
    """What there is."""
    if as_json:
        print_json(
            {
                "experiments": [
                    {
                        "number": one.number,
                        "title": one.title,
                        "question": one.question,
                        "live": one.live is not None,
                    }
                    for one in found
                ]
            }
        )
        return
    rows = [
        (str(one.number), one.title, one.question, "yes" if one.live else "no") for one in found
    ]
    console().print(table(["", "experiment", "question", "live"], rows, right=[""]))


def show_outcome(outcome: Outcome, *, charts: bool) -> None:
    """One experiment: table, charts, verdicts."""
    report = outcome.report
    one = outcome.experiment
    mode = f", {report.mode}" if report is not None else ""
    typer.secho(f"\n{one.number}. {one.title}{mode} ({outcome.seconds:.1f} s)", bold=True)
    typer.echo(one.question)
    if report is None:
        typer.secho(f"failed: {printable(outcome.failure)}", fg=typer.colors.RED)
        if outcome.details:
            typer.echo(outcome.details, err=True)
        return
    for name, value in report.conditions.items():
        typer.echo(f"  {name}: {value}")
    _show_table(report)
    if charts:
        _show_charts(report)
    for note in report.notes:
        typer.echo(f"Note: {note}")
    _show_claims(report.claims)


def show_verdicts(outcomes: Sequence[Outcome]) -> None:
    """The last word: what was missed, or that nothing was."""
    missed = [outcome.experiment.number for outcome in outcomes if not outcome.met]
    claims = sum(len(outcome.report.claims) for outcome in outcomes if outcome.report is not None)
    seconds = sum(outcome.seconds for outcome in outcomes)
    if missed:
        numbers = ", ".join(map(str, missed))
        typer.secho(f"\nmissed: experiment {numbers}", fg=typer.colors.RED, bold=True)
        return
    text = f"\nall of {claims} claims met by {len(outcomes)} experiments ({seconds:.1f} s)"
    typer.secho(text, fg=typer.colors.GREEN, bold=True)


def _show_table(report: Report) -> None:
    from headgate.lab.report import cell_text

    rows = [[cell_text(cell) for cell in row] for row in report.rows]
    right = [
        name
        for place, name in enumerate(report.columns)
        if all(not isinstance(row[place], str) for row in report.rows)
    ]
    console().print(table(report.columns, rows, right=right))


def _show_charts(report: Report) -> None:
    from headgate.lab.chart import chart_text

    width = min(_WIDEST, shutil.get_terminal_size((100, 40)).columns)
    try:
        text = chart_text(report, width, colours=sys.stdout.isatty())
    except ModuleNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 - what cannot be drawn must not hide what was measured
        typer.echo(f"warning: no chart: {type(error).__name__}: {printable(str(error))}", err=True)
        return
    typer.echo(text)


def _show_claims(claims: Sequence[Claim]) -> None:
    from headgate.lab.page import claim_cells

    rows: list[list[str | Text]] = []
    for claim in claims:
        *cells, verdict = claim_cells(claim)
        rows.append([*cells, Text(verdict, style="green" if claim.met else "bold red")])
    console().print(table(["must show", "wanted", "measured", ""], rows))
