"""Experiment 8: two hundred callers in several processes at a half-open circuit."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from headgate.lab.live import breakers
from headgate.lab.recovery import GUARDS, HERD, OURS, OURS_ALONE, Recovery, Scene, run_scene
from headgate.lab.report import Claim, Experiment, Report, Series

if TYPE_CHECKING:
    from headgate.lab.report import Cell, Progress

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "Two hundred callers at half-open, in several processes"
_PROBES: Final = 3
_ROUNDS: Final = 5
_LIVE_PROCESSES: Final = 4
_LIVE_CALLERS: Final = 200

# label -> what each process runs
_CREWS: Final = {
    "pybreaker, its store on Redis": ["pybreaker"] * _LIVE_PROCESSES,
    "purgatory, its store on Redis": ["purgatory"] * _LIVE_PROCESSES,
    OURS_ALONE: ["alone"] * _LIVE_PROCESSES,
    f"{OURS}, threads and tasks": ["threads", "tasks"] * (_LIVE_PROCESSES // 2),
}
_OURS_LIVE: Final = f"{OURS}, threads and tasks"


def virtual(seed: int, progress: Progress, seconds: float = 90.0, callers: int = 200) -> Report:
    """A callee breaks down and comes back cold; the same callers behind three kinds of breakers."""
    scene = replace(Scene(), seconds=seconds, callers=callers)
    found: dict[str, Recovery] = {}
    for number, guard in enumerate(GUARDS):
        progress(number / len(GUARDS), guard)
        found[guard] = run_scene(scene, guard, Random(f"{seed}/callers"))
    rows: list[list[Cell]] = [
        [
            guard,
            one.widest,
            one.falls,
            one.failed,
            len(one.good) / (scene.offered * (scene.seconds - scene.broken_s)),
            one.recovered_s(scene),
        ]
        for guard, one in found.items()
    ]
    columns = [
        "breakers",
        "admitted at half-open",
        "times the callee fell over again",
        "calls failed since it was back",
        "goodput since (of offered)",
        "recovered after, s",
    ]
    report = Report(8, _TITLE, "virtual", scene.conditions, columns, rows)
    seconds_passed = [float(second) for second in range(int(scene.seconds))]
    report.series = [
        Series("goodput", guard, seconds_passed, one.per_second(scene.seconds), "calls/s")
        for guard, one in found.items()
    ]
    ours = found[OURS]
    report.claims = [
        Claim("admitted at half-open, all processes together", ours.widest, "<=", _PROBES, "calls"),
        Claim("the callee falls over again", ours.falls, "==", 0, "times"),
        Claim("recovered after its return", ours.recovered_s(scene), "<=", 40.0, "s"),
    ]
    report.notes.append(
        f"Admitted at half-open: begun after a silence, before the first call ended; the widest. "
        f'"{HERD}" is how pybreaker, aiobreaker, circuitbreaker and purgatory have it, with the '
        "settings of the others."
    )
    return report


def live(progress: Progress, rounds: int = _ROUNDS) -> Report:
    """Real processes, a real store: all callers call at one moment, again and again."""
    callers = _LIVE_CALLERS // _LIVE_PROCESSES
    found: dict[str, list[int]] = {}
    crews = {label: crew for label, crew in _CREWS.items() if breakers.available(crew[0])}
    for number, (label, crew) in enumerate(crews.items()):
        progress(number / len(crews), label)
        with breakers.store_server() as url, breakers.workers(crew, url, callers) as processes:
            found[label] = [breakers.burst(processes) for _ in range(rounds)]
    rows: list[list[Cell]] = [
        [label, min(admitted), max(admitted)] for label, admitted in found.items()
    ]
    conditions = {
        "callers": f"{_LIVE_CALLERS} in {_LIVE_PROCESSES} processes, which call at one moment",
        "callee": "takes 200 ms a call",
        "store": "a private Valkey or Redis on loopback",
        "rounds": str(rounds),
    }
    columns = ["breakers", "admitted, at least", "at most"]
    report = Report(8, _TITLE, "live", conditions, columns, rows)
    report.x_label = "round"
    report.series = [
        Series(
            "admitted at half-open",
            label,
            [float(one) for one in range(1, rounds + 1)],
            [float(one) for one in admitted],
            "calls",
        )
        for label, admitted in found.items()
    ]
    ours = found[_OURS_LIVE]
    report.claims = [
        Claim("admitted at half-open, all processes together", max(ours), "<=", _PROBES, "calls"),
        Claim("and somebody is", min(ours), ">=", 1, "calls"),
    ]
    absent = [label for label in _CREWS if label not in crews]
    if absent:
        report.notes.append(f"Not installed here, and so left out: {'; '.join(absent)}.")
    return report


EXPERIMENT: Final = Experiment(
    8,
    _TITLE,
    "When a circuit becomes half-open and everybody waits for it, how many are let through?",
    virtual,
    live,
)
