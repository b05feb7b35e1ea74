"""Runs that are made up from a seed, and what has to hold in each of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from headgate.policy import Policy
from tests.simulation.world import (
    DEADLINE,
    MS,
    Faults,
    World,
    most_above,
    most_in_aligned,
    most_in_window,
)

if TYPE_CHECKING:
    from headgate.policy.model import LimitSpec

ALGORITHMS: Final = (
    "token_bucket",
    "token_bucket",
    "leaky_bucket",
    "fixed_window",
    "sliding_window_log",
)
FAULTS_FROM: Final = 200 * MS
FAULTS_UNTIL: Final = 1100 * MS
LOAD_UNTIL: Final = 2700 * MS
END: Final = 4000 * MS
TTL: Final = 300 * MS
ENDS_LEASES: Final = {"crash", "restart", "away", "cut", "loss", "late"}
LAST_PROBE: Final = 500 * MS


@dataclass
class Plan:
    """What a seed stands for."""

    document: dict[str, object]
    nodes: int
    share: float
    rates: list[float]
    """Requests per second, by node."""
    costs: tuple[int, ...]
    faults: list[str]


def plan_of(seed: int, failure_mode: str = "closed") -> Plan:
    """The run of a seed."""
    rng = Random(f"plan {seed}")
    limit = rng.choice((20, 60, 100, 200))
    algorithm = rng.choice(ALGORITHMS)
    window = rng.choice(("1s", "500ms"))
    document: dict[str, object] = {
        "name": "api",
        "algorithm": algorithm,
        "limit": limit,
        "window": window,
        "consistency": rng.choice(("leased", "leased", "leased", "strict")),
        "failure_mode": failure_mode,
    }
    if "bucket" in algorithm and rng.random() < 0.5:
        document["burst"] = max(5, limit // rng.choice((2, 4, 10)))
    nodes = rng.choice((1, 2, 3, 3, 4))
    costs = rng.choice(((1,), (1,), (1, 1, 2, 5)))
    per_second = limit * (2 if window == "500ms" else 1)
    mean = sum(costs) / len(costs)
    total = min(600.0, per_second * rng.choice((0.7, 1.5, 3.0)) / mean)
    weights = [rng.choice((1, 1, 5)) for _ in range(nodes)]
    rates = [total * weight / sum(weights) for weight in weights]
    kinds = ("loss", "slow", "late", "cut", "away", "crash", "restart", "change", "none")
    faults = [rng.choice(kinds) for _ in range(rng.choice((1, 2, 3)))]
    return Plan(document, nodes, rng.choice((0.05, 0.2, 0.5)), rates, costs, faults)


class Run:
    """One seed, from beginning to end."""

    def __init__(self, seed: int, failure_mode: str = "closed") -> None:
        self.failure_mode = failure_mode
        self.plan = plan_of(seed, failure_mode)
        self.spec: LimitSpec = Policy.from_dict(self.plan.document).levels[0].spec
        self.world = World(
            seed, [self.plan.document], self.plan.nodes, ttl_ns=TTL, share=self.plan.share
        )
        self.capacity = self.spec.rate.capacity
        self.bound = max(1, int(self.capacity * self.plan.share))
        self.most_usable = 0

    def play(self) -> None:
        """Let it happen."""
        world, plan = self.world, self.plan
        for index, rate in enumerate(plan.rates):
            world.load(index, rate, LOAD_UNTIL, costs=plan.costs)
        for place, kind in enumerate(plan.faults):
            rng = world.sim.stream(f"fault {place}")
            begins = rng.randrange(FAULTS_FROM, FAULTS_UNTIL - 100 * MS)
            ends = rng.randrange(begins, FAULTS_UNTIL)
            getattr(self, f"_{kind}")(begins, ends, rng)
        world.sim.at(FAULTS_UNTIL, world.calm)
        world.sim.every(20 * MS, self._watch)
        world.run(END)

    # Faults ----------------------------------------------------------------------------------------

    def _none(self, begins: int, ends: int, rng: Random) -> None:
        return

    def _set(self, begins: int, ends: int, faults: Faults) -> None:
        def begin() -> None:
            self.world.faults = faults

        def end() -> None:
            self.world.faults = Faults()

        self.world.sim.at(begins, begin)
        self.world.sim.at(ends, end)

    def _loss(self, begins: int, ends: int, rng: Random) -> None:
        lose = rng.choice((0.02, 0.2))
        cut_off = rng.choice((1, 10, 60, 400)) * MS
        self._set(begins, ends, Faults(lose=lose, double=0.3, cut_off_after=cut_off))

    def _slow(self, begins: int, ends: int, rng: Random) -> None:
        self._set(begins, ends, Faults(least_delay=100_000, most_delay=9 * MS, double=0.2))

    def _late(self, begins: int, ends: int, rng: Random) -> None:
        self._set(begins, ends, Faults(least_delay=MS, most_delay=400 * MS, double=0.1))

    def _cut(self, begins: int, ends: int, rng: Random) -> None:
        node = rng.choice(self.world.nodes)
        self.world.sim.at(begins, self.world.cut, node)
        self.world.sim.at(ends, self.world.heal, node)

    def _away(self, begins: int, ends: int, rng: Random) -> None:
        def switch(is_up: bool) -> None:
            self.world.store_is_up = is_up

        self.world.sim.at(begins, switch, False)
        self.world.sim.at(ends, switch, True)

    def _crash(self, begins: int, ends: int, rng: Random) -> None:
        def crash() -> None:
            if len(self.world.nodes) > 1:
                self.world.crash(rng.choice(self.world.nodes))

        self.world.sim.at(begins, crash)

    def _restart(self, begins: int, ends: int, rng: Random) -> None:
        def crash() -> None:
            if not self.world.nodes:
                return
            self.world.crash(rng.choice(self.world.nodes))

        self.world.sim.at(begins, crash)
        self.world.sim.at(ends, self.world.start_node)

    def _change(self, begins: int, ends: int, rng: Random) -> None:
        """Other settings in between, and back again; each node hears of it when it does."""

        def change(index: int, document: dict[str, object], version: int) -> None:
            if index < len(self.world.nodes):
                engine = self.world.nodes[index].engine
                engine.set_policy(Policy.from_dict(document), version)

        other = dict(self.plan.document, limit=max(1, int(self.capacity * 0.5)))
        other.pop("burst", None)
        for index in range(4):
            self.world.sim.at(begins + rng.randrange(50 * MS), change, index, other, 2)
            self.world.sim.at(ends + rng.randrange(50 * MS), change, index, self.plan.document, 3)
            self.world.sim.at(FAULTS_UNTIL, change, index, self.plan.document, 3)

    def _watch(self) -> None:
        usable = sum(node.usable("k") for node in self.world.nodes)
        self.most_usable = max(self.most_usable, usable)

    # What has to hold ------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that holds for every run."""
        self.check_waits()
        if (
            self.failure_mode == "closed"
        ):  # else more is admitted on purpose while nodes are cut off
            self.check_limit()
        self.check_rest()
        self.check_flow()

    def check_waits(self) -> None:
        tally = self.world.tally
        assert tally.longest_wait <= DEADLINE * 1.02 + MS, f"waited {tally.longest_wait / MS} ms"
        assert self.most_usable <= self.bound, f"held {self.most_usable}, bound {self.bound}"

    def check_limit(self) -> None:
        """Never above the limit and the stated bound, in any window."""
        admitted, rate = self.world.tally.admitted, self.spec.rate
        per_ns = rate.limit / rate.window_ns
        if "bucket" in self.spec.algorithm:
            # What was spent in the store may have been answered as late as the deadline.
            most = most_above(admitted, "k", per_ns)
            allowed = self.capacity + self.bound + per_ns * DEADLINE * 1.1 + 1
            # What the store spent for requests that had not waited came back to it later.
            allowed += self.world.tally.refunded
        elif self.spec.algorithm == "fixed_window":
            started = self.world.store_started
            most = most_in_aligned(admitted, "k", rate.window_ns // 1000, started)
            allowed = self.capacity + self.bound + self.world.tally.most_waiting
        else:
            most = most_in_window(admitted, "k", rate.window_ns)
            allowed = self.capacity + self.bound + self.world.tally.most_waiting
        if "change" in self.plan.faults:
            # The other settings have half the room: what did not fit into that is forgotten.
            allowed += self.capacity - self.capacity // 2 + self.bound
        if "bucket" not in self.spec.algorithm and set(self.plan.faults) & ENDS_LEASES:
            # A window gets back what was held as last reported, and of that some was spent unreported.
            allowed += self.bound
        assert most <= allowed, (
            f"admitted {most}, allowed {allowed} ({self.capacity} + {self.bound})"
        )

    def check_rest(self) -> None:
        """Every node converges."""
        for node in self.world.nodes:
            assert node.is_at_rest, f"{node.name} is not at rest: {vars_of(node)}"
        counting, at_us = self.world.counting, self.world.store_us()
        for node in self.world.nodes:
            for counter, key in node.sharing.counters("k"):
                held = [one for one in counting.leases(counter, key, at_us) if one[1]]
                assert not held, f"the store still counts {held}"

    def check_flow(self) -> None:
        """No allowance is lost for longer than a lease."""
        rate = self.spec.rate
        since = FAULTS_UNTIL + LAST_PROBE + TTL + 2 * DEADLINE
        if not self.world.nodes or 4 * max(self.plan.costs) > self.capacity:
            return
        tally = self.world.tally
        got = sum(one.cost for one in tally.admitted if since <= one.at < LOAD_UNTIL)
        asked = sum(cost for at, cost in tally.asked_at if since <= at < LOAD_UNTIL)
        flows_in = rate.limit / rate.window_ns * (LOAD_UNTIL - since)
        if "bucket" not in self.spec.algorithm:
            flows_in -= rate.limit  # the windows at both ends are not whole
        # What does not fit into what is left is refused: so costly requests leave something over.
        over = self.bound + 3 + 2 * max(self.plan.costs)
        least = 0.85 * min(flows_in, asked) - over
        assert got >= least, (
            f"only {got} of {asked} got through after the faults; {flows_in:.0f} fit"
        )


def vars_of(node: object) -> dict[str, object]:
    status = node.sharing.status()  # type: ignore[attr-defined]
    names = ("is_up", "held", "owed", "refunds_waiting", "in_flight")
    return {name: getattr(status, name) for name in names}


def play(seed: int, failure_mode: str = "closed") -> Run:
    """One seed, checked."""
    run = Run(seed, failure_mode)
    try:
        run.play()
        run.check()
    except Exception as error:
        message = (
            f"seed {seed}: {error}\n{run.plan}\n"
            f"replay it alone: HEADGATE_SEED={seed} HEADGATE_FAILURE_MODE={failure_mode} "
            "pytest tests/simulation -k replay"
        )
        raise AssertionError(message) from error
    return run
