"""Experiment 2: tiers of 20, 30 and 50 per cent, at two to ten times the capacity."""

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

_TITLE: Final = "Tiers 20/30/50 at two to ten times the capacity"
_SHARES: Final = (0.2, 0.3, 0.5)
_NAMES: Final = ("critical", "high", "normal")
_LOADS: Final = (2.0, 3.0, 5.0, 10.0)
_LIVE_LOADS: Final = (2.0, 5.0, 10.0)
# Without protection nothing is done in time at any of these (experiment 1).
_COMPARED: Final = [label for label in PROTECTIONS if label != "unprotected"]


def virtual(
    seed: int, progress: Progress, loads: Sequence[float] = _LOADS, seconds: float = 12.0
) -> Report:
    """All protections at all loads."""
    outcomes: dict[str, list[Tally]] = {}
    steps = [(label, load) for load in loads for label in _COMPARED]
    for step, (label, load) in enumerate(steps):
        progress(step / len(steps), f"{load:g}x, {label}")
        setting = Overload(load, shares=_SHARES, seconds=seconds)
        outcomes.setdefault(label, []).append(setting.run(seed, PROTECTIONS[label]))
    setting = Overload(1.0, shares=_SHARES, seconds=seconds)
    bounds = [goodput_bound(load, setting.rejection_share) for load in loads]
    return _report("virtual", setting.conditions, loads, bounds, setting.capacity, outcomes)


def live(progress: Progress) -> Report:
    """The same against a server process."""
    run = run_loads(_LIVE_LOADS, _COMPARED, progress, _SHARES)
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
    feasible = [_feasible(load, bound) for load, bound in zip(loads, bounds, strict=True)]
    rows: list[list[Cell]] = [
        [
            f"{load:g}x",
            label,
            *(tallies[place].success(tier) for tier in range(3)),
            feasible[place],
            tallies[place].goodput / capacity,
            tallies[place].latency(0.99) * 1e3,
        ]
        for place, load in enumerate(loads)
        for label, tallies in outcomes.items()
    ]
    columns = ["load", "protection", *(f"{name}, done in time" for name in _NAMES)]
    columns += ["feasible for critical", "goodput (of C)", "p99 ms"]
    conditions = {**conditions, "tiers": "critical 20 %, high 30 %, normal 50 %"}
    report = Report(
        2, _TITLE, mode, conditions, columns, rows, x_label="load, times the capacity", log_x=True
    )
    for tier, name in enumerate(_NAMES):
        panel = f"tier {tier} ({name}), done in time"
        if tier == 0:
            report.series.append(
                Series(panel, "feasible", list(loads), feasible, "share of its arrivals")
            )
        for label, tallies in outcomes.items():
            success = [tally.success(tier) for tally in tallies]
            report.series.append(
                Series(panel, label, list(loads), success, "share of its arrivals")
            )
    report.claims = _claims(loads, feasible, outcomes[OURS])
    return report


def _feasible(load: float, bound: float) -> float:
    """The most of tier 0 that can be done, if nothing else is."""
    return min(1.0, bound / (_SHARES[0] * load))


def _claims(loads: Sequence[float], feasible: list[float], ours: list[Tally]) -> list[Claim]:
    done = {load: tally.success(0) for load, tally in zip(loads, ours, strict=True)}
    best = dict(zip(loads, feasible, strict=True))
    return [
        Claim("critical at 2x, done in time", done[2.0], ">=", 0.99, "of its arrivals"),
        Claim("critical at 5x, done in time", done[5.0], ">=", 0.95, "of its arrivals"),
        Claim(
            "critical at 10x, done in time",
            done[10.0] / best[10.0],
            ">=",
            0.95,
            "of what is feasible",
        ),
    ]


EXPERIMENT: Final = Experiment(
    2,
    _TITLE,
    "Is the important work done while there is more of it than the server can do of all?",
    virtual,
    live,
)
