"""Experiment 7: half an hour at twice the capacity, and then everything takes ten times as long.

A limit that learns its baseline from overloaded samples creeps up all that time; one that never learns does
not find back when the service itself has become slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.limits import LIMITS, OURS
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.servers import Server
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Tally, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.limits import Gate
    from headgate.lab.report import Cell, Progress
    from headgate.lab.workload import Request

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "Half an hour at twice the capacity, then ten times slower"
_SEATS: Final = 10
_SERVICE_NS: Final = 100 * NS_PER_MS
_TIMEOUT_NS: Final = 10 * NS_PER_SECOND
_LOAD: Final = 2.0
_SLOWER: Final = 10.0
_SETTLED: Final = 60.0
_GRAIN: Final = 10.0


class _Run:
    """One gate, all the way through.

    Attributes:
        limits: at the end of every 10 s.
    """

    def __init__(
        self, seed: int, make: Callable[[Simulation, int], Gate], before: float, after: float
    ) -> None:
        self.simulation = simulation = Simulation(seed)
        self._gate = make(simulation, _SEATS)
        self._turn_ns = round(before * NS_PER_SECOND)
        end_ns = round((before + after) * NS_PER_SECOND)
        bin_ns = round(_GRAIN * NS_PER_SECOND)
        self.before = Tally(0, self._turn_ns, bin_ns)
        self.after = Tally(self._turn_ns, end_ns, bin_ns)
        settled_ns = min(self._turn_ns + round(_SETTLED * NS_PER_SECOND), end_ns - 1)
        self.settled = Tally(settled_ns, end_ns, bin_ns)
        self.limits: list[float] = []
        self._server = Server(simulation, self._done, seats=_SEATS)
        capacity = _SEATS * NS_PER_SECOND / _SERVICE_NS
        Arrivals(
            simulation,
            lambda now: _LOAD * capacity / (1.0 if now < self._turn_ns else _SLOWER),
            self._arrive,
            service=exponential(_SERVICE_NS),
            timeout_ns=_TIMEOUT_NS,
        )
        simulation.at(self._turn_ns, self._slow_down)
        simulation.every(bin_ns, lambda: self.limits.append(self._gate.limit))
        simulation.run(end_ns)

    def _arrive(self, request: Request) -> None:
        if self._gate.enter(request, self.simulation.now):
            self._server.submit(request)

    def _done(self, request: Request) -> None:
        now = self.simulation.now
        self._gate.leave(request, now)
        for tally in (self.before, self.after, self.settled):
            tally.done(request, now)

    def _slow_down(self) -> None:
        self._server.speed = 1.0 / _SLOWER

    def drift(self) -> float:
        """How far the limit moved, from the first sixth of the overload (but for a minute) to the last."""
        turn = round(self._turn_ns / NS_PER_SECOND / _GRAIN)
        sixth = max(1, turn // 6)
        settle = min(round(_SETTLED / _GRAIN), sixth)
        early, late = self.limits[settle : settle + sixth], self.limits[turn - sixth : turn]
        first = sum(early) / len(early)
        return abs(sum(late) / len(late) / first - 1.0) if first else 0.0


def virtual(seed: int, progress: Progress, before: float = 1_800.0, after: float = 600.0) -> Report:
    """All limits in turn.

    Args:
        seed: of arrivals and service times.
        progress: is told.
        before: seconds at twice the capacity.
        after: seconds at a tenth of the speed.
    """
    runs: dict[str, _Run] = {}
    for place, (label, make) in enumerate(LIMITS.items()):
        progress(place / len(LIMITS), label)
        runs[label] = _Run(seed, make, before, after)
    report = Report(7, _TITLE, "virtual", _conditions(before, after), _COLUMNS, [])
    for label, run in runs.items():
        report.rows.append(_row(label, run))
        xs = [_GRAIN * (place + 1) for place in range(len(run.limits))]
        if any(run.limits):
            report.series.append(Series("limit", label, xs, run.limits, "calls"))
        times, goodput = run.before.timeline_goodput()
        report.series.append(Series("goodput", label, times, goodput, "per second"))
        times, latency = run.before.timeline_latency()
        report.series.append(Series("p99 of what was answered", label, times, latency, "s"))
    report.claims = _claims(runs)
    report.notes = _NOTES
    return report


_CAPACITY: Final = _SEATS * NS_PER_SECOND / _SERVICE_NS
_COLUMNS: Final = [
    "limit by",
    "limit at first",
    "limit at the end",
    "drift",
    "goodput, of ideal",
    "p99 ms",
    "goodput when slower",
    "settled",
    "p99 ms when slower",
]
_NOTES: Final = [
    "Ideal is the capacity, at any time: there is always more to do than can be done.",
    "'Settled' leaves out the first minute after the turn: the limit must find out that it is not the cause.",
    "Gradient2 is written after its published source; its limit may go to 1000, as ours may.",
]


def _conditions(before: float, after: float) -> dict[str, str]:
    return {
        "server": f"{_SEATS} seats, service times exponential with mean {_SERVICE_NS / 1e6:g} ms, "
        f"so C = {_CAPACITY:g}/s",
        "load": f"open loop (Poisson) at {_LOAD:g} C for {before / 60:g} minutes; then services take "
        f"{_SLOWER:g} times as long, and the load is {_LOAD:g} times what is left, for {after / 60:g} "
        "minutes",
        "deadline": f"{_TIMEOUT_NS / 1e9:g} s",
        "limits start": f"at the number of seats, {_SEATS}",
    }


def _row(label: str, run: _Run) -> list[Cell]:
    return [
        label,
        run.limits[0] or "-",
        run.limits[-1] or "-",
        run.drift(),
        run.before.goodput / _CAPACITY,
        run.before.latency(0.99) * 1e3,
        run.after.goodput * _SLOWER / _CAPACITY,
        run.settled.goodput * _SLOWER / _CAPACITY,
        run.settled.latency(0.99) * 1e3,
    ]


def _claims(runs: dict[str, _Run]) -> list[Claim]:
    ours = runs[OURS]
    done = sum(tally.goodput * tally.seconds for tally in (ours.before, ours.after))
    ideal = _CAPACITY * (ours.before.seconds + ours.after.seconds / _SLOWER)
    return [
        Claim("drift of the limit at 2x, at most", ours.drift(), "<=", 0.25),
        Claim("goodput of the whole run", done / ideal, ">=", 0.99, "of ideal"),
        Claim(
            "goodput at a tenth of the speed, from the turn on",
            ours.after.goodput * _SLOWER / _CAPACITY,
            ">=",
            0.8,
            "of ideal",
        ),
    ]


EXPERIMENT: Final = Experiment(
    7,
    _TITLE,
    "Does a limit that learns stay where it should, and find back when the service changes?",
    virtual,
)
