"""Experiment 3: what a rejection costs, and what that leaves at ten times the capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.lab.live.overload import run_loads
from headgate.lab.overload import Overload
from headgate.lab.protections import OURS, PROTECTIONS
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.servers import goodput_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.lab.report import Cell, Progress

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "The cost of a rejection"
_LOAD: Final = 10.0
_LIVE_LOADS: Final = (2.0, 5.0, 10.0)
_COSTS: Final = (0.0025, 0.005, 0.01, 0.05)
_CHEAP: Final = 0.005


def virtual(
    seed: int, progress: Progress, costs: Sequence[float] = _COSTS, seconds: float = 5.0
) -> Report:
    """At ten times the capacity, for cheap and dear rejections."""
    shares: list[float] = []
    for step, cost in enumerate(costs):
        progress(step / len(costs), f"{cost:.2%} of a service")
        setting = Overload(_LOAD, rejection_share=cost, seconds=seconds)
        shares.append(setting.run(seed, PROTECTIONS[OURS]).goodput / setting.capacity)
    return _virtual_report(costs, shares, seconds)


def _virtual_report(costs: Sequence[float], shares: list[float], seconds: float) -> Report:
    bounds = [goodput_bound(_LOAD, cost) for cost in costs]
    all_told = [_all_told(share) for share in shares]
    rows: list[list[Cell]] = [
        [f"{cost:.2%}", bound, share, f"{told:.2%}"]
        for cost, bound, share, told in zip(costs, bounds, shares, all_told, strict=True)
    ]
    columns = ["price of a rejection", "bound", "goodput (of C)", "price, all told"]
    conditions = Overload(_LOAD, seconds=seconds).conditions
    conditions["load"] += f"; {_LOAD:g}x the capacity, and no client holds back"
    del conditions["a rejection costs"]
    report = Report(3, _TITLE, "virtual", conditions, columns, rows, log_x=True)
    report.x_label = "price of a rejection, % of a service"
    xs = [100 * cost for cost in costs]
    report.series = [
        Series("goodput at 10x", "bound", xs, bounds, "of C"),
        Series("goodput at 10x", OURS, xs, shares, "of C"),
    ]
    place = list(costs).index(_CHEAP)
    told = 100 * all_told[place]
    report.claims = [
        Claim(
            f"a rejection priced {_CHEAP:.1%} costs, all told", told, "<=", 1.0, "% of a service"
        ),
        Claim("Headgate at 10x, unaided: goodput", shares[place], ">=", 0.90, "of C"),
    ]
    report.notes.append(
        "All told is what goodput lacks to C, spread over the rejections: their price, and the shedder's "
        "imprecision."
    )
    return report


def _all_told(share: float) -> float:
    """From goodput = (1 - r x)/(1 - r), the r."""
    return (1.0 - share) / (_LOAD - share)


def live(progress: Progress) -> Report:
    """Measured as processor time of a server process."""
    found = run_loads(_LIVE_LOADS, [OURS], progress)
    runs = found.runs[OURS]
    shares = [run.tally.goodput / found.capacity for run in runs]
    rows: list[list[Cell]] = [
        [
            f"{load:g}x",
            sum(run.tally.rejected) / run.tally.seconds,
            1e6 * found.rejection_cost(run),
            f"{found.rejection_cost(run) * found.capacity:.2%}",
            1e6 * run.usage.overhead / max(1, run.usage.rejections),
            shares[place],
        ]
        for place, (load, run) in enumerate(zip(_LIVE_LOADS, runs, strict=True))
    ]
    conditions = {**found.conditions, "clients": "none holds back"}
    columns = [
        "load",
        "rejections/s",
        "processor time of one, us",
        "of a service",
        "at most, us",
        "goodput (of C)",
    ]
    report = Report(3, _TITLE, "live", conditions, columns, rows)
    report.x_label = "load, times the capacity"
    report.notes.append(
        "At most is all processor time that was not work, by the rejections: as if served requests took "
        "none but for their work."
    )
    report.notes += found.notes
    costs = [1e6 * found.rejection_cost(run) for run in runs]
    report.series = [
        Series("goodput", OURS, list(_LIVE_LOADS), shares, "of C"),
        Series("processor time of a rejection", OURS, list(_LIVE_LOADS), costs, "us"),
    ]
    report.claims = [
        Claim("a rejection costs", 100 * found.rejection_share(OURS), "<=", 1.0, "% of a service"),
        Claim("Headgate at 10x, unaided: goodput", shares[-1], ">=", 0.90, "of C"),
    ]
    return report


EXPERIMENT: Final = Experiment(
    3,
    _TITLE,
    "How little does saying no take, and what is left for the rest when nine of ten are told so?",
    virtual,
    live,
)
