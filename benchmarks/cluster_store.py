"""What the benches of a cluster count with: a real Valkey, nodes as processes, a slow way to the store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from benchmarks.harness import ROOT
from benchmarks.processes import HOST, Unavailable, free_port, stop
from scripts.local_cluster import ClusterError, Part, redis_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.engine.counters import CounterStore

_START_AHEAD_NS = 300_000_000


async def open_counters(url: str, cluster: str) -> CounterStore:
    """The shared counters, as the service opens them; ``memory://`` to try the benches without."""
    if url == "memory://":
        from headgate.coordination.memory_counters import MemoryCounters

        return MemoryCounters()
    from headgate.coordination.redis_counters import RedisCounters

    return RedisCounters(url, cluster)


@contextmanager
def running_part(part: Part) -> Iterator[Part]:
    """Run it until the block ends."""
    try:
        part.start()
        part.wait_until_open()
        yield part
    except ClusterError as trouble:
        raise Unavailable(str(trouble)) from trouble
    finally:
        part.stop()


@contextmanager
def redis(core: int | None = None) -> Iterator[Part]:
    """A Valkey or Redis with nothing in it."""
    with TemporaryDirectory(prefix="headgate-bench-") as name:
        try:
            part = redis_part(Path(name))
        except ClusterError as trouble:
            raise Unavailable(str(trouble)) from trouble
        part.core = core
        with running_part(part):
            yield part


def url_of(part: Part) -> str:
    return f"redis://{HOST}:{part.port}"


@contextmanager
def slow_way(port: int, delay: float, core: int | None = None) -> Iterator[Part]:
    """A port that leads to another one, whose answers take so many seconds longer."""
    with TemporaryDirectory(prefix="headgate-bench-") as name:
        own = free_port()
        command = [
            sys.executable,
            "-m",
            "benchmarks.cluster_proxy",
            str(own),
            str(port),
            str(delay),
        ]
        part = Part("slow way", command, Path(name) / "log", own, {"PYTHONPATH": str(ROOT)}, core)
        with running_part(part):
            yield part


def commands_of(client: Any) -> int:
    """How many commands a Redis has carried out for us: scripts, however they are called."""
    stats = client.info("commandstats")
    return sum(
        int(one["calls"])
        for name, one in stats.items()
        if name.removeprefix("cmdstat_") in {"evalsha", "eval", "fcall", "evalsha_ro"}
    )


class Nodes:
    """Processes of `benchmarks.cluster_node`, which all begin at the same moment."""

    def __init__(self, tasks: list[dict[str, Any]]) -> None:
        self.processes = [self._spawn(task) for task in tasks]
        self.begin_ns = 0

    @staticmethod
    def _spawn(task: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster_node"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        return process

    def begin(self) -> None:
        """Wait until all are ready, and tell them when to begin."""
        for process in self.processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise Unavailable("a node of the bench did not start; its words are above")
        self.begin_ns = time.monotonic_ns() + _START_AHEAD_NS
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{self.begin_ns}\n")
            process.stdin.flush()

    def results(self) -> list[dict[str, Any]]:
        """What each counted, once it is done."""
        found = []
        for process in self.processes:
            output, _ = process.communicate(timeout=300)
            if process.returncode:
                raise Unavailable(f"a node of the bench ended with {process.returncode}")
            found.append(json.loads(output))
        return found

    def stop(self) -> None:
        for process in self.processes:
            stop(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
