"""Figure 5: two workers beside one, and three nodes beside one: decisions by the CPU time that they take.

A machine with two cores cannot give two workers a core each and the load a third. So what is counted is CPU
time: the servers stand on one core and take turns there, the load stands on the other, and each process is
charged for the time that it ran. A worker that takes c microseconds of CPU for a request answers 1/c of them
in a second of a core of its own; two do twice that, if they share the requests evenly. What their Valkey and
their supervisor take is told apart, and the verdict is held to all of it together, as if the two cores had
to carry that as well.

Sharing a core costs caches and switches, so the figure errs to the low side. On a machine with four cores or
more the same is measured by the clock on the wall besides.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.check_http import POLICY, bodies
from benchmarks.harness import Report, arguments, progress
from benchmarks.load import as_fast_as_it_goes
from benchmarks.processes import (
    CHECK_PATH,
    SERVER_CORE,
    Unavailable,
    cpu_ns,
    find_program,
    free_port,
    headgate,
    load_core,
    pin,
    running,
)
from headgate.errors import ConfigurationError
from headgate.server.private_store import find_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Running

CONNECTIONS = 32
KEYS = {"one hot key": 1, "100 keys": 100, "1,000 keys": 1_000}
LEAST_SCALING = 1.8
WARM_SECONDS = 3
_WORKER = "headgate.server.worker"


@dataclass
class Group:
    """Servers that are asked together, and what they need besides."""

    name: str
    entries: list[Running]
    servers: list[int]
    helpers: list[int]
    cores: int


@dataclass
class Taken:
    """What some requests took."""

    requests: int
    seconds: float
    servers_ns: int
    helpers_ns: int
    shares: list[float]

    @property
    def server_us(self) -> float:
        return self.servers_ns / self.requests / 1000

    @property
    def all_us(self) -> float:
        return (self.servers_ns + self.helpers_ns) / self.requests / 1000


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@contextlib.contextmanager
def workers(count: int) -> Iterator[Group]:
    """A service with so many workers."""
    with headgate(workers=count, backpressure="off") as node:
        node.set_policy({**POLICY, "dimensions": ["user_id"]})
        if count == 1:
            yield Group("1 worker", [node], [node.process.pid], [], 1)
            return
        born = children(node.process.pid)
        servers = [pid for pid in born if _WORKER in command(pid)]
        helpers = [pid for pid in born if pid not in servers]
        for pid in servers:
            pin(SERVER_CORE, pid)
        for pid in helpers:
            pin(load_core(), pid)
        yield Group(f"{count} workers", [node], servers, [*helpers, node.process.pid], cores=count)


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Group]:
    """So many nodes of one worker on one Valkey."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        port = free_port()
        store = [find_valkey(), "--port", str(port), "--save", "", "--dir", directory]
        valkey = stack.enter_context(running("valkey", store, port, directory=directory))
        pin(load_core(), valkey.process.pid)
        url = f"redis://127.0.0.1:{port}"
        entries = [
            stack.enter_context(headgate(redis_url=url, node=f"n{place}", backpressure="off"))
            for place in range(count)
        ]
        entries[0].set_policy({**POLICY, "dimensions": ["user_id"]})
        servers = [one.process.pid for one in entries]
        yield Group(f"{count} nodes, leased", entries, servers, [valkey.process.pid], cores=count)


def ask(group: Group, keys: int, seconds: float, directory: Path) -> Taken:
    """Full load on all of them together."""
    before = [cpu_ns(pid) for pid in group.servers]
    helpers_before = sum(cpu_ns(pid) for pid in group.helpers)

    def one(place: int) -> tuple[int, float]:
        own = directory / str(place)
        own.mkdir(exist_ok=True)
        connections = CONNECTIONS // len(group.entries)
        entry = group.entries[place]
        seen = as_fast_as_it_goes(entry, CHECK_PATH, bodies(keys), seconds, connections, own)
        if seen.failed:
            raise Unavailable(f"{group.name}: {seen.failed} requests were not answered with 200")
        return seen.requests, seen.seconds

    with ThreadPoolExecutor(len(group.entries)) as pool:
        done = list(pool.map(one, range(len(group.entries))))
    spent = [cpu_ns(pid) - at for pid, at in zip(group.servers, before, strict=True)]
    helpers = sum(cpu_ns(pid) for pid in group.helpers) - helpers_before
    total = sum(spent)
    shares = [one / total for one in spent]
    return Taken(sum(n for n, _ in done), max(s for _, s in done), total, helpers, shares)


