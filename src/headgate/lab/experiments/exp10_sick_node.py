"""Experiment 10: four nodes, one falls sick, and the store is killed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.cluster import PICKERS, TICK_NS, Board, Edge, Node
from headgate.lab.live.sick_node import MOST_TAKEN, TRIES, undisturbed
from headgate.lab.live.sick_node import PLAN as LIVE_PLAN
from headgate.lab.live.sick_node import run as run_live
from headgate.lab.report import Experiment, Report
from headgate.lab.sick_node import (
    EDGES,
    LOAD,
    NODES,
    SEATS,
    SERVICE_NS,
    SICK,
    SLOWER,
    SYSTEMS,
    TIMEOUT_NS,
    TITLE,
    Course,
    Plan,
    Told,
    capacity,
    report_of,
)
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, exponential

if TYPE_CHECKING:
    from headgate.lab.report import Progress
    from headgate.lab.workload import Request

__all__ = ["EXPERIMENT", "Plan", "live", "virtual"]

_PLAN: Final = Plan()


class _Run:
    """One system through all of the plan, in virtual time."""

    def __init__(self, seed: int, plan: Plan, system: str) -> None:
        acts_on, picker = SYSTEMS[system]
        self.simulation = Simulation(seed)
        self.plan = plan
        self.course = Course(plan)
        self.board = Board(self.simulation)
        self.nodes = [
            Node(self.simulation, name, SEATS, self.board, acts_on, self._answered)
            for name in NODES
        ]
        make = PICKERS[picker]
        self.edges = [Edge(self.nodes, make(self.simulation)) for _ in range(EDGES)]
        self._plan_events()

    def run(self) -> Course:
        self.simulation.run(self.plan.end * NS_PER_SECOND)
        self.course.notes = [Told(at, note.node, note.pressure) for at, note in self.board.log]
        return self.course

    def _plan_events(self) -> None:
        simulation, plan = self.simulation, self.plan
        for place, node in enumerate(self.nodes):  # the nodes do not tick in step
            simulation.at(place * TICK_NS // len(self.nodes), simulation.every, TICK_NS, node.tick)
        Arrivals(
            simulation,
            LOAD * capacity(),
            self._arrive,
            service=exponential(SERVICE_NS),
            timeout_ns=TIMEOUT_NS,
        )
        simulation.every(TICK_NS, self._note)
        simulation.every(10 * NS_PER_MS, self._watch)
        simulation.at(plan.sick * NS_PER_SECOND, self._fall_sick)
        simulation.at(plan.killed * NS_PER_SECOND, self.board.kill)
        simulation.at(plan.revived * NS_PER_SECOND, self.board.revive)
        simulation.at(plan.well * NS_PER_SECOND, self._get_well)

    def _arrive(self, request: Request) -> None:
        second = request.arrived // NS_PER_SECOND
        self.course.offered[second] += 1
        self.course.refused[second] += not self.edges[request.number % EDGES].send(request)

    def _answered(self, node: Node, request: Request) -> None:
        good = self.simulation.now <= request.deadline
        self.course.good[request.arrived // NS_PER_SECOND] += good
        self.edges[request.number % EDGES].heard(node, failed=not good)

    def _fall_sick(self) -> None:
        self._sick_node.server.speed = 1 / SLOWER
        self.course.shed_before = self._healthy_counts()

    def _get_well(self) -> None:
        self._sick_node.server.speed = 1.0
        self.course.shed_after = self._healthy_counts()

    @property
    def _sick_node(self) -> Node:
        return self.nodes[NODES.index(SICK)]

    def _healthy_counts(self) -> tuple[int, int]:
        healthy = [node for node in self.nodes if node.name != SICK]
        return sum(node.offered for node in healthy), sum(node.shed for node in healthy)

    def _note(self) -> None:
        acting = {node.name: node.gates.acts_on() for node in self.nodes}
        for name, pressure in acting.items():
            self.course.pressures[name].append(pressure)
        healthy = [node for node in self.nodes if node.name != SICK]
        borrowed = any(acting[node.name] > node.gates.view.local() for node in healthy)
        self.course.borrowed.append(borrowed)

    def _watch(self) -> None:
        now, course = self.simulation.now, self.course
        if course.told_ns == 0 and now >= self.plan.sick * NS_PER_SECOND and self._all_know():
            course.told_ns = now
        if course.agreed_ns == 0 and now >= self.plan.revived * NS_PER_SECOND and self._agree():
            course.agreed_ns = now

    def _all_know(self) -> bool:
        """Whether each healthy node knows that the sick one is."""
        return all(node.gates.view.sick() == [SICK] for node in self.nodes if node.name != SICK)

    def _agree(self) -> bool:
        """Whether each node has heard each other one since the store is back."""
        back_ns = self.plan.revived * NS_PER_SECOND
        return all(
            (heard := node.gates.view.heard_ns(other.name)) is not None and heard >= back_ns
            for node in self.nodes
            for other in self.nodes
            if other is not node
        )


def virtual(seed: int, progress: Progress, plan: Plan = _PLAN) -> Report:
    """All systems, on the same requests."""
    courses: dict[str, Course] = {}
    for label in SYSTEMS:
        progress(len(courses) / len(SYSTEMS), label)
        courses[label] = _Run(seed, plan, label).run()
    return report_of(courses, "virtual")


def live(progress: Progress, plan: Plan = LIVE_PLAN) -> Report:
    """All systems with processes for nodes, and a private Redis or Valkey that is killed."""
    courses: dict[str, Course] = {}
    taken = 0.0
    for label, (acts_on, picker) in SYSTEMS.items():
        progress(len(courses) / len(SYSTEMS), label)
        found = undisturbed(lambda: run_live(plan, acts_on, picker))  # noqa: B023 - called here
        courses[label] = found.course
        taken = max(taken, found.taken)
    report = report_of(courses, "live")
    report.conditions["processes"] = (
        "each node one, that waits for work done elsewhere; the store a private Redis or Valkey, killed with "
        f"-9; other programs took up to {taken:.0%} of the processors meanwhile (again, up to {TRIES} times, "
        f"where it was more than {MOST_TAKEN:.0%})"
    )
    return report


EXPERIMENT: Final = Experiment(
    10,
    TITLE,
    "Does a node that falls sick stay its own affair, with the store and without?",
    virtual,
    live,
)
