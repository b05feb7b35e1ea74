"""``headgate lab``: does it hold under overload?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headgate.cli.lab_report import lab_progress, show_experiments, show_outcome, show_verdicts
from headgate.cli.options import AsJson
from headgate.cli.output import print_json
from headgate.clock import SystemClock
from headgate.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.lab.report import Experiment
    from headgate.lab.running import Outcome

__all__ = ["lab_app"]

lab_app = typer.Typer(
    no_args_is_help=True,
    help="Overload experiments: in virtual time, or live on this machine.",
    epilog="Example: `headgate lab run 5 --out build/lab`",
    rich_markup_mode="markdown",
)

_MISSED: Final = 1
_DIGITS: Final = 4
_PAGE: Final = Path("docs/laboratory.md")
_PLOTS: Final = Path("docs/lab")


@lab_app.command("list", epilog="Example: `headgate lab list`")
def lab_list(as_json: AsJson = False) -> None:
    """Name the experiments and what they ask."""
    from headgate.lab.experiments import all_experiments

    show_experiments(all_experiments(), as_json=as_json)


@lab_app.command("run", epilog="Example: `headgate lab run 1 3 --live`")
def lab_run(  # noqa: PLR0913, PLR0917 - one for each option
    which: Annotated[
        list[str], typer.Argument(help="Numbers of experiments, or 'all'.", metavar="N|all")
    ],
    live: Annotated[
        bool, typer.Option("--live", help="Against real processes here, in real time.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the randomness; the same gives the same.", min=0)
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A directory for pictures (PNG).", file_okay=False),
    ] = None,
    charts: Annotated[
        bool, typer.Option("--charts/--no-charts", help="Draw charts on the terminal.")
    ] = True,
    write: Annotated[
        bool, typer.Option("--write", help=f"Put tables into {_PAGE} and pictures into {_PLOTS}.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="How many run at a time (not with --live).", min=1)
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Run experiments; print their tables, charts and verdicts.

    The exit code is 0 when everything was shown that must be, 1 when something was missed or failed, and 2
    when it could not be run as asked.
    """
    chosen = _choose(which, live=live)
    directory = _PLOTS if write else out
    _prepare(directory, write=write)
    outcomes = []
    for outcome in _run(chosen, seed, 1 if live else jobs, live=live, quiet=as_json):
        outcomes.append(outcome)
        if not as_json:
            show_outcome(outcome, charts=charts)
        _keep(outcome, directory, write=write)
    if write and which == ["all"]:
        _summarize(outcomes)
    if as_json:
        print_json(_members(outcomes))
    else:
        show_verdicts(outcomes)
    if not all(outcome.met for outcome in outcomes):
        raise typer.Exit(_MISSED)


def _choose(which: list[str], *, live: bool) -> list[Experiment]:
    from headgate.lab.experiments import all_experiments, experiment

    if which == ["all"]:
        return [one for one in all_experiments() if not live or one.live is not None]
    for text in which:
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
            message = f"name experiments by number, or 'all' alone, got {text[:40]!a}"
            raise InvalidInput(message, field="which")
    chosen = [experiment(int(text)) for text in dict.fromkeys(which)]
    for one in chosen:
        if live and one.live is None:
            message = f"experiment {one.number} has no live half; leave out --live"
            raise InvalidInput(message, field="live")
    return chosen


def _prepare(directory: Path | None, *, write: bool) -> None:
    """Find out before the first run, and not after it, whether its results can be kept."""
    if write and not _PAGE.is_file():
        message = f"{_PAGE} is not here; run this where the project is checked out"
        raise ConfigurationError(message)
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{directory} cannot be made ({error.strerror}); name another directory"
            raise InvalidInput(message, field="out") from error


def _run(
    chosen: list[Experiment], seed: int, jobs: int, *, live: bool, quiet: bool
) -> Iterator[Outcome]:
    from headgate.lab.running import run_experiment, run_side_by_side

    if jobs > 1:
        yield from run_side_by_side([one.number for one in chosen], seed, jobs)
        return
    for one in chosen:
        with lab_progress(f"{one.number}. {one.title}", quiet=quiet) as progress:
            outcome = run_experiment(one, SystemClock(), progress, seed=seed, live=live)
        yield outcome


def _keep(outcome: Outcome, directory: Path | None, *, write: bool) -> None:
    """Write its picture, and its block of the page."""
    if outcome.report is None or directory is None:
        return
    from headgate.lab.page import measured_here, write_block
    from headgate.lab.plot import save_plot

    report = outcome.report
    picture = directory / f"{outcome.experiment.name}-{report.mode}.png"
    is_drawn = save_plot(report, picture)
    if write:
        shown = picture.relative_to(_PAGE.parent) if is_drawn else None
        write_block(_PAGE, report, shown, measured_here() if report.mode == "live" else "")


def _summarize(outcomes: list[Outcome]) -> None:
    """The claims of all in one table of the page."""
    from headgate.lab.page import write_summary

    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    if reports:
        write_summary(_PAGE, reports)


def _members(outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "met": all(outcome.met for outcome in outcomes),
        "experiments": [outcome.members() for outcome in outcomes],
    }