def measure(report: Report, groups: list[Group], *, quick: bool) -> None:
    number, seconds = (1, 1.0) if quick else (5, 3.0)
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        for text, keys in KEYS.items():
            found: dict[str, list[Taken]] = {group.name: [] for group in groups}
            for place in range(number):
                for group in groups:
                    progress(f"{text}, round {place + 1} of {number}: {group.name}")
                    # Leases end while the others have their turn; it is the steady state that counts.
                    ask(group, keys, WARM_SECONDS, Path(name))
                    found[group.name].append(ask(group, keys, seconds, Path(name)))
            tell(report, text, groups, found)


def tell(report: Report, text: str, groups: list[Group], found: dict[str, list[Taken]]) -> None:
    table = report.table(
        f"{text}, {CONNECTIONS} connections",
        "",
        "CPU us/request",
        "with store and supervisor",
        "decisions/s on as many cores",
        "times one worker",
        "the same, all included",
        "busiest share",
        note="Median of the rounds; decisions/s and times are worked out from CPU time.",
    )
    alone = median(one.server_us for one in found[groups[0].name])
    for group in groups:
        rounds = found[group.name]
        own = median(one.server_us for one in rounds)
        everything = median(one.all_us for one in rounds)
        times, of_all = group.cores * alone / own, group.cores * alone / everything
        busiest = median(max(one.shares) for one in rounds)
        table.add(
            group.name, own, everything, round(group.cores * 1e6 / own), times, of_all, busiest
        )
        if group.name == "2 workers":
            report.judge(
                f"2 workers beside 1, {text} (CPU, all included)",
                f">= {LEAST_SCALING} times",
                f"{of_all:.2f} times",
                met=of_all >= LEAST_SCALING,
                note=f"without the Valkey and the supervisor {times:.2f} times; the busier worker did "
                f"{busiest:.0%} of the work",
            )


def by_the_wall(report: Report, *, quick: bool) -> None:
    """Where there are cores for it: each worker has one, the load the next, the Valkey the last."""
    if (os.cpu_count() or 1) < 4:
        report.unavailable(
            "2 workers beside 1 (clock on the wall)",
            f">= {LEAST_SCALING} times",
            "takes four cores: one for each worker, the load, and the Valkey",
        )
        return
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        for count in (1, 2):
            with workers(count) as group:
                for place, pid in enumerate(group.servers):
                    pin(place if place == 0 else 2, pid)
                for pid in group.helpers:
                    pin(3, pid)
                seen = ask(group, 1_000, 1.0 if quick else 5.0, Path(name))
                rates.append(seen.requests / seen.seconds)
    times = rates[1] / rates[0]
    report.judge(
        "2 workers beside 1 (clock on the wall)",
        f">= {LEAST_SCALING} times",
        f"{times:.2f} times",
        met=times >= LEAST_SCALING,
        note=f"{rates[0]:,.0f} and {rates[1]:,.0f} requests/s; one core makes the load",
    )


def run(*, quick: bool) -> Report:
    report = Report("workers", "Cluster 5. Workers and nodes", quick=quick)
    if find_program("wrk") is None:
        missing = "wrk is not installed (Debian: apt-get install wrk)"
        report.unavailable("2 workers beside 1", f">= {LEAST_SCALING} times", missing)
        return report
    try:
        find_valkey()
        with workers(1) as one, workers(2) as two, nodes(3) as three:
            measure(report, [one, two, three], quick=quick)
        by_the_wall(report, quick=quick)
    except (Unavailable, ConfigurationError) as error:
        report.unavailable("2 workers beside 1", f">= {LEAST_SCALING} times", str(error))
    return report


if __name__ == "__main__":
    run(quick=arguments(__doc__).quick).finish()
