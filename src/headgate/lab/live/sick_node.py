"""Experiment 10 live: four processes, two edges in this one, and a store that is killed and brought back."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.pressure_header import format_pressure
from headgate.clock import NS_PER_MS, NS_PER_SECOND, SystemClock
from headgate.lab.cluster import PICKERS, TTL_MS
from headgate.lab.live.frames import Status
from headgate.lab.live.load import LiveTime, Remote
from headgate.lab.live.process import server_process
from headgate.lab.live.store import lab_store
from headgate.lab.sick_node import (
    EDGES,
    LOAD,
    NODES,
    SEATS,
    SERVICE_NS,
    SICK,
    SLOWER,
    TENTH_NS,
    TIMEOUT_NS,
    Course,
    Plan,
    Told,
    capacity,
)
from headgate.lab.workload import Arrivals, Tally, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.cluster import Picker
    from headgate.lab.live.store import LabStore
    from headgate.lab.workload import Request

__all__ = ["MOST_TAKEN", "PLAN", "TRIES", "Found", "run", "undisturbed"]

MOST_TAKEN: Final = 0.1
TRIES: Final = 3
PLAN: Final = Plan(measured=3, sick=8, killed=14, revived=20, well=28, end=40)
_APPLICATION: Final = "headgate.lab.live.nodes:node"
_WARMING_NS: Final = NS_PER_SECOND
_LAST_ANSWERS_NS: Final = NS_PER_SECOND // 2
_FOREVER_NS: Final = 3_600 * NS_PER_SECOND


@dataclass(frozen=True)
class Found:
    """A run.

    Attributes:
        course: what happened.
        taken: the share of the machine's processors that went to other programs meanwhile.
    """

    course: Course
    taken: float


@final
class _Node:
    """A process as the edges see it."""

    def __init__(self, name: str, time: LiveTime, port: int, edges: list[_Edge]) -> None:
        self.name = name
        self.header = ""
        self._edges = edges
        self._time = time
        self.remote = Remote(time, port, Tally(0, _FOREVER_NS), self._heard)

    def _heard(self, request: Request, status: Status, pressure: float, now: int) -> None:
        self.header = format_pressure(pressure, 1.0, TTL_MS, now // NS_PER_MS)
        self._edges[request.number % EDGES].heard(self, request, status, now)


@final
class _Edge:
    """Spreads requests over the nodes in turn, less those left out; a refusal is tried once elsewhere."""

    def __init__(self, picker: Picker, course: Course) -> None:
        self._picker = picker
        self._course = course
        self._turn = 0
        self._tried: set[int] = set()
        self.nodes: list[_Node] = []

    def send(self, request: Request) -> None:
        """Send it to the next node."""
        left_out = self._picker.left_out()
        for _ in self.nodes:
            self._turn = (self._turn + 1) % len(self.nodes)
            if self.nodes[self._turn].name not in left_out:
                break
        self.nodes[self._turn].remote.submit(request)

    def heard(self, node: _Node, request: Request, status: Status, now: int) -> None:
        """A node answered."""
        good = status is Status.DONE and now <= request.deadline
        self._picker.heard(node, failed=not good)
        second = request.arrived // NS_PER_SECOND
        if status is Status.DONE:
            self._course.good[second] += good
        elif request.number not in self._tried:
            self._tried.add(request.number)
            self.send(request)
            return
        else:
            self._course.refused[second] += 1
        self._tried.discard(request.number)


@final
@dataclass
class _Diaries:
    """What the nodes wrote down, with moments since the run began."""

    lines: dict[str, list[list[Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: str, origin_ns: int) -> _Diaries:
        found = cls()
        for name in NODES:
            text = (Path(directory) / name).read_text("ascii")
            lines = [json.loads(line) for line in text.splitlines() if line.endswith("]")]
            found.lines[name] = [[line[0] - origin_ns, *line[1:]] for line in lines]
        return found

    def of(self, name: str, what: str) -> list[list[Any]]:
        """The lines of one kind of one node: the moment, and the values."""
        return [[line[0], *line[2:]] for line in self.lines[name] if line[1] == what]

    def fill(self, course: Course) -> None:
        """Put into the course what the nodes alone know."""
        moments = course.plan.end * 10
        healthy = [name for name in NODES if name != SICK]
        course.borrowed = [False] * moments
        for name in NODES:
            line = course.pressures[name] = []
            for at, _own, acting, borrowed, *_ in self.of(name, "tick"):
                place = at // TENTH_NS
                if 0 <= place < moments:
                    # A process that was late leaves out a tenth; there, it still acted on this.
                    line.extend([acting] * (place + 1 - len(line)))
                    course.borrowed[place] |= borrowed and name in healthy
        course.shed_before, course.shed_after = (
            self._counts(healthy, second * NS_PER_SECOND)
            for second in (course.plan.sick, course.plan.well)
        )
        course.notes = sorted(
            (Told(at, name, pressure) for name in NODES for at, pressure in self.of(name, "note")),
            key=lambda note: note.at,
        )
        sick_ns = course.plan.sick * NS_PER_SECOND
        course.told_ns = self._all([self._knows(name, sick_ns) for name in healthy])
        revived_ns = course.plan.revived * NS_PER_SECOND
        course.agreed_ns = self._all(
            [self._hears(name, other, revived_ns) for name in NODES for other in NODES]
        )

    def _counts(self, names: list[str], until_ns: int) -> tuple[int, int]:
        offered = shed = 0
        for name in names:
            ticks = [tick for tick in self.of(name, "tick") if tick[0] <= until_ns]
            offered += ticks[-1][4]
            shed += ticks[-1][5]
        return offered, shed

    def _knows(self, name: str, since_ns: int) -> int:
        """When this node first knew that the sick one alone is sick; 0 when it never did."""
        for at, sick in self.of(name, "sick"):
            if at >= since_ns and sick == [SICK]:
                return int(at)
        return 0

    def _hears(self, name: str, other: str, since_ns: int) -> int:
        """When this node first heard the other since then; its own notes come back to it as well."""
        for at, heard in self.of(name, "heard"):
            if at >= since_ns and heard == other:
                return int(at)
        return 0

    @staticmethod
    def _all(moments: list[int]) -> int:
        """The last of these moments; 0 when one never came."""
        return max(moments) if all(moments) else 0


def run(plan: Plan, acts_on: str, picker: str) -> Found:
    """One system through all of the plan.

    Args:
        plan: its moments, in seconds.
        acts_on: what nodes shed by; see `headgate.lab.cluster.NodeGates`.
        picker: how edges choose nodes; see `headgate.lab.cluster.PICKERS`.

    Raises:
        Unreachable: a process did not start, or ended.
    """
    before = _processor_seconds()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(lab_store())
        directory = stack.enter_context(TemporaryDirectory(prefix="headgate-lab-"))
        ports = [
            stack.enter_context(
                server_process(
                    _APPLICATION,
                    name=name,
                    url=store.url,
                    acts_on=acts_on,
                    seats=SEATS,
                    diary=str(Path(directory) / name),
                )
            ).port
            for name in NODES
        ]
        course = Course(plan)
        origin_ns = _drive(plan, course, picker, ports, store)
        _Diaries.read(directory, origin_ns).fill(course)
    return Found(course, _taken(before))


def undisturbed(attempt: Callable[[], Found]) -> Found:
    """The run in which other programs took least, of one or, where they took much, of up to three."""
    tries = [attempt()]
    while tries[-1].taken > MOST_TAKEN and len(tries) < TRIES:
        tries.append(attempt())
    return min(tries, key=lambda found: found.taken)


def _drive(plan: Plan, course: Course, picker: str, ports: list[int], store: LabStore) -> int:
    """Run the load and the events; when it began, on the machine's clock."""
    time = LiveTime()
    with contextlib.ExitStack() as stack:
        edges = [_Edge(PICKERS[picker](time), course) for _ in range(EDGES)]
        nodes = [_Node(name, time, port, edges) for name, port in zip(NODES, ports, strict=True)]
        for node in nodes:
            stack.enter_context(node.remote)
        for edge in edges:
            edge.nodes = nodes
        SystemClock().sleep(_WARMING_NS / NS_PER_SECOND)
        origin_ns = SystemClock().now_ns() - time.real_now()
        _plan_events(time, plan, nodes[NODES.index(SICK)], store)

        def arrive(request: Request) -> None:
            course.offered[request.arrived // NS_PER_SECOND] += 1
            edges[request.number % EDGES].send(request)

        Arrivals(
            time,
            LOAD * capacity(),
            arrive,
            service=exponential(SERVICE_NS),
            timeout_ns=TIMEOUT_NS,
            until_ns=plan.end * NS_PER_SECOND,
        )
        time.run(plan.end * NS_PER_SECOND + _LAST_ANSWERS_NS)
    return origin_ns


def _plan_events(time: LiveTime, plan: Plan, sick: _Node, store: LabStore) -> None:
    time.at(plan.sick * NS_PER_SECOND, sick.remote.set_speed, 1 / SLOWER)
    time.at(plan.killed * NS_PER_SECOND, store.kill)
    time.at(plan.revived * NS_PER_SECOND, store.start)
    time.at(plan.well * NS_PER_SECOND, sick.remote.set_speed, 1.0)


def _processor_seconds() -> tuple[float, float, float]:
    """Of the machine: all there were, and those in which nobody worked; and ours, by processes that ended."""
    own = os.times()
    ours = own.user + own.system + own.children_user + own.children_system
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text("ascii").split()[1:9]]
    except (OSError, ValueError):
        return 0.0, 0.0, ours
    per_second = os.sysconf("SC_CLK_TCK")
    return sum(ticks) / per_second, (ticks[3] + ticks[4]) / per_second, ours


def _taken(before: tuple[float, float, float]) -> float:
    total, idle, ours = (now - then for now, then in zip(_processor_seconds(), before, strict=True))
    return max(0.0, total - idle - ours) / total if total > 0.0 else 0.0
