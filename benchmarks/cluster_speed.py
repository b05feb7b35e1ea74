"""Figure 2 of many nodes: what a shared decision costs its node, and how few commands reach the store.

One node on one core, the store on the other. A hot key is asked in runs of 2,000, after each of which
the loop has its turn, so that renewals, timers and connections are in the figure; `local` and `leased`
take turns. `strict` keeps so many questions open at a time. Beside it, `limits` and `throttled-py` ask
the same Valkey, each as its documentation shows. CPU is user and system time of the node's process.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cluster_node import shared_engine
from benchmarks.cluster_peers import PEERS
from benchmarks.cluster_store import commands_of, redis, url_of
from benchmarks.harness import Report, arguments, is_compiled, progress
from benchmarks.processes import SERVER_CORE, Unavailable, cpu_ns, load_core, pin
from headgate.engine.pending import Pending

if TYPE_CHECKING:
    from benchmarks.cluster_node import Shared
    from headgate.decision import Decision
    from headgate.engine.engine import Engine
    from scripts.local_cluster import Part

RUN = 2_000
WARM_SECONDS = 0.3
LEAST_OF_LOCAL = 0.9
MOST_COMMANDS = 0.01
LEAST_STRICT = 40_000.0
AMPLE = 1_000_000_000
TIGHT = 100_000
OPEN = (64, 512)


def policy(name: str, consistency: str, limit: int) -> dict[str, Any]:
    return {
        "name": name,
        "limit": limit,
        "window": "1s",
        "consistency": consistency,
        "dimensions": [name],
    }


POLICIES = [
    policy("local", "local", AMPLE),
    policy("leased", "leased", AMPLE),
    policy("local-tight", "local", TIGHT),
    policy("leased-tight", "leased", TIGHT),
    policy("strict", "strict", AMPLE),
]
HOT = [
    ("local", "local, hot key"),
    ("leased", "leased, hot key"),
    ("local-tight", f"local, hot key, {TIGHT:,}/s: most are refused"),
    ("leased-tight", f"leased, hot key, {TIGHT:,}/s: most are refused"),
]


@dataclass
class Seen:
    """One round of one thing."""

    decisions: int
    seconds: float
    cpu_ns: int
    commands: int = 0
    store_cpu_ns: int = 0
    waited: int = 0

    @property
    def each_ns(self) -> float:
        return self.cpu_ns / self.decisions


class Meter:
    """Takes the time, the CPU time and the commands of a round."""

    def __init__(self, store: Part) -> None:
        from redis import Redis

        self.client = Redis(port=store.port)
        self.store = store

    def begin(self) -> None:
        self.commands = commands_of(self.client)
        self.store_cpu = cpu_ns(self.store.pid)
        self.cpu = time.process_time_ns()
        self.wall = time.perf_counter_ns()

    def end(self, decisions: int) -> Seen:
        wall = time.perf_counter_ns() - self.wall
        cpu = time.process_time_ns() - self.cpu
        store_cpu = cpu_ns(self.store.pid) - self.store_cpu
        return Seen(decisions, wall / 1e9, cpu, commands_of(self.client) - self.commands, store_cpu)


async def hot(engine: Engine, name: str, seconds: float, meter: Meter) -> Seen:
    """Ask one key as fast as it goes, once it is known that it is hot."""
    await ask_hot(engine, name, min(seconds, WARM_SECONDS))
    meter.begin()
    decisions, waited = await ask_hot(engine, name, seconds)
    seen = meter.end(decisions)
    seen.waited = waited
    return seen


async def ask_hot(engine: Engine, name: str, seconds: float) -> tuple[int, int]:
    begin_check, attributes = engine.begin_check, {name: "hot"}
    waited = decisions = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for _ in range(RUN):
            if isinstance(begin_check(attributes), Pending):
                waited += 1
        decisions += RUN
        await asyncio.sleep(0)
    return decisions, waited


class Closed:
    """Keeps so many strict questions open; each answer makes room for the next."""

    def __init__(self, engine: Engine, keys: int, most: int) -> None:
        self.engine = engine
        self.attributes = [{"strict": f"key-{number}"} for number in range(keys)]
        self.room = most
        self.most = most
        self.done = 0
        self.degraded = 0
        self.turn = False
        self.stopping = False
        self.loop = asyncio.get_running_loop()

    async def run(self, seconds: float, meter: Meter) -> Seen:
        meter.begin()
        before = self.done
        self.fill()
        await asyncio.sleep(seconds)
        seen = meter.end(self.done - before)
        self.stopping = True
        await asyncio.sleep(0.05)
        return seen

    def fill(self) -> None:
        self.turn = False
        begin_check, attributes = self.engine.begin_check, self.attributes
        while self.room and not self.stopping:
            self.room -= 1
            answer = begin_check(attributes[(self.done + self.room) % len(attributes)])
            if isinstance(answer, Pending):
                answer.then(self.take)
            else:
                self.take(answer)
                break  # it answers by itself: the store is away, and the loop must have its turn

    def take(self, decision: Decision) -> None:
        self.done += 1
        self.degraded += decision.degraded
        self.room += 1
        if not self.turn:
            self.turn = True
            self.loop.call_soon(self.fill)


async def measure(report: Report, *, quick: bool) -> None:
    rounds, seconds = (1, 0.2) if quick else (7, 0.5)
    with redis(load_core()) as store:
        pin(SERVER_CORE)
        meter = Meter(store)
        settings = {"deadline_ns": 200_000_000}
        async with shared_engine(url_of(store), POLICIES, settings=settings) as shared:
            gc.collect()
            gc.freeze()
            tell_hot(report, await hot_rounds(shared, rounds, seconds, meter))
            strict = await strict_rounds(shared, 1 if quick else 3, 0.3 if quick else 1.0, meter)
        peers = await peer_rounds(url_of(store), meter, 0.2 if quick else 1.0, 1 if quick else 3)
    tell_strict(report, strict, peers)


async def hot_rounds(
    shared: Shared, rounds: int, seconds: float, meter: Meter
) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {name: [] for name, _ in HOT}
    for name, _ in HOT:
        await hot(shared.engine, name, 0.3, meter)
    for number in range(rounds):
        progress(f"hot keys, round {number + 1} of {rounds}")
        for name, _ in HOT:
            found[name].append(await hot(shared.engine, name, seconds, meter))
    return found


async def strict_rounds(
    shared: Shared, rounds: int, seconds: float, meter: Meter
) -> dict[tuple[int, int], list[Seen]]:
    found: dict[tuple[int, int], list[Seen]] = {}
    for number in range(rounds):
        for keys in (1, 1_000):
            for most in OPEN:
                progress(f"strict, {most} open, {keys} keys, round {number + 1} of {rounds}")
                closed = Closed(shared.engine, keys, most)
                seen = await closed.run(seconds, meter)
                if closed.degraded:
                    progress(f"{closed.degraded} answers were degraded")
                found.setdefault((keys, most), []).append(seen)
    return found


async def peer_rounds(
    url: str, meter: Meter, seconds: float, rounds: int
) -> dict[str, list[Seen] | str]:
    found: dict[str, list[Seen] | str] = {}
    for _ in range(rounds):
        for label, make in PEERS.items():
            if isinstance(found.get(label), str):
                continue
            progress(f"beside: {label}")
            try:
                ask = make(url)
                await ask(0.05)
                meter.begin()
                seen = meter.end(await ask(seconds))
            except Exception as trouble:  # noqa: BLE001 - another library's; told and left out
                found[label] = f"{type(trouble).__name__}: {trouble}"[:120]
                continue
            known = found.setdefault(label, [])
            assert isinstance(known, list)
            known.append(seen)
    return found


def tell_hot(report: Report, found: dict[str, list[Seen]]) -> None:
    table = report.table(
        "One node, one core, the turns of the loop included",
        "",
        "CPU ns per decision, median",
        "min",
        "decisions/s (wall), median",
        "of local, per CPU",
        "commands per 100 decisions",
        "waited",
        note="waited: decisions that could not be given at once",
    )
    for name, label in HOT:
        seen = found[name]
        base = found["local" + name.removeprefix("local").removeprefix("leased")]
        ratio = median(b.each_ns / s.each_ns for s, b in zip(seen, base, strict=True))
        decisions = sum(one.decisions for one in seen)
        commands = sum(one.commands for one in seen) / decisions
        table.add(
            label,
            median(one.each_ns for one in seen),
            min(one.each_ns for one in seen),
            round(median(one.decisions / one.seconds for one in seen)),
            f"{ratio:.3f}",
            f"{commands * 100:.4f}",
            f"{sum(one.waited for one in seen) / decisions:.2%}",
        )
        if name.startswith("leased"):
            judge_leased(report, label, ratio, commands)


def judge_leased(report: Report, label: str, ratio: float, commands: float) -> None:
    figure, measured = f"{label}: decisions per CPU second, of local", f"{ratio:.3f}"
    if str(TIGHT) in label.replace(",", ""):
        # Near the limit a lease is a few tokens; who comes when they are spent waits for the next message.
        report.judge(figure, "none promised", measured, met=None)
    else:
        met = ratio >= LEAST_OF_LOCAL if is_compiled() else None
        report.judge(figure, f">= {LEAST_OF_LOCAL}", measured, met=met)
    report.judge(
        f"{label}: commands per 100 decisions",
        "<= 1",
        f"{commands * 100:.4f}",
        met=commands <= MOST_COMMANDS,
    )


def tell_strict(
    report: Report,
    strict: dict[tuple[int, int], list[Seen]],
    peers: dict[str, list[Seen] | str],
) -> None:
    table = report.table(
        "Every decision asked of the same Valkey",
        "",
        "decisions/s (wall), median",
        "per CPU second of the node, median",
        "CPU us each, min",
        "decisions per command",
        "us CPU of the store each",
    )
    for (keys, most), seen in strict.items():
        row(table, f"headgate strict, {most} at a time, {keys:,} keys", seen)
    for label, result in peers.items():
        if isinstance(result, str):
            report.note(f"{label} could not be asked: {result}")
        else:
            row(table, label, result)
    best = max(strict, key=lambda one: one[1])
    per_cpu = median(1e9 / one.each_ns for one in strict[best])
    wall = median(one.decisions / one.seconds for one in strict[best])
    report.at_least(
        f"strict, {best[1]} at a time: decisions/s per node core (CPU)",
        per_cpu if is_compiled() else float("nan"),
        LEAST_STRICT,
        "/s",
        f"{wall:,.0f}/s of wall time",
    )


def row(table: Any, label: str, seen: list[Seen]) -> None:
    decisions = sum(one.decisions for one in seen)
    table.add(
        label,
        round(median(one.decisions / one.seconds for one in seen)),
        round(median(1e9 / one.each_ns for one in seen)),
        min(one.each_ns for one in seen) / 1e3,
        decisions / max(1, sum(one.commands for one in seen)),
        sum(one.store_cpu_ns for one in seen) / decisions / 1e3,
    )


def run(*, quick: bool) -> Report:
    report = Report("cluster_speed", "2. What a shared decision costs", quick=quick)
    try:
        run_loop(measure(report, quick=quick))
    except Unavailable as missing:
        report.unavailable("leased and strict decisions", "see the issue", str(missing))
    return report


def run_loop(main: Any) -> None:
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
