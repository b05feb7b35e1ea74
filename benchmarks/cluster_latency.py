"""Figure 3 of many nodes: what `leased` adds to a request when the store takes 5 ms to answer.

A node reaches its Valkey by a way that holds every answer back for 5 ms. Requests come at a fixed rate
over a number of keys, which are known by then: a key's very first request has to wait for the store,
once. `local`, `leased` and `strict` are asked alike, in the process and over HTTP (an open loop: from
the moment a request was due).
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cluster_node import shared_engine
from benchmarks.cluster_speed import run_loop
from benchmarks.cluster_store import redis, slow_way, url_of
from benchmarks.harness import Report, arguments, progress, quantile
from benchmarks.load import Open, http_request
from benchmarks.processes import CHECK_PATH, Unavailable, headgate
from headgate.engine.pending import Pending

if TYPE_CHECKING:
    from benchmarks.processes import Running
    from headgate.decision import Decision
    from headgate.engine.engine import Engine

DELAY = 0.005
MOST_ADDED_MS = 1.0
KEYS = 50
LIMIT = 1_000  # a second and key
RATES = {"in the process": 10_000.0, "over HTTP": 5_000.0}
WARM_SECONDS = 0.7
CONSISTENCIES = ("local", "leased", "strict")
SHARES = (0.5, 0.99, 0.999, 1.0)


def policies() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "limit": LIMIT,
            "window": "1s",
            "consistency": name,
            "dimensions": [name],
        }
        for name in CONSISTENCIES
    ]


class Asked:
    """Asks an engine at a fixed rate, and takes the time from each question to its answer."""

    def __init__(self, engine: Engine, name: str, per_second: float) -> None:
        self.engine = engine
        self.attributes = [{name: f"key-{number}"} for number in range(KEYS)]
        self.per_second = per_second
        self.took: list[int] = []
        self.sent = 0

    async def run(self, seconds: float) -> list[int]:
        began = time.perf_counter_ns()
        while (elapsed := (time.perf_counter_ns() - began) / 1e9) < seconds:
            for _ in range(int(elapsed * self.per_second) - self.sent):
                self.ask()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        return sorted(self.took)

    def ask(self) -> None:
        asked = time.perf_counter_ns()
        answer = self.engine.begin_check(self.attributes[self.sent % KEYS])
        self.sent += 1
        if isinstance(answer, Pending):

            def take(_: Decision) -> None:
                self.took.append(time.perf_counter_ns() - asked)

            answer.then(take)
        else:
            self.took.append(time.perf_counter_ns() - asked)


async def in_process(url: str, seconds: float, passes: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {name: [] for name in CONSISTENCIES}
    async with shared_engine(url, policies()) as shared:
        for number in range(passes):
            for name in CONSISTENCIES:
                progress(f"in the process, pass {number + 1}: {name}")
                await Asked(shared.engine, name, RATES["in the process"]).run(WARM_SECONDS)
                asked = Asked(shared.engine, name, RATES["in the process"])
                found[name].append(await asked.run(seconds))
    return found


def over_http(url: str, seconds: float, passes: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {name: [] for name in CONSISTENCIES}
    with headgate(redis_url=url) as server:
        for policy in policies():
            server.set_policy(policy)
        for number in range(passes):
            for name in CONSISTENCIES:
                progress(f"over HTTP, pass {number + 1}: {name}")
                ask_http(server, name, WARM_SECONDS)
                found[name].append(ask_http(server, name, seconds))
    return found


def ask_http(server: Running, name: str, seconds: float) -> list[int]:
    payloads = [
        http_request(
            CHECK_PATH, json.dumps({"key": f"key-{number}", "metadata": {name: f"key-{number}"}})
        )
        for number in range(KEYS)
    ]
    return Open(server.port, payloads, 64, RATES["over HTTP"]).run(seconds).sorted_ns


def run(*, quick: bool) -> Report:
    report = Report("cluster_latency", "3. A store that takes 5 ms", quick=quick)
    seconds, passes = (0.5, 1) if quick else (4.0, 3)
    table = report.table(
        f"From question to answer, {KEYS} keys, {LIMIT:,}/s each",
        "",
        "asked/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "worst ms",
        note="medians of the passes, the worst of all of them",
    )
    try:
        with ExitStack() as stack:
            store = stack.enter_context(redis())
            url = url_of(stack.enter_context(slow_way(store.port, DELAY)))

            async def process() -> None:
                tell(report, table, "in the process", await in_process(url, seconds, passes))

            run_loop(process())
            tell(report, table, "over HTTP", over_http(url, seconds, passes))
    except Unavailable as missing:
        report.unavailable("p99 that leased adds", f"< {MOST_ADDED_MS:g} ms", str(missing))
    return report


def tell(report: Report, table: Any, where: str, found: dict[str, list[list[int]]]) -> None:
    for name, passes in found.items():
        cells = [median(quantile(one, share) for one in passes) / 1e6 for share in SHARES[:-1]]
        worst = max(quantile(one, 1.0) for one in passes) / 1e6
        table.add(
            f"{name}, {where}", round(RATES[where]), *(f"{cell:.4f}" for cell in cells), worst
        )
    p99 = {
        name: median(quantile(one, 0.99) for one in passes) / 1e6 for name, passes in found.items()
    }
    report.at_most(
        f"p99 of leased beyond local, {where}",
        max(0.0, p99["leased"] - p99["local"]),
        MOST_ADDED_MS,
        "ms",
        f"leased {p99['leased']:.4f} ms, local {p99['local']:.4f} ms, strict {p99['strict']:.2f} ms",
    )


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
