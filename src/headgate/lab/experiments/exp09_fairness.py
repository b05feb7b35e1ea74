"""Experiment 9: one elephant among twenty mice, and heavy requests among light ones."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.seating import Seating
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab import heavy
from headgate.lab.flows import ELEPHANT, RoundRobinLine, herds
from headgate.lab.live.queues import (
    FAIR_QUEUES,
    ROOM,
    SEATS,
    run_heavy_live,
    run_herd_live,
)
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.seated import SeatedServer
from headgate.lab.servers import Fifo, Server
from headgate.lab.simulation import Simulation
from headgate.lab.workload import exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.flows import Herd
    from headgate.lab.heavy import Heavies
    from headgate.lab.report import Cell, Mode, Progress
    from headgate.lab.workload import Request

    _Send = Callable[[Request], object]
    _Attach = Callable[[Simulation, Herd], _Send]

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "One elephant among twenty mice, and heavy requests among light ones"
_OURS: Final = "Headgate, weighted fair queue"
_OUR_LIMITER: Final = "Headgate, AdmissionQueue"
_ALONE: Final = "mice alone"
_HALF: Final = "mice at half their share"
_FULL: Final = "all above their share"
_SEATS: Final = 8
_ROOM: Final = 300
_SERVICE_NS: Final = 4 * NS_PER_MS
_LIVE_SERVICE_NS: Final = 16 * NS_PER_MS
_TIMEOUT_NS: Final = NS_PER_SECOND // 2
_MAX_WAIT_NS: Final = NS_PER_SECOND
_LIVE_SECONDS: Final = 12.0
_LIVE_HEAVY_SECONDS: Final = 16.0

_Herds = dict[str, dict[str, "Herd"]]


def virtual(
    seed: int, progress: Progress, seconds: float = 6.0, heavy_seconds: float = 20.0
) -> Report:
    """All queues on the same arrivals; then both limiters on the same heavy ones.

    Args:
        seed: of the arrivals.
        progress: told now and then.
        seconds: that the flows are measured.
        heavy_seconds: that the heavy ones are.
    """
    capacity = _SEATS * NS_PER_SECOND / _SERVICE_NS
    outcomes: _Herds = {}
    for number, (label, attach) in enumerate(_SERVERS.items()):
        progress(number / 5, label)
        outcomes[label] = herds(2.0, seconds)
        for herd in outcomes[label].values():
            simulation = Simulation(seed)
            send = attach(simulation, herd)
            herd.run(simulation, capacity, send, exponential(_SERVICE_NS), _TIMEOUT_NS)
            simulation.run(herd.end_ns)
    limiters: dict[str, Heavies] = {}
    for label, factory in (("aiolimiter", heavy.aiolimiter), (_OUR_LIMITER, heavy.ours)):
        progress(0.7, f"heavy requests, {label}")
        rng = Random(f"{seed}/heavy")
        limiters[label] = heavy.run_virtually(factory, rng, heavy_seconds)
    conditions = {
        "server": f"{_SEATS} seats, service times exponential with mean {_SERVICE_NS / 1e6:g} ms, so "
        f"C = {capacity:,.0f}/s; {_ROOM} may wait",
        **_loads(seconds, heavy_seconds),
    }
    return _report("virtual", conditions, capacity, outcomes, limiters)


def live(progress: Progress) -> Report:
    """The same against a server process, whose work is done elsewhere: it waits for it."""
    capacity = SEATS * NS_PER_SECOND / _LIVE_SERVICE_NS
    outcomes: _Herds = {}
    for number, (label, what) in enumerate(FAIR_QUEUES.items()):
        outcomes[label] = herds(1.0, _LIVE_SECONDS)
        for place, (name, herd) in enumerate(outcomes[label].items()):
            progress((3 * number + place) / 9, f"{name}, {label}")
            run_herd_live(what, herd, capacity, exponential(_LIVE_SERVICE_NS), _TIMEOUT_NS)
    limiters: dict[str, Heavies] = {}
    for label, what in heavy.LIMITERS.items():
        progress(0.7, f"heavy requests, {label}")
        limiters[label] = run_heavy_live(what, _LIVE_HEAVY_SECONDS)
    conditions = {
        "server": f"one process with {SEATS} seats that waits for work done elsewhere, exponential with mean "
        f"{_LIVE_SERVICE_NS / 1e6:g} ms, so C = {capacity:,.0f}/s; {ROOM} may wait",
        **_loads(_LIVE_SECONDS, _LIVE_HEAVY_SECONDS),
    }
    return _report("live", conditions, capacity, outcomes, limiters)


def _loads(seconds: float, heavy_seconds: float) -> dict[str, str]:
    return {
        "flows": "open loop (Poisson): 20 mice, and an elephant that asks for 100 times as much as one "
        f"mouse; a caller gives up after {_TIMEOUT_NS / 1e6:g} ms; measured {seconds:g} s",
        "heavy requests": f"{heavy.SEATS} seats, {heavy.WORK_NS / 1e6:g} ms each; light ones (1 seat, ten "
        f"flows) at {heavy.LIGHT_LOAD:g}x, and one of {heavy.HEAVY} seats every 2 s for {heavy_seconds:g} s; "
        f"all wait {heavy.MAX_WAIT:g} s at most. aiolimiter: {heavy.SEATS} per "
        f"{heavy.WORK_NS / 1e6:g} ms",
    }


def _unprotected(simulation: Simulation, herd: Herd) -> _Send:
    return _lined(simulation, herd, Fifo(), most=10**9)


def _bounded(simulation: Simulation, herd: Herd) -> _Send:
    return _lined(simulation, herd, Fifo(), most=_ROOM)


def _round_robin(simulation: Simulation, herd: Herd) -> _Send:
    line = RoundRobinLine(lambda request: herd.reject(request, simulation.now), _ROOM)
    return _lined(simulation, herd, line, most=10**9)


def _lined(simulation: Simulation, herd: Herd, line: Fifo | RoundRobinLine, most: int) -> _Send:
    server = Server(
        simulation, lambda request: herd.done(request, simulation.now), seats=_SEATS, line=line
    )

    def send(request: Request) -> None:
        herd.offer(request)
        if len(line) < most:
            server.submit(request)
        else:
            herd.reject(request, simulation.now)

    return send


def _ours(simulation: Simulation, herd: Herd) -> _Send:
    """The order and the seating of an `AdmissionQueue` with discipline "fair" and its defaults."""
    server = SeatedServer(
        simulation,
        Seating(FairOrder(_MAX_WAIT_NS, {}), _SEATS, _ROOM),
        lambda request: herd.done(request, simulation.now),
        lambda request: herd.reject(request, simulation.now),
    )

    def send(request: Request) -> None:
        herd.offer(request)
        server.submit(request)

    return send


_SERVERS: Final[dict[str, _Attach]] = {
    "unprotected": _unprotected,
    "bounded queue of 300": _bounded,
    "round robin by flow": _round_robin,
    _OURS: _ours,
}


def _report(
    mode: Mode,
    conditions: dict[str, str],
    capacity: float,
    outcomes: _Herds,
    limiters: dict[str, Heavies],
) -> Report:
    rows: list[list[Cell]] = []
    for label, by_name in outcomes.items():
        for name, herd in by_name.items():
            elephant = herd.served[ELEPHANT] / herd.tally.seconds / capacity
            rows.append(
                [
                    label,
                    f"{name} ({herd.load:.2g}x)",
                    herd.goodput / capacity,
                    elephant if herd.has_elephant else "-",
                    herd.tally.success(),
                    herd.tally.latency(0.99) * 1e3,
                    herd.fairness if name == _FULL else "-",
                ]
            )
    rows += [
        [label, "heavy requests", heavies.used, "-", heavies.share, heavies.longest_ns / 1e6, "-"]
        for label, heavies in limiters.items()
    ]
    columns = [
        "queue",
        "load",
        "goodput, of C",
        "elephant, of C",
        "mice (or heavy) served in time",
        "mice p99 (or longest wait), ms",
        "Jain",
    ]
    report = Report(9, _TITLE, mode, conditions, columns, rows)
    report.series = _series(outcomes)
    report.claims = _claims(outcomes[_OURS], limiters)
    return report


def _series(outcomes: _Herds) -> list[Series]:
    """The mice's latency over time, with the elephant there."""
    found = []
    for label, by_name in outcomes.items():
        seconds, values = by_name[_HALF].tally.timeline_latency()
        found.append(Series("mice p99", label, seconds, [value * 1e3 for value in values], "ms"))
    seconds, values = outcomes[_OURS][_ALONE].tally.timeline_latency()
    found.append(Series("mice p99", "mice alone", seconds, [value * 1e3 for value in values], "ms"))
    return found


def _claims(ours: dict[str, Herd], limiters: dict[str, Heavies]) -> list[Claim]:
    ratio = ours[_HALF].tally.latency(0.99) / ours[_ALONE].tally.latency(0.99)
    return [
        Claim("Headgate, all above their share: Jain's index", ours[_FULL].fairness, ">=", 0.99),
        Claim("Headgate: mice p99 with the elephant", ratio, "<=", 2.0, "times that alone"),
        Claim(
            "Headgate: heavy requests served within the longest wait",
            limiters[_OUR_LIMITER].share,
            ">=",
            1.0,
            "of them",
        ),
    ]


EXPERIMENT: Final = Experiment(
    9,
    _TITLE,
    "Does one caller who asks for much, or many who ask for little, keep the others from being served?",
    virtual,
    live,
)
