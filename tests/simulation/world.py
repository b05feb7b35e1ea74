"""Many nodes, one store, one virtual clock: the real node side of shared limits under every kind of fault.

Each node has an engine of its own, a clock that runs at its own pace and believes in a wall time of its own,
and a courier whose messages are late, lost, doubled and overtaken. The store is the Python reference of the
counters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headgate.clock import Clock
from headgate.engine.counters import REFUND, RENEW
from headgate.engine.counting import Counting
from headgate.engine.engine import Engine
from headgate.engine.pending import Pending
from headgate.engine.sharing import Sharing, SharingSettings
from headgate.lab.simulation import Simulation
from headgate.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.decision import Decision
    from headgate.engine.counters import Answer, Question

MS = 1_000_000
SECOND = 1_000_000_000
DEADLINE = 20 * MS


@dataclass
class Faults:
    """How messages fare at present."""

    least_delay: int = 200_000
    most_delay: int = 2 * MS
    lose: float = 0.0
    double: float = 0.0
    cut_off_after: int = 60 * MS
    """A courier learns so late that a message is lost."""


@dataclass
class Admitted:
    """A request that was let through."""

    at: int
    key: str
    cost: int
    node: str
    degraded: bool


@dataclass
class Tally:
    """What happened."""

    asked: int = 0
    answered: int = 0
    asked_at: list[tuple[int, int]] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)
    longest_wait: int = 0
    waiting: int = 0
    most_waiting: int = 0
    refunded: int = 0


class Link:
    """A node's courier."""

    def __init__(self, world: World, node: Node) -> None:
        self.world = world
        self.node = node

    def send(self, question: Question, done: Callable[[Answer | None], object]) -> None:
        world, faults = self.world, self.world.faults
        rng = world.rng
        if world.is_cut(self.node) or rng.random() < faults.lose:
            world.sim.after(faults.cut_off_after, self._tell, done, None)
            return
        world.sim.after(self._delay(), self._arrive, question, done)
        # Questions about leases are made so that a second one does no harm; others are never sent twice.
        if question.kind == RENEW and rng.random() < faults.double:
            world.sim.after(self._delay() * rng.randrange(1, 30), self._arrive, question, None)

    def later(self, delay_ns: int, callback: Callable[[], object]) -> None:
        self.world.sim.after(self.node.real(delay_ns), self._ring, callback)

    def _delay(self) -> int:
        faults = self.world.faults
        return self.world.rng.randrange(faults.least_delay, faults.most_delay + 1)

    def _arrive(self, question: Question, done: Callable[[Answer | None], object] | None) -> None:
        world = self.world
        if not world.store_is_up:
            answer = None
        else:
            answer = world.counting.ask(question, world.store_us())
            if question.kind == REFUND:
                world.tally.refunded += question.cost
        if done is None:
            return
        if answer is None or world.is_cut(self.node) or world.rng.random() < world.faults.lose:
            world.sim.after(world.faults.cut_off_after, self._tell, done, None)
        else:
            world.sim.after(self._delay(), self._tell, done, answer)

    def _tell(self, done: Callable[[Answer | None], object], answer: Answer | None) -> None:
        if self.node.is_alive:
            done(answer)

    def _ring(self, callback: Callable[[], object]) -> None:
        if self.node.is_alive:
            callback()


class Node:
    """One process."""

    def __init__(self, world: World, name: str, settings: SharingSettings) -> None:
        rng = world.rng
        self.world = world
        self.name = name
        self.is_alive = True
        self.asked = self.answered = 0
        self._pace = 1.0 + rng.uniform(-0.01, 0.01)
        self._born = world.sim.now
        hours_off = rng.uniform(-30, 30) * 3600 * SECOND
        self.clock = Clock(self._now, 1_767_225_600 * SECOND + int(hours_off))
        self.engine = Engine(self.clock)
        self.link = Link(world, self)
        self.sharing = Sharing(
            self.link,
            settings,
            self.clock,
            self.engine.table,
            lambda: world.place(self),
            rng.random,
        )
        self.engine.share(self.sharing)

    def _now(self) -> int:
        return SECOND + int((self.world.sim.now - self._born) * self._pace)

    def real(self, own_ns: int) -> int:
        """How long it takes until so much has passed on this node's clock."""
        return int(own_ns / self._pace) + 1

    def ask(self, attributes: dict[str, str], cost: int = 1) -> None:
        """One request."""
        world, tally = self.world, self.world.tally
        tally.asked += 1
        tally.asked_at.append((world.sim.now, cost))
        self.asked += 1
        began = world.sim.now
        tally.waiting += cost
        tally.most_waiting = max(tally.most_waiting, tally.waiting)
        answers = []

        def answered(decision: Decision) -> None:
            answers.append(decision)
            assert len(answers) == 1, "a request was answered twice"
            tally.answered += 1
            self.answered += 1
            tally.waiting -= cost
            tally.longest_wait = max(tally.longest_wait, world.sim.now - began)
            if decision.allowed and cost > 0:
                key = attributes["key"]
                tally.admitted.append(
                    Admitted(world.sim.now, key, cost, self.name, decision.degraded)
                )
                if world.on_admitted is not None:
                    world.on_admitted(self, attributes, cost, decision)
            else:
                world.denied += 1

        result = self.engine.begin_check(attributes, cost)
        if isinstance(result, Pending):
            result.then(answered)
        else:
            answered(result)
            if result.allowed and not result.degraded:
                self._require_lease(attributes["key"])

    def _require_lease(self, key: str) -> None:
        """What was spent without asking was of a lease that the store knows, and has not ended."""
        for shared in self.sharing._limits:
            lease = shared.leases.get(key)
            if lease is None or not shared.is_leased:
                continue
            ledger = self.world.counting._cells[shared.counter.identity, key].ledger
            entry = ledger.find(self.name)
            assert entry is not None, "the store has no lease of which tokens were spent"
            left_us = entry.expires_us - self.world.store_us()
            assert left_us > 0, f"spent {-left_us} us after the store had ended the lease"
            has = lease.left + lease.pinned
            assert has <= entry.held, f"it has {has} tokens, and the store knows of {entry.held}"

    @property
    def held(self) -> int:
        """Tokens that it has, usable or not."""
        return self.sharing.renewals.book.holdings()[0]

    def usable(self, key: str) -> int:
        """Tokens of a key that it may still spend."""
        now = self.clock.now_ns()
        leases = [shared.leases.get(key) for shared in self.sharing._limits]
        return sum(
            lease.left + lease.pinned
            for lease in leases
            if lease is not None and now < lease.usable_until
        )

    @property
    def is_at_rest(self) -> bool:
        """Nothing is held, owed, waited for or on its way, and the store is believed to be there."""
        sharing = self.sharing
        status = sharing.status()
        flights = [lease.flight for shared in sharing._limits for lease in shared.leases.values()]
        waiters = [
            lease for shared in sharing._limits for lease in shared.leases.values() if lease.waiters
        ]
        return (
            status.is_up
            and status.held == 0
            and status.owed == 0
            and status.refunds_waiting == 0
            and not any(flights)
            and not waiters
            and self.asked == self.answered
        )


