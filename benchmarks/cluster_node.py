"""One node as the cluster's benches drive it: an engine that shares its limits, asked in its own process.

It is told what to do in one line of JSON (`Task`), says "ready", waits for the moment at which all nodes
begin, asks its engine as often as its streams say, and prints what it counted. Asking in the process
leaves the cost of HTTP out: what is under test are the counts, the leases and the waits.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from array import array
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.clock import SystemClock
from headgate.engine.engine import Engine
from headgate.engine.pending import Pending
from headgate.engine.sharing import Sharing, SharingSettings
from headgate.policy.model import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.coordination.courier import Courier
    from headgate.decision import Decision

SLOT_NS = 10_000_000
TICK = 0.001
MOST_PER_TICK = 2_000


@dataclass
class Shared:
    """An engine, and what carries its questions."""

    engine: Engine
    courier: Courier
    sharing: Sharing


@asynccontextmanager
async def shared_engine(
    redis_url: str,
    policies: list[dict[str, Any]],
    *,
    node: str = "bench",
    rank: int = 0,
    nodes: int = 1,
    cluster: str = "bench",
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[Shared]:
    """Put together as the service does it, without the service."""
    from benchmarks.cluster_store import open_counters
    from headgate.coordination.courier import Courier

    store = await open_counters(redis_url, cluster)
    courier = Courier(store)
    engine = Engine(SystemClock())
    terms = SharingSettings(node=node, **(settings or {}))
    sharing = Sharing(courier, terms, engine.clock, engine.table, lambda: (rank, nodes))
    engine.share(sharing)
    for policy in policies:
        engine.set_policy(Policy.from_dict(policy), 1)
    try:
        yield Shared(engine, courier, sharing)
    finally:
        await courier.close()
        await store.close()


@dataclass
class Stream:
    """Requests of one policy, and what became of them, by slots of 10 ms of the wall.

    Attributes:
        policy: whose dimension has the same name.
        per_second: how many on average.
        burst: seconds between bursts, each of which brings as many as the average asks for; 0: evenly.
        keys: that it goes round.
    """

    policy: str
    per_second: float
    burst: float = 0.0
    keys: int = 1
    sent: int = 0
    answered: array[int] = field(default_factory=lambda: array("q"))
    admitted: array[int] = field(default_factory=lambda: array("q"))
    degraded: array[int] = field(default_factory=lambda: array("q"))
    longest: array[int] = field(default_factory=lambda: array("q"))
    waited: int = 0
    attributes: list[dict[str, str]] = field(default_factory=list)

    def prepare(self, slots: int) -> None:
        for series in (self.answered, self.admitted, self.degraded, self.longest):
            series.extend([0] * slots)
        self.attributes = [{self.policy: f"key-{number}"} for number in range(self.keys)]

    def due(self, elapsed: float) -> int:
        """How many more are to be sent by now."""
        if self.burst:
            elapsed = (elapsed // self.burst) * self.burst
        return int(self.per_second * elapsed) - self.sent

    def count(self, decision: Decision, slot: int, took: int) -> None:
        if slot >= len(self.answered):
            slot = len(self.answered) - 1
        self.answered[slot] += 1
        self.admitted[slot] += decision.allowed
        self.degraded[slot] += decision.degraded
        self.longest[slot] = max(self.longest[slot], took)

    def result(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "sent": self.sent,
            "waited": self.waited,
            **{
                name: getattr(self, name).tolist()
                for name in ("answered", "admitted", "degraded", "longest")
            },
        }


class Driver:
    """Asks an engine for all streams, a little in every turn of the loop."""

    def __init__(
        self, engine: Engine, streams: list[Stream], begin_ns: int, seconds: float
    ) -> None:
        self.engine = engine
        self.streams = streams
        self.begin_ns = begin_ns  # on the monotonic clock, which all processes of a machine share
        self.end_ns = begin_ns + int(seconds * 1e9)
        self.worst_lag_ns = 0
        for stream in streams:
            stream.prepare(int(seconds * 1e9) // SLOT_NS + 1)

    async def run(self) -> None:
        await asyncio.sleep((self.begin_ns - time.monotonic_ns()) / 1e9)
        while (now := time.monotonic_ns()) < self.end_ns:
            elapsed = (now - self.begin_ns) / 1e9
            for stream in self.streams:
                self.ask(stream, min(stream.due(elapsed), MOST_PER_TICK))
            wanted = time.monotonic_ns() + int(TICK * 1e9)
            await asyncio.sleep(TICK)
            self.worst_lag_ns = max(self.worst_lag_ns, time.monotonic_ns() - wanted)
        await asyncio.sleep(0.1)  # answers that are on their way

    def ask(self, stream: Stream, number: int) -> None:
        begin_check, attributes, keys = self.engine.begin_check, stream.attributes, stream.keys
        for place in range(stream.sent, stream.sent + number):
            asked = time.monotonic_ns()
            answer = begin_check(attributes[place % keys])
            if isinstance(answer, Pending):
                stream.waited += 1
                answer.then(self.late(stream, asked))
            else:
                now = time.monotonic_ns()
                stream.count(answer, (now - self.begin_ns) // SLOT_NS, now - asked)
        if number > 0:
            stream.sent += number

    def late(self, stream: Stream, asked: int) -> Any:
        def take(decision: Decision) -> None:
            now = time.monotonic_ns()
            stream.count(decision, (now - self.begin_ns) // SLOT_NS, now - asked)

        return take


async def work(task: dict[str, Any]) -> dict[str, Any]:
    streams = [Stream(**one) for one in task["streams"]]
    names = ("node", "rank", "nodes", "cluster", "settings")
    options = {name: task[name] for name in names if name in task}
    async with shared_engine(task["redis_url"], task["policies"], **options) as shared:
        print("ready", flush=True)
        begin_ns = int(sys.stdin.readline())
        driver = Driver(shared.engine, streams, begin_ns, task["seconds"])
        gc.collect()
        gc.freeze()
        cpu = time.process_time_ns()
        await driver.run()
        cpu = time.process_time_ns() - cpu
        figures = shared.courier.figures
    return {
        "streams": [stream.result() for stream in streams],
        "cpu_ns": cpu,
        "batches": figures.batches,
        "questions": figures.questions,
        "worst_lag_ns": driver.worst_lag_ns,
    }


def main() -> None:
    task = json.loads(sys.stdin.readline())
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(work(task))), flush=True)


if __name__ == "__main__":
    main()
