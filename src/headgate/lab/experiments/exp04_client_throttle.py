"""Experiment 4: twenty clients that ask for more than their upstream can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.lab.client_runs import CLIENTS, ClientRun, Kind
from headgate.lab.clients import Pressed
from headgate.lab.live.overload import calibrate
from headgate.lab.manners import EnvoyAdmission, Ours, PlainRetries
from headgate.lab.report import Claim, Experiment, Report, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.lab.client_runs import Outcome
    from headgate.lab.report import Cell, Mode, Progress

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = f"Client throttle, {CLIENTS} clients"
_LOADS: Final = (2.0, 4.0, 10.0)
_SETTLE: Final = 5.0
_OURS: Final = "Headgate, throttle and X-Pressure"
_PRESSED: Final = "headgate.lab.clients:pressed"

# The server sheds in all of them: the question is what that costs it, and what clients can spare it.
_KINDS: Final = (
    Kind(
        "unprotected: clients that send everything",
        Pressed,
        _PRESSED,
        lambda time, number: PlainRetries(1, time.stream(f"client/{number}")),
    ),
    Kind(
        "Envoy's admission control",
        Pressed,
        _PRESSED,
        lambda time, number: EnvoyAdmission(time.clock, time.stream(f"client/{number}")),
    ),
    Kind(
        "the throttle of the SRE book, K = 2",
        Pressed,
        _PRESSED,
        lambda time, number: Ours(time.clock, time.stream(f"client/{number}").random, hears=False),
    ),
    Kind(
        _OURS,
        Pressed,
        _PRESSED,
        lambda time, number: Ours(time.clock, time.stream(f"client/{number}").random),
    ),
)


def virtual(
    seed: int, progress: Progress, loads: Sequence[float] = _LOADS, seconds: float = 10.0
) -> Report:
    """All kinds of clients at all loads."""
    outcomes: dict[str, list[Outcome]] = {kind.label: [] for kind in _KINDS}
    for step, load in enumerate(loads):
        for place, kind in enumerate(_KINDS):
            progress((step + place / len(_KINDS)) / len(loads), f"{load:g}x, {kind.label}")
            outcomes[kind.label].append(ClientRun(load, _SETTLE, seconds).virtual(seed, kind))
    return _report(
        "virtual", ClientRun(1.0, _SETTLE, seconds).virtual_conditions(), loads, outcomes
    )


def live(progress: Progress, loads: Sequence[float] = _LOADS, seconds: float = 8.0) -> Report:
    """The same against a server process."""
    progress(0.0, "measuring the capacity")
    capacity = calibrate().capacity
    outcomes: dict[str, list[Outcome]] = {kind.label: [] for kind in _KINDS}
    for step, load in enumerate(loads):
        for place, kind in enumerate(_KINDS):
            progress((step + place / len(_KINDS)) / len(loads), f"{load:g}x, {kind.label}")
            outcomes[kind.label].append(ClientRun(load, _SETTLE, seconds).live(kind, capacity))
    conditions = ClientRun(1.0, _SETTLE, seconds).live_conditions(capacity)
    return _report("live", conditions, loads, outcomes)


def _report(
    mode: Mode,
    conditions: dict[str, str],
    loads: Sequence[float],
    outcomes: dict[str, list[Outcome]],
) -> Report:
    rows: list[list[Cell]] = []
    for place, load in enumerate(loads):
        for label, found in outcomes.items():
            one = found[place]
            p99 = one.asked.latency(0.99) * 1e3
            rows.append([f"{load:g}x", label, one.load_seen, one.goodput, p99])
    report = Report(
        4,
        _TITLE,
        mode,
        {**conditions, "protection": "the server sheds (tiered shedder) whatever its clients do"},
        ["load", "clients", "the server sees, x C", "goodput, of C", "p99 ms"],
        rows,
        x_label="load, times the capacity",
        log_x=True,
    )
    for label, found in outcomes.items():
        xs = list(loads)
        report.series.append(Series("goodput", label, xs, [one.goodput for one in found], "of C"))
        seen = [one.load_seen for one in found]
        report.series.append(Series("what the server sees", label, xs, seen, "times C"))
    ours = outcomes[_OURS]
    report.claims = [
        Claim(
            "Headgate: the server sees at most",
            max(one.load_seen for one in ours),
            "<=",
            2.0,
            "x C",
        ),
        Claim("Headgate: goodput at least", min(one.goodput for one in ours), ">=", 0.95, "of C"),
    ]
    return report


EXPERIMENT: Final = Experiment(
    4,
    _TITLE,
    "How much of an overload do clients keep from a server that tells them how it copes?",
    virtual,
    live,
)