class World:
    """All of it."""

    def __init__(
        self,
        seed: int,
        policies: list[dict[str, object]],
        nodes: int = 3,
        *,
        ttl_ns: int = 300 * MS,
        share: float = 0.05,
        max_records: int = 100_000,
    ) -> None:
        self.sim = Simulation(seed)
        self.rng = self.sim.rng
        self.counting = Counting()
        self.faults = Faults()
        self.store_is_up = True
        self.tally = Tally()
        self.denied = 0
        self.on_admitted: Callable[[Node, dict[str, str], int, Decision], None] | None = None
        self._cut: set[str] = set()
        self._lives = 0
        self._policies = policies
        self._options = {"ttl_ns": ttl_ns, "share": share, "max_records": max_records}
        self.version = 1
        self.store_started = 50_000_000_000_000 + self.rng.randrange(10**9)
        self.nodes: list[Node] = []
        for _ in range(nodes):
            self.start_node()

    # What there is ---------------------------------------------------------------------------------

    def start_node(self) -> Node:
        self._lives += 1
        name = f"n{self._lives}"
        node = Node(self, name, SharingSettings(name, deadline_ns=DEADLINE, **self._options))
        for policy in self._policies:
            node.engine.set_policy(Policy.from_dict(policy), self.version)
        self.nodes.append(node)
        return node

    def crash(self, node: Node) -> None:
        """It is gone from one moment to the next, with all that it had."""
        node.is_alive = False
        self.nodes.remove(node)
        self.tally.waiting = 0

    def place(self, node: Node) -> tuple[int, int]:
        names = sorted(one.name for one in self.nodes)
        return (names.index(node.name) if node.name in names else 0), max(1, len(names))

    def store_us(self) -> int:
        return self.store_started + self.sim.now // 1000

    def cut(self, node: Node) -> None:
        self._cut.add(node.name)

    def heal(self, node: Node) -> None:
        self._cut.discard(node.name)

    def is_cut(self, node: Node) -> bool:
        return node.name in self._cut

    def calm(self) -> None:
        """No more faults."""
        self.faults = Faults()
        self.store_is_up = True
        self._cut.clear()

    # What goes on ----------------------------------------------------------------------------------

    def load(
        self,
        index: int,
        per_second: float,
        until: int,
        *,
        keys: int = 1,
        costs: tuple[int, ...] = (1,),
    ) -> None:
        """Requests at random moments on the node at this place, whichever that is by then."""
        rng = self.sim.stream(f"load {index} {per_second} {until}")

        def arrive() -> None:
            if index < len(self.nodes):
                key = f"k{rng.randrange(keys)}" if keys > 1 else "k"
                self.nodes[index].ask({"key": key}, rng.choice(costs))
            plan()

        def plan() -> None:
            wait = int(rng.expovariate(per_second) * SECOND)
            if self.sim.now + wait < until:
                self.sim.after(wait, arrive)

        plan()

    def run(self, until: int) -> None:
        self.sim.run(until)


def most_in_aligned(admitted: list[Admitted], key: str, window_us: int, started_us: int) -> int:
    """The most that was admitted in any window of the store's clock."""
    counts: dict[int, int] = {}
    for one in admitted:
        if one.key == key:
            place = (started_us + one.at // 1000) // window_us
            counts[place] = counts.get(place, 0) + one.cost
    return max(counts.values(), default=0)


def most_above(admitted: list[Admitted], key: str, per_ns: float, since: int = 0) -> float:
    """The most that was admitted in any interval beyond what flows in during it."""
    level = most = 0.0
    last = 0
    for one in admitted:
        if one.key != key or one.at < since:
            continue
        level = max(0.0, level - (one.at - last) * per_ns) + one.cost
        last = one.at
        most = max(most, level)
    return most


def most_in_window(admitted: list[Admitted], key: str, window: int) -> int:
    """The most that was admitted in any interval as long as a window."""
    mine = [one for one in admitted if one.key == key]
    most = inside = first = 0
    for one in mine:
        inside += one.cost
        while mine[first].at <= one.at - window:
            inside -= mine[first].cost
            first += 1
        most = max(most, inside)
    return most
