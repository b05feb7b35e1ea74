"""Experiment 6: the load steps from 0.8 to 1.4 times the capacity. How long are the queues?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from headgate.backpressure.controlled_delay import ControlledDelayOrder
from headgate.backpressure.seating import Seating
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.codel import CoDelLine
from headgate.lab.live.queues import QUEUES, measured_capacity, run_live, undisturbed
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.seated import SeatedServer
from headgate.lab.servers import Fifo, Server
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Tally, exponential, quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.report import Cell, Mode, Progress
    from headgate.lab.servers import Line
    from headgate.lab.workload import Request

    _Attach = Callable[[Simulation, "_Course"], Callable[[Request], object]]

__all__ = ["EXPERIMENT", "virtual"]

_TITLE: Final = "A step to 1.4 times the capacity"
_OURS: Final = "Headgate, controlled delay"
_TARGET_NS: Final = 20 * NS_PER_MS
_INTERVAL_NS: Final = 100 * NS_PER_MS
_SEATS: Final = 8
_SERVICE_NS: Final = 4 * NS_PER_MS
_TIMEOUT_NS: Final = NS_PER_SECOND // 2
_LIVE_SERVICE_NS: Final = 2 * NS_PER_MS
_CALM, _LOAD = 0.8, 1.4


@dataclass
class _Course:
    """When the load steps up and down again, and what became of the requests and of their waits."""

    step_ns: int
    back_ns: int
    end_ns: int
    tally: Tally = field(init=False)
    waits: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # What must be shown is what holds from a second after the step.
        self.tally = Tally(self.step_ns + NS_PER_SECOND, self.back_ns, NS_PER_SECOND // 10)

    def rate(self, capacity: float) -> Callable[[int], float]:
        return lambda now: capacity * (_LOAD if self.step_ns <= now < self.back_ns else _CALM)

    def waited(self, now: int, wait_ns: int) -> None:
        self.waits.append((now, wait_ns))

    def p99_ms(self, share: float = 0.99) -> float:
        """Of the waits from a second after the step to its end, in milliseconds."""
        within = range(self.tally.begin_ns, self.tally.end_ns)
        return quantile([wait for now, wait in self.waits if now in within], share) / NS_PER_MS

    def timeline(self) -> tuple[list[float], list[float]]:
        """(seconds, 99th percentile of the waits in milliseconds) for each tenth of a second."""
        bins: dict[int, list[int]] = {}
        for now, wait in self.waits:
            bins.setdefault(now // self.tally.bin_ns, []).append(wait)
        grain = self.tally.bin_ns / NS_PER_SECOND
        numbers = sorted(bins)
        values = [quantile(bins[number], 0.99) / NS_PER_MS for number in numbers]
        return [number * grain for number in numbers], values


def virtual(seed: int, progress: Progress, seconds: float = 10.0) -> Report:
    """All queues on the same arrivals.

    Args:
        seed: of the arrivals.
        progress: told now and then.
        seconds: that the overload lasts, > 1.
    """
    capacity = _SEATS * NS_PER_SECOND / _SERVICE_NS
    step_ns = 5 * NS_PER_SECOND
    back_ns = step_ns + round(seconds * NS_PER_SECOND)
    courses: dict[str, _Course] = {}
    for number, (label, attach) in enumerate(_SERVERS.items()):
        progress(number / len(_SERVERS), label)
        course = courses[label] = _Course(step_ns, back_ns, back_ns + 3 * NS_PER_SECOND)
        simulation = Simulation(seed)
        submit = attach(simulation, course)

        def arrive(
            request: Request, course: _Course = course, submit: Callable[[Request], object] = submit
        ) -> None:
            course.tally.offer(request)
            submit(request)

        Arrivals(
            simulation,
            course.rate(capacity),
            arrive,
            service=exponential(_SERVICE_NS),
            timeout_ns=_TIMEOUT_NS,
        )
        simulation.run(course.end_ns)
    conditions = {
        "server": f"{_SEATS} seats, service times exponential with mean {_SERVICE_NS / 1e6:g} ms, so "
        f"C = {capacity:,.0f}/s",
        "load": f"open loop (Poisson); {_CALM:g}x, then {_LOAD:g}x for {seconds:g} s, then {_CALM:g}x; a "
        f"caller gives up after {_TIMEOUT_NS / 1e6:g} ms",
        "target": f"{_TARGET_NS / 1e6:g} ms of queue delay, for both that have one",
        "measured": "from one second after the step to its end; waits are of those that were served",
    }
    return _report("virtual", conditions, capacity, courses)


def live(progress: Progress) -> Report:
    """The same against a server process; the wait is all of the latency that is not service."""
    progress(0.0, "measuring the capacity")
    capacity = measured_capacity(_LIVE_SERVICE_NS)
    step_ns, back_ns = 3 * NS_PER_SECOND, 10 * NS_PER_SECOND
    courses: dict[str, _Course] = {}
    for number, label in enumerate(QUEUES):
        progress((number + 1) / (len(QUEUES) + 1), label)

        def attempt(what: str = QUEUES[label]) -> tuple[float, _Course]:
            course = _Course(step_ns, back_ns, back_ns + 2 * NS_PER_SECOND)

            def served(request: Request, now: int) -> None:
                course.waited(now, now - request.arrived - request.service_ns)

            share = run_live(
                what,
                course.tally,
                course.rate(capacity),
                _LIVE_SERVICE_NS,
                _TIMEOUT_NS,
                course.end_ns,
                served,
            )
            return share, course

        courses[label] = undisturbed(attempt)
    conditions = {
        "server": f"one process that burns {_LIVE_SERVICE_NS / 1e6:g} ms of processor time for each "
        f"request, one at a time; measured C = {capacity:,.0f}/s (closed loop, 4 outstanding)",
        "load": f"open loop (Poisson) over loopback from the other core; {_CALM:g}x, then {_LOAD:g}x for "
        f"{(back_ns - step_ns) / 1e9:g} s, then {_CALM:g}x; a caller gives up after "
        f"{_TIMEOUT_NS / 1e6:g} ms",
        "target": f"{_TARGET_NS / 1e6:g} ms of queue delay, for both that have one",
        "measured": "from one second after the step to its end; waits are latencies less the service, of "
        "those that were served; again, up to 3 times, where others took more than 2% of the server's core",
    }
    return _report("live", conditions, capacity, courses)


def _plain(line: Callable[[Callable[[Request], object]], Line]) -> _Attach:
    """A server with a line, which is given what to call with those that it drops."""

    def attach(simulation: Simulation, course: _Course) -> Callable[[Request], object]:
        def dropped(request: Request) -> None:
            course.tally.reject(request, simulation.now)

        def started(request: Request) -> bool:
            course.waited(simulation.now, simulation.now - request.arrived)
            return True

        server = Server(
            simulation,
            lambda request: course.tally.done(request, simulation.now),
            seats=_SEATS,
            line=line(dropped),
            started=started,
        )
        return server.submit

    return attach


def _bounded(simulation: Simulation, course: _Course) -> Callable[[Request], object]:
    """A queue of 300: what does not fit is refused."""
    line = Fifo()
    submit = _plain(lambda _: line)(simulation, course)

    def admit(request: Request) -> None:
        if len(line) < 300:
            submit(request)
        else:
            course.tally.reject(request, simulation.now)

    return admit


def _ours(simulation: Simulation, course: _Course) -> Callable[[Request], object]:
    """The order and the seating of an `AdmissionQueue` with discipline "codel" and its defaults."""
    server = SeatedServer(
        simulation,
        Seating(ControlledDelayOrder(_TARGET_NS, _INTERVAL_NS), _SEATS, 1_000),
        lambda request: course.tally.done(request, simulation.now),
        lambda request: course.tally.reject(request, simulation.now),
        lambda request: course.waited(simulation.now, simulation.now - request.arrived),
    )
    return server.submit


_SERVERS: Final[dict[str, _Attach]] = {
    "unprotected": _plain(lambda _: Fifo()),
    "bounded queue of 300": _bounded,
    "CoDel (RFC 8289)": _plain(CoDelLine),
    _OURS: _ours,
}


def _report(
    mode: Mode, conditions: dict[str, str], capacity: float, courses: dict[str, _Course]
) -> Report:
    rows: list[list[Cell]] = []
    series: list[Series] = []
    for label, course in courses.items():
        rows.append(
            [
                label,
                course.tally.goodput / capacity,
                course.p99_ms(0.5),
                course.p99_ms(),
                course.tally.latency(0.99) * 1e3,
                course.tally.success(),
            ]
        )
        seconds, goodput = course.tally.timeline_goodput()
        shares = [value / capacity for value in goodput]
        series.append(Series("goodput", label, seconds, shares, "of C"))
        series.append(Series("queue delay, p99", label, *course.timeline(), "ms"))
    columns = [
        "queue",
        "goodput",
        "wait p50, ms",
        "wait p99, ms",
        "latency p99, ms",
        "served in time",
    ]
    ours = courses[_OURS]
    target = 2 * _TARGET_NS / NS_PER_MS
    claims = [
        Claim(
            "Headgate: queue delay p99 from 1 s after the step", ours.p99_ms(), "<=", target, "ms"
        ),
        Claim("Headgate: goodput at 1.4x", ours.tally.goodput / capacity, ">=", 0.95, "of C"),
    ]
    return Report(6, _TITLE, mode, conditions, columns, rows, series, claims)


EXPERIMENT: Final = Experiment(
    6,
    _TITLE,
    "How long does work queue when suddenly more arrives than can be done?",
    virtual,
    live,
)
