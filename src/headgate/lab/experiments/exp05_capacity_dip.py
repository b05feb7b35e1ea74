"""Experiment 5: the capacity dips to 30 % for ten seconds, and clients retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_SECOND
from headgate.lab.client_runs import ClientRun, Kind
from headgate.lab.clients import Pressed
from headgate.lab.live.overload import calibrate
from headgate.lab.manners import GrpcRetries, Ours, PlainRetries
from headgate.lab.protections import Unprotected, bounded, unprotected
from headgate.lab.report import Claim, Experiment, Report, Series

if TYPE_CHECKING:
    from headgate.lab.client_runs import Outcome
    from headgate.lab.report import Cell, Mode, Progress

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "Capacity dips to 30 % for 10 s, at load .8"
# Of a load of .80, what makes .80 at two places: .795/.80.
_NEARLY_ALL: Final = 0.994
_LOAD: Final = 0.8
_SPEED: Final = 0.3
_ATTEMPTS: Final = 3
_DIP: Final = 10
_TO_RECOVER: Final = 10
_PATIENCE_NS: Final = 3 * NS_PER_SECOND // 2
_PATIENCE: Final = _PATIENCE_NS / NS_PER_SECOND
_BACK: Final = 0.95
_OURS: Final = "Headgate, both sides"
_PLACES: Final = "headgate.lab.protections"

_KINDS: Final = (
    Kind(
        "unprotected, three attempts",
        lambda _: Unprotected(),
        f"{_PLACES}:{unprotected.__name__}",
        lambda time, number: PlainRetries(_ATTEMPTS, time.stream(f"client/{number}")),
    ),
    Kind(
        "bounded queue of 300, gRPC retry throttling",
        bounded,
        f"{_PLACES}:{bounded.__name__}",
        lambda time, number: GrpcRetries(_ATTEMPTS, time.stream(f"client/{number}")),
    ),
    Kind(
        "tiered shedder, three attempts",
        Pressed,
        "headgate.lab.clients:pressed",
        lambda time, number: PlainRetries(_ATTEMPTS, time.stream(f"client/{number}")),
    ),
    Kind(
        _OURS,
        Pressed,
        "headgate.lab.clients:pressed",
        lambda time, number: Ours(
            time.clock,
            time.stream(f"client/{number}").random,
            attempts=_ATTEMPTS,
            timeout=_PATIENCE,
        ),
    ),
)


def _run(before: int, after: int) -> ClientRun:
    """So many whole seconds before and after the dip; measured is from when it must be over."""
    return ClientRun(
        _LOAD,
        settle=before + _DIP + _TO_RECOVER,
        seconds=after - _TO_RECOVER,
        patience_ns=_PATIENCE_NS,
        rejection_share=0.005,
        speeds=((before, _SPEED), (before + _DIP, 1.0)),
    )


def virtual(seed: int, progress: Progress, before: int = 15, after: int = 30) -> Report:
    """All kinds of servers and clients through the same dip."""
    run = _run(before, after)
    outcomes = {}
    for step, kind in enumerate(_KINDS):
        progress(step / len(_KINDS), kind.label)
        outcomes[kind.label] = run.virtual(seed, kind)
    return _report("virtual", run.virtual_conditions(), outcomes, before)


def live(progress: Progress, before: int = 8, after: int = 25) -> Report:
    """The same against a server process."""
    progress(0.0, "measuring the capacity")
    capacity = calibrate().capacity
    run = _run(before, after)
    outcomes = {}
    for step, kind in enumerate(_KINDS):
        progress(step / len(_KINDS), kind.label)
        outcomes[kind.label] = run.live(kind, capacity)
    return _report("live", run.live_conditions(capacity), outcomes, before)


def _report(
    mode: Mode, conditions: dict[str, str], outcomes: dict[str, Outcome], before: int
) -> Report:
    end = before + _DIP
    rows: list[list[Cell]] = []
    for label, one in outcomes.items():
        rows.append(
            [
                label,
                _share(one, 2, before),
                _share(one, before, end),
                _share(one, end, end + _TO_RECOVER),
                _LOAD * one.asked.success(),
                _recovery(one, end),
                max(_seen(one)[before:]),
            ]
        )
    report = Report(
        5,
        _TITLE,
        mode,
        {
            **conditions,
            "dip": f"at second {before}, services take 1/{_SPEED:g} of their time for {_DIP} s",
            "clients": f"{_ATTEMPTS} attempts at most, with exponential backoff from 300 ms",
        },
        [
            "server and clients",
            "before, of C",
            "during",
            "10 s after",
            "from then on, per .80 C asked for",
            "recovered after s",
            "most seen, x C",
        ],
        rows,
    )
    for label, one in outcomes.items():
        seconds, good = one.asked.timeline_goodput()
        shares = [value / one.capacity for value in good]
        report.series.append(Series("goodput", label, seconds, shares, "of C"))
        # A timeline of its own: what users asked for may be answered a bin later than the server saw any.
        seconds, _ = one.seen.timeline_offered()
        report.series.append(Series("what the server sees", label, seconds, _seen(one), "times C"))
    report.claims = _claims(outcomes, before)
    return report


def _claims(outcomes: dict[str, Outcome], before: int) -> list[Claim]:
    end = before + _DIP
    ours, bare = outcomes[_OURS], next(iter(outcomes.values()))
    return [
        Claim(
            "unprotected: of what was asked for from 10 s after the dip on, done in time",
            bare.asked.success(),
            "<=",
            0.0,
            "",
        ),
        Claim("Headgate: goodput during the dip", _share(ours, before, end), ">=", 0.24, "of C"),
        Claim("Headgate: recovered after", _recovery(ours, end), "<=", _TO_RECOVER, "s"),
        Claim(
            "Headgate: of the .80 C asked for from 10 s after the dip on, done in time",
            ours.asked.success(),
            ">=",
            _NEARLY_ALL,
            "of it",
        ),
    ]


def _share(one: Outcome, since: int, until: int | None) -> float:
    """Goodput between two seconds, as a share of the capacity."""
    good = one.asked.timeline_goodput()[1][since:until]
    return sum(good) / max(1, len(good)) / one.capacity


def _seen(one: Outcome) -> list[float]:
    return [value / one.capacity for value in one.seen.timeline_offered()[1]]


def _recovery(one: Outcome, end: int) -> float:
    """Seconds after the dip until what is asked for is done again, three seconds in a row; else infinite."""
    good = one.asked.timeline_goodput()[1]
    offered = one.asked.timeline_offered()[1]
    for second in range(end, len(good) - 2):
        if all(good[each] >= _BACK * offered[each] for each in range(second, second + 3)):
            return float(second - end)
    return float("inf")


EXPERIMENT: Final = Experiment(
    5,
    _TITLE,
    "Does the system come back by itself when its capacity does, though its clients retry?",
    virtual,
    live,
)
