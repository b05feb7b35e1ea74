"""How the figures of ``headgate bench`` are shown."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import typer

from headgate.cli.output import console, print_json, seconds_text, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.cli.load.inside import Loop
    from headgate.cli.load.result import LoadResult

__all__ = ["progress_bar", "show_load", "show_loops"]


@contextlib.contextmanager
def progress_bar(seconds: float, what: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that follows the seconds; none when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=seconds)
        yield lambda passed: progress.update(task, completed=passed)


def show_load(result: LoadResult, *, as_json: bool) -> None:
    """The figures of a load."""
    if as_json:
        print_json(_members(result))
        return
    typer.echo(result.what)
    rows = [
        ("throughput", f"{result.per_second:,.0f} decisions/s"),
        ("latency p50", seconds_text(result.p50)),
        ("latency p99", seconds_text(result.p99)),
        ("latency p99.9", seconds_text(result.p999)),
        ("decisions", _decisions(result)),
        ("admitted / allowed", _accuracy(result)),
        ("server CPU", _server_cpu(result)),
        ("client CPU", f"{result.client_cpu:.0%} of one core"),
    ]
    console().print(table(["figure", "value"], rows, right=["value"]))
    for warning in result.warnings:
        label = typer.style("warning:", fg=typer.colors.YELLOW, bold=True)
        typer.echo(f"{label} {warning}", err=True)


def show_loops(loops: list[Loop], *, as_json: bool) -> None:
    """The times of decisions in this process."""
    if as_json:
        print_json({"loops": [{"what": one.what, "nanoseconds": one.nanoseconds} for one in loops]})
        return
    rows = [
        (one.what, f"{one.nanoseconds:,.0f} ns", f"{1e9 / one.nanoseconds:,.0f}") for one in loops
    ]
    columns = ["decision", "each", "a second"]
    console().print(table(columns, rows, right=columns[1:]))


def _decisions(result: LoadResult) -> str:
    denied = result.decisions - result.admitted
    text = f"{result.decisions:,} = {result.admitted:,} admitted + {denied:,} denied"
    return f"{text}, {result.errors:,} errors" if result.errors else text


def _accuracy(result: LoadResult) -> str:
    admitted = result.admitted_in_all
    if admitted is None:
        return "not known"
    text = f"{admitted:,} / {result.allowed:,}"
    if result.admitted == result.decisions:
        return f"{text} (the limit was not reached)"
    return f"{text} = {admitted / result.allowed:.4f}"


def _server_cpu(result: LoadResult) -> str:
    each = result.cpu_per_decision
    if each is None or result.server_cpu is None:
        return "not known (the service is not on this machine, or is another user's)"
    share = result.server_cpu / result.seconds if result.seconds else 0.0
    return f"{each * 1e6:.2f} us a decision, {share:.0%} of one core"


def _members(result: LoadResult) -> dict[str, Any]:
    return {
        "what": result.what,
        "seconds": result.seconds,
        "decisions": result.decisions,
        "decisions_per_second": result.per_second,
        "admitted": result.admitted,
        "admitted_in_all": result.admitted_in_all,
        "allowed_in_all": result.allowed,
        "errors": result.errors,
        "latency": {"p50": result.p50, "p99": result.p99, "p99.9": result.p999},
        "server_cpu_seconds_per_decision": result.cpu_per_decision,
        "client_cpu": result.client_cpu,
        "warnings": result.warnings,
    }
