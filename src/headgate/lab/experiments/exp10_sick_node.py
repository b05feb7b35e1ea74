"""Experiment 10: four nodes, one falls sick, and the store is killed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.cluster import TICK_NS, Board, ByErrors, ByPressure, Edge, InTurn, Node
from headgate.lab.report import Claim, Experiment, Report, Series
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.gates.global_pressure import GlobalPressure
    from headgate.lab.cluster import Picker
    from headgate.lab.report import Cell, Progress
    from headgate.lab.workload import Request

__all__ = ["EXPERIMENT", "Plan", "virtual"]

_TITLE: Final = "Four nodes, one sick, the store killed meanwhile"
_OURS: Final = "Headgate"
_NODES: Final = ("a", "b", "c", "d")
_SICK: Final = "c"
_SEATS: Final = 8
_SERVICE_NS: Final = 16 * NS_PER_MS
_LOAD: Final = 0.6
_SLOWER: Final = 10.0
_TIMEOUT_NS: Final = 500 * NS_PER_MS
_EDGES: Final = 2


@dataclass(frozen=True)
class Plan:
    """The moments of a run, in seconds: what is measured before the illness begins at ``measured``."""

    measured: int = 5
    sick: int = 10
    killed: int = 20
    revived: int = 30
    well: int = 40
    end: int = 60


_PLAN: Final = Plan()


def _worst(view: GlobalPressure) -> Callable[[], float]:
    return lambda: max(view.nodes().values())


_ActsOn: TypeAlias = "Callable[[GlobalPressure], Callable[[], float]] | None"
_SYSTEMS: Final[dict[str, tuple[_ActsOn, Callable[[Simulation], Picker]]]] = {
    "unprotected, in turn": (None, lambda _: InTurn()),
    "outliers by errors, as Envoy": (lambda view: view.local, ByErrors),
    "all act on the worst pressure": (_worst, lambda _: InTurn()),
    _OURS: (lambda view: view.pressure, ByPressure),
}


class _Run:
    """One system through all of the plan.

    Attributes:
        offered, good, refused: requests that arrived, and those of them done in time, or refused for good, by
            the second of arrival.
        pressures: what each node acts on, every 100 ms.
        borrowed: every 100 ms, whether a healthy node acts on more than its own pressure.
        told_ns: when all others knew of the sick node; 0 when they never did.
        agreed_ns: when, after the store was back, all knew what all had told; likewise.
    """

    def __init__(self, seed: int, plan: Plan, system: str) -> None:
        acts_on, picker = _SYSTEMS[system]
        self.simulation = Simulation(seed)
        self.plan = plan
        self.board = Board(self.simulation)
        self.nodes = [
            Node(self.simulation, name, _SEATS, self.board, acts_on, self._answered)
            for name in _NODES
        ]
        self.edges = [Edge(self.nodes, picker(self.simulation)) for _ in range(_EDGES)]
        self.offered = [0] * plan.end
        self.good = [0] * plan.end
        self.refused = [0] * plan.end
        self.pressures: dict[str, list[float]] = {node.name: [] for node in self.nodes}
        self.borrowed: list[bool] = []
        self.shed_before = (0, 0)
        self.shed_after = (0, 0)
        self.told_ns = 0
        self.agreed_ns = 0
        self._plan_events()

    def run(self) -> _Run:
        self.simulation.run(self.plan.end * NS_PER_SECOND)
        return self

    @property
    def healthy_shed(self) -> float:
        """Of what the healthy nodes were sent while one was sick, the part that they turned away."""
        offered = self.shed_after[0] - self.shed_before[0]
        return (self.shed_after[1] - self.shed_before[1]) / offered

    def success(self, begin: int, end: int) -> float:
        """Of what arrived in these seconds, the part done in time."""
        return sum(self.good[begin:end]) / sum(self.offered[begin:end])

    @property
    def acting_together(self) -> float:
        """The part of the time in which some healthy node acted on more than its own pressure."""
        moments = self.borrowed[self.plan.sick * 10 : self.plan.end * 10]
        return sum(moments) / len(moments)

    @property
    def dip(self) -> float:
        """How far the worst second was below what was usual."""
        plan = self.plan
        worst = min(self.success(second, second + 1) for second in range(plan.sick, plan.end - 1))
        return 1.0 - worst / self.success(plan.measured, plan.sick)

    def publishes(self, since_ns: int, until_ns: int) -> float:
        """How often a node left a note in that time, the one that did so most; NaN if it never ended."""
        if until_ns == 0:
            return float("nan")
        notes = [note.node for at, note in self.board.log if since_ns <= at <= until_ns]
        return max((notes.count(name) for name in _NODES), default=0)

    @property
    def publishes_until_told(self) -> float:
        """Notes of the sick node, from the first that says so until all others know."""
        for at, note in self.board.log:
            if note.node == _SICK and note.pressure >= 1.0 and at >= self.plan.sick * NS_PER_SECOND:
                return self.publishes(at, self.told_ns)
        return float("nan")

    @property
    def publishes_until_agreed(self) -> float:
        """Notes of any node, from the store's return until all know what all told."""
        return self.publishes(self.plan.revived * NS_PER_SECOND, self.agreed_ns)

    def _plan_events(self) -> None:
        simulation, plan = self.simulation, self.plan
        for place, node in enumerate(self.nodes):  # the nodes do not tick in step
            simulation.at(place * TICK_NS // len(self.nodes), simulation.every, TICK_NS, node.tick)
        Arrivals(
            simulation,
            _LOAD * capacity(),
            self._arrive,
            service=exponential(_SERVICE_NS),
            timeout_ns=_TIMEOUT_NS,
        )
        simulation.every(TICK_NS, self._note)
        simulation.every(10 * NS_PER_MS, self._watch)
        simulation.at(plan.sick * NS_PER_SECOND, self._fall_sick)
        simulation.at(plan.killed * NS_PER_SECOND, self.board.kill)
        simulation.at(plan.revived * NS_PER_SECOND, self.board.revive)
        simulation.at(plan.well * NS_PER_SECOND, self._get_well)

    def _arrive(self, request: Request) -> None:
        second = request.arrived // NS_PER_SECOND
        self.offered[second] += 1
        self.refused[second] += not self.edges[request.number % _EDGES].send(request)

    def _answered(self, node: Node, request: Request) -> None:
        good = self.simulation.now <= request.deadline
        self.good[request.arrived // NS_PER_SECOND] += good
        self.edges[request.number % _EDGES].heard(node, failed=not good)

    def _fall_sick(self) -> None:
        self._sick_node.server.speed = 1 / _SLOWER
        self.shed_before = self._healthy_counts()

    def _get_well(self) -> None:
        self._sick_node.server.speed = 1.0
        self.shed_after = self._healthy_counts()

    @property
    def _sick_node(self) -> Node:
        return self.nodes[_NODES.index(_SICK)]

    def _healthy_counts(self) -> tuple[int, int]:
        healthy = [node for node in self.nodes if node.name != _SICK]
        return sum(node.offered for node in healthy), sum(node.shed for node in healthy)

    def _note(self) -> None:
        acting = {node.name: node.acts_on() for node in self.nodes}
        for name, pressure in acting.items():
            self.pressures[name].append(pressure)
        healthy = [node for node in self.nodes if node.name != _SICK]
        self.borrowed.append(any(acting[node.name] > node.view.local() for node in healthy))

    def _watch(self) -> None:
        now = self.simulation.now
        if self.told_ns == 0 and now >= self.plan.sick * NS_PER_SECOND and self._all_know():
            self.told_ns = now
        if self.agreed_ns == 0 and now >= self.plan.revived * NS_PER_SECOND and self._agree():
            self.agreed_ns = now

    def _all_know(self) -> bool:
        """Whether each healthy node knows that the sick one is."""
        return all(node.view.sick() == [_SICK] for node in self.nodes if node.name != _SICK)

    def _agree(self) -> bool:
        """Whether each node has heard each other one since the store is back."""
        back_ns = self.plan.revived * NS_PER_SECOND
        return all(
            (heard := node.view.heard_ns(other.name)) is not None and heard >= back_ns
            for node in self.nodes
            for other in self.nodes
            if other is not node
        )


def capacity() -> float:
    """Requests per second that all nodes together can do."""
    return len(_NODES) * _SEATS * NS_PER_SECOND / _SERVICE_NS


_NOTE_ON_OUTLIERS: Final = (
    "both outlier rules leave out at most one of the four nodes; on nodes that shed by our shedder, and with "
    "a retry elsewhere, both do equally well here"
)


def virtual(seed: int, progress: Progress, plan: Plan = _PLAN) -> Report:
    """All systems, on the same requests."""
    runs: dict[str, _Run] = {}
    for label in _SYSTEMS:
        progress(len(runs) / len(_SYSTEMS), label)
        runs[label] = _Run(seed, plan, label).run()
    columns = [
        "system",
        "done in time, while sick",
        "worst second",
        "refused",
        "healthy nodes shed",
    ]
    columns += ["acting on another's pressure", "goodput dip"]
    rows: list[list[Cell]] = [
        [
            label,
            run.success(plan.sick, plan.well),
            1.0 - run.dip,
            sum(run.refused) / sum(run.offered),
            run.healthy_shed,
            run.acting_together,
            run.dip,
        ]
        for label, run in runs.items()
    ]
    return Report(
        10,
        _TITLE,
        "virtual",
        _conditions(plan),
        columns,
        rows,
        _series(runs),
        _claims(runs[_OURS]),
        notes=[
            "the dip is of the worst second against the five before the illness, by when requests arrived",
            "what the healthy nodes shed was for bursts of their own, and most of it was done elsewhere",
            _NOTE_ON_OUTLIERS,
        ],
    )


def _conditions(plan: Plan) -> dict[str, str]:
    return {
        "nodes": f"{len(_NODES)}, each {_SEATS} seats, service times exponential with mean "
        f"{_SERVICE_NS / 1e6:g} ms, so C = {capacity():,.0f}/s together",
        "load": f"open loop (Poisson), {_LOAD:g} C over {_EDGES} edges; a caller gives up after "
        f"{_TIMEOUT_NS / 1e6:g} ms; what a node refuses is tried once elsewhere",
        "events": f"node {_SICK} works at a tenth from {plan.sick} to {plan.well} s; the store is dead, and "
        f"has forgotten all, from {plan.killed} to {plan.revived} s",
        "nodes shed": "for their own load by the tiered shedder, and (p - 0.8) of their arrivals for "
        "what the cluster adds to their pressure p, which is the delay of their queue over 20 ms; "
        "the unprotected do not",
    }


def _claims(run: _Run) -> list[Claim]:
    return [
        Claim(
            "no cluster-wide shed: time in which a healthy node acts on another's pressure",
            run.acting_together,
            "<=",
            0.02,
            "of the time",
        ),
        Claim(
            "no cluster-wide shed: what healthy nodes turn away",
            run.healthy_shed,
            "<=",
            0.02,
            "of what they were sent",
        ),
        Claim("goodput dip in the worst second", run.dip, "<=", 0.05, "of what was usual"),
        Claim(
            "a node falls sick: all others know it",
            run.publishes_until_told,
            "<=",
            2,
            "publishes",
        ),
        Claim(
            "the store is back: all know all again",
            run.publishes_until_agreed,
            "<=",
            2,
            "publishes",
        ),
    ]


def _series(runs: dict[str, _Run]) -> list[Series]:
    found = []
    for label, run in runs.items():
        seconds = [float(second) for second in range(run.plan.end)]
        shares = [
            good / max(1, offered) for good, offered in zip(run.good, run.offered, strict=True)
        ]
        found.append(Series("done in time", label, seconds[:-1], shares[:-1], "of arrivals"))
    for label in (_OURS, "all act on the worst pressure"):
        run = runs[label]
        tenths = [place / 10 for place in range(len(run.pressures[_SICK]))]
        found.append(
            Series("pressure", f"{label}: a healthy node acts on", tenths, run.pressures["a"], "p")
        )
    ours = runs[_OURS]
    tenths = [place / 10 for place in range(len(ours.pressures[_SICK]))]
    found.append(Series("pressure", f"{_OURS}: the sick node", tenths, ours.pressures[_SICK], "p"))
    return found


EXPERIMENT: Final = Experiment(
    10,
    _TITLE,
    "Does a node that falls sick stay its own affair, with the store and without?",
    virtual,
)
