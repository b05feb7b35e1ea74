"""Four nodes, two edges that spread the load over them, and a store: the setting of experiment 10.

A node is a server with the gates of this package: a load monitor hears of its queue's delays, a view of the
cluster exchanges pressures with the other nodes by the store, and a shedder acts on the pressure. How much a
node believes others, and how an edge chooses nodes, is what the compared systems differ in.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, final

from headgate.backpressure.ejection import Ejector
from headgate.backpressure.global_pressure import Reports
from headgate.backpressure.pressure_header import format_pressure, parse_pressure
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.errors import StoreUnavailable
from headgate.gates.global_pressure import GlobalPressure
from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.load_shedder import LoadShedder
from headgate.gates.readings import Reading
from headgate.lab.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from headgate.clock import Clock
    from headgate.engine.pressures import PressureBoard, PressureNote
    from headgate.lab.simulation import Simulation
    from headgate.lab.workload import Request

__all__ = [
    "PICKERS",
    "TICK_NS",
    "TTL_MS",
    "Board",
    "ByErrors",
    "ByPressure",
    "Edge",
    "InTurn",
    "Node",
    "NodeGates",
    "Picker",
    "Told",
]

TICK_NS: Final = 100 * NS_PER_MS
TTL_MS: Final = 1_000
_LOOK_NS: Final = 10 * NS_PER_MS


@final
class Board:
    """The store in which the nodes leave their pressures. It can be killed, and then forgets all.

    Attributes:
        log: every note that was left, with the moment.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._notes: dict[str, PressureNote] = {}
        self._alive = True
        self.log: list[tuple[int, PressureNote]] = []

    def kill(self) -> None:
        self._alive = False
        self._notes.clear()

    def revive(self) -> None:
        self._alive = True

    def exchange(self, note: PressureNote | None) -> list[PressureNote]:
        if not self._alive:
            raise StoreUnavailable("the store was killed")
        if note is not None:
            self._notes[note.node] = note
            self.log.append((self._simulation.now, note))
        return list(self._notes.values())

    def close(self) -> None:
        """Nothing to close."""


class _NoReadings:
    """What counts in this experiment are the delays of the queue, and nothing of the machine."""

    def read(self, now_ns: int) -> Reading:
        return Reading()


@final
class NodeGates:
    """The gates of one node, in virtual time or in a process of its own.

    Args:
        name: of the node.
        board: the store.
        acts_on: the pressure that it sheds by: ``own``, ``worst`` of all nodes, ``cluster``; ``nothing``
            never sheds.
        waiting: gives how many requests wait here.
        clock: gives the time.
        stream: gives randomness for one purpose.

    Attributes:
        acts_on: gives the pressure that it sheds by, if it sheds.
        view: of the cluster.
    """

    def __init__(
        self,
        name: str,
        board: PressureBoard,
        acts_on: str,
        waiting: Callable[[], int],
        clock: Clock,
        stream: Callable[[str], Random],
    ) -> None:
        self._monitor = LoadMonitor(readings=_NoReadings(), clock=clock)
        self.view = view = GlobalPressure(name, self._monitor.pressure, shared=board, clock=clock)
        self.acts_on: Callable[[], float] = {
            "nothing": view.local,
            "own": view.local,
            "worst": lambda: max(view.nodes().values()),
            "cluster": view.pressure,
        }[acts_on]
        self._shedders: list[LoadShedder] = []
        if acts_on != "nothing":
            own_load = LoadShedder(
                queue=waiting, clock=clock, uniform=stream(f"{name}/own load").random
            )
            self._shedders = [own_load, self._for_the_cluster(clock, stream(f"{name}/cluster"))]

    def admits(self, tier: int) -> bool:
        """Whether an arrival may come in."""
        return all(shedder.allow(tier) for shedder in self._shedders)

    def waited(self, delay_ns: int) -> None:
        """Hear how long a request waited, or has been waiting."""
        self._monitor.observe_queue_delay(delay_ns / NS_PER_SECOND)

    def sample(self) -> None:
        """Another 100 ms are over."""
        self._monitor.sample()

    def _for_the_cluster(self, clock: Clock, random: Random) -> LoadShedder:
        """Its own pressure is the other shedder's affair; this one acts on what is added to it."""

        def borrowed() -> float:
            pressure = self.acts_on()
            return pressure if pressure > self.view.local() else 0.0

        return LoadShedder(
            "load",
            load=borrowed,
            threshold=0.8,
            rate=1.0,
            multipliers=(1.0,),
            clock=clock,
            uniform=random.random,
        )


