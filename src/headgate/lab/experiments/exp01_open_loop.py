"""Experiment 1: an open loop from half the capacity to ten times of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.lab.live.overload import run_loads
from headgate.lab.overload import Overload
from headgate.lab.protections import OURS, PROTECTIONS
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.servers import goodput_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.lab.report import Cell, Mode, Progress
    from headgate.lab.workload import Tally

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "Open loop, half to ten times the capacity"
_LOADS: Final = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 5.0, 10.0)
_LIVE_LOADS: Final = (0.8, 1.2, 2.0, 10.0)


def virtual(
    seed: int, progress: Progress, loads: Sequence[float] = _LOADS, seconds: float = 6.0
) -> Report:
    """All protections at all loads."""
    outcomes: dict[str, list[Tally]] = {}
    steps = [(label, load) for load in loads for label in PROTECTIONS]
    for step, (label, load) in enumerate(steps):
        progress(step / len(steps), f"{load:g}x, {label}")
        setting = Overload(load, seconds=seconds)
        outcomes.setdefault(label, []).append(setting.run(seed, PROTECTIONS[label]))
    setting = Overload(1.0, seconds=seconds)
    bounds = [goodput_bound(load, setting.rejection_share) for load in loads]
    return _report("virtual", setting.conditions, loads, bounds, setting.capacity, outcomes)


def live(progress: Progress) -> Report:
    """The same against a server process."""
    run = run_loads(_LIVE_LOADS, list(PROTECTIONS), progress)
    bounds = [goodput_bound(load, run.rejection_share(OURS)) for load in _LIVE_LOADS]
    report = _report("live", run.conditions, _LIVE_LOADS, bounds, run.capacity, run.outcomes)
    report.notes += run.notes
    return report


def _report(
    mode: Mode,
    conditions: dict[str, str],
    loads: Sequence[float],
    bounds: list[float],
    capacity: float,
    outcomes: dict[str, list[Tally]],
) -> Report:
    shares = {
        label: [tally.goodput / capacity for tally in tallies]
        for label, tallies in outcomes.items()
    }
    rows: list[list[Cell]] = [
        [
            f"{load:g}x",
            bounds[place],
            *(shares[label][place] for label in outcomes),
            *(outcomes[label][place].latency(0.99) * 1e3 for label in outcomes),
        ]
        for place, load in enumerate(loads)
    ]
    columns = [
        "load",
        "bound",
        *outcomes,
        *(f"p99 ms, {label.partition(',')[0]}" for label in outcomes),
    ]
    report = Report(
        1, _TITLE, mode, conditions, columns, rows, x_label="load, times the capacity", log_x=True
    )
    xs = list(loads)
    report.series.append(Series("goodput", "bound", xs, bounds, "of C"))
    for label, tallies in outcomes.items():
        report.series.append(Series("goodput", label, xs, shares[label], "of C"))
        p99 = [tally.latency(0.99) * 1e3 for tally in tallies]
        report.series.append(Series("p99 of what was answered", label, xs, p99, "ms"))
    report.claims = _claims(xs, bounds, shares)
    return report


def _claims(loads: list[float], bounds: list[float], shares: dict[str, list[float]]) -> list[Claim]:
    ours = dict(zip(loads, shares[OURS], strict=True))
    bound = dict(zip(loads, bounds, strict=True))
    bare = max(
        share for load, share in zip(loads, shares["unprotected"], strict=True) if load >= 1.2
    )
    return [
        Claim("unprotected, at 1.2x and more: goodput at most", bare, "<=", 0.0, "of C"),
        Claim("Headgate at 2x: goodput", ours[2.0], ">=", 0.97, "of C"),
        Claim("Headgate at 10x: goodput", ours[10.0] / bound[10.0], ">=", 0.95, "of the bound"),
    ]


EXPERIMENT: Final = Experiment(
    1,
    _TITLE,
    "How much good work is done when more and more is asked for?",
    virtual,
    live,
)