@final
class Node:
    """One server of the cluster.

    Args:
        simulation: whose time it is.
        name: its name.
        seats: that work.
        board: the store.
        acts_on: the pressure that it sheds by; see `NodeGates`.
        answered: told of each request that is done.

    Attributes:
        gates: that it stands behind.
        offered, shed: requests that came, and those of them that were turned away.
    """

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        seats: int,
        board: Board,
        acts_on: str,
        answered: Callable[[Node, Request], object],
    ) -> None:
        self.name = name
        self.offered = 0
        self.shed = 0
        self._simulation = simulation
        self._answered = answered
        self._waiting: deque[Request] = deque()
        self.gates = NodeGates(
            name, board, acts_on, self._waiting.__len__, simulation.clock, simulation.stream
        )
        self.server = Server(simulation, self._done, seats=seats, started=self._started)
        self.header = ""
        self.tick()

    def take(self, request: Request) -> bool:
        """A request comes; False when it is shed."""
        self.offered += 1
        if not self.gates.admits(request.tier):
            self.shed += 1
            return False
        self._waiting.append(request)
        self.server.submit(request)
        return True

    def tick(self) -> None:
        """Another 100 ms are over: measure, tell the others, hear them."""
        now = self._simulation.now
        if self._waiting:
            self.gates.waited(now - self._waiting[0].arrived)
        self.gates.sample()
        self.gates.view.exchange()
        self.header = format_pressure(self.gates.view.local(), 1.0, TTL_MS, now // NS_PER_MS)

    def _started(self, request: Request) -> bool:
        self._waiting.popleft()
        self.gates.waited(self._simulation.now - request.arrived)
        return True

    def _done(self, request: Request) -> None:
        self._answered(self, request)


class Told(Protocol):
    """A node, as far as a picker knows it: its name, and what it said of its pressure last."""

    name: str
    header: str


class Picker(Protocol):
    """How an edge chooses a node, and what it learns from answers."""

    def left_out(self) -> list[str]:
        """The nodes that get nothing now."""

    def heard(self, node: Told, *, failed: bool) -> None:
        """A node answered in time; or refused, or not in time."""


@final
class InTurn:
    """Nobody is left out."""

    def left_out(self) -> list[str]:
        return []

    def heard(self, node: Told, *, failed: bool) -> None:
        """Nothing to learn."""


@final
class ByErrors:
    """Outlier detection as Envoy has it by default.

    Five failures in a row leave a node out for 30 s, times how often that happened.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._failures: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._until: dict[str, int] = {}

    def left_out(self) -> list[str]:
        now = self._simulation.now
        return [node for node, until in self._until.items() if now < until][:1]

    def heard(self, node: Told, *, failed: bool) -> None:
        count = self._failures.get(node.name, 0) + 1 if failed else 0
        self._failures[node.name] = count
        if count >= 5 and self._until.get(node.name, 0) <= self._simulation.now:
            self._times[node.name] = self._times.get(node.name, 0) + 1
            self._failures[node.name] = 0
            self._until[node.name] = (
                self._simulation.now + 30 * NS_PER_SECOND * self._times[node.name]
            )


@final
class ByPressure:
    """Headgate: the outliers by the pressure that comes with every answer, refusals too."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._reports = Reports()
        self._ejector = Ejector()
        self._uniform = simulation.stream("edge/ejector").random
        self._out: list[str] = []
        self._looked_ns = -TICK_NS

    def left_out(self) -> list[str]:
        now = self._simulation.now
        if now - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now
            told = self._reports.all(0.0, now)
            pressures = {node: pressure for node, (pressure, _) in told.items()}
            self._out = self._ejector.update(pressures, now, self._uniform())
        return self._out

    def heard(self, node: Told, *, failed: bool) -> None:
        report = parse_pressure(node.header)
        if report is not None:
            now, fresh_ns = self._simulation.now, report.ttl_ms * NS_PER_MS
            self._reports.take(node.name, report.p, report.seq, now, fresh_ns=fresh_ns)


PICKERS: Final[dict[str, Callable[..., Picker]]] = {
    "in turn": lambda _: InTurn(),
    "by errors": ByErrors,
    "by pressure": ByPressure,
}


@final
class Edge:
    """Spreads requests over the nodes in turn, less those left out; a refusal is tried once elsewhere."""

    def __init__(self, nodes: list[Node], picker: Picker) -> None:
        self._nodes = nodes
        self._picker = picker
        self._turn = 0

    def send(self, request: Request) -> bool:
        """Send a request; False when two nodes refused it."""
        left_out = self._picker.left_out()
        for _ in range(2):
            node = self._next(left_out)
            if node.take(request):
                return True
            self._picker.heard(node, failed=True)
        return False

    def heard(self, node: Node, *, failed: bool) -> None:
        """An answer came from a node, or did not come in time."""
        self._picker.heard(node, failed=failed)

    def _next(self, left_out: list[str]) -> Node:
        for _ in self._nodes:
            self._turn = (self._turn + 1) % len(self._nodes)
            if self._nodes[self._turn].name not in left_out:
                break
        return self._nodes[self._turn]
