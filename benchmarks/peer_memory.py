"""What a `PeerLimiter` keeps per active peer, and what a call costs.

    python -m benchmarks.peer_memory [--quick]

A peer is active when it has spent tokens; the failing ones have failures on record besides. The name of
a peer is not counted: the caller holds it anyway.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from benchmarks.harness import Report, Series, arguments, progress, resident_bytes, timed
from headgate.gates.peer import PeerLimiter
from headgate.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 200.0
CALLED_PEERS = 1_000


def bytes_per_peer(names: list[str], *, failing: bool) -> float:
    limiter = PeerLimiter(clock=ManualClock(10**15), max_peers=len(names))
    gc.collect()
    before = resident_bytes()
    for name in names:
        limiter.check(name)
        if failing:
            limiter.record_failure(name)
    gc.collect()
    assert limiter.peer_count == len(names)
    return (resident_bytes() - before) / len(names)


def calls(names: list[str]) -> dict[str, Callable[[], object]]:
    limiter = PeerLimiter(rate=10**9, burst=10**9)

    def check() -> None:
        for name in names:
            limiter.check(name)

    def guard() -> None:
        for name in names:
            with limiter.guard(name):
                pass

    return {"check": check, "with guard": guard}


def main() -> None:
    options = arguments(__doc__)
    peers = 20_000 if options.quick else 500_000
    report = Report(
        "peer_memory", "PeerLimiter: memory per peer, time per call", quick=options.quick
    )
    names = [f"peer-{number:08}" for number in range(peers)]
    memory = report.table(f"Bytes per peer beyond its name, {peers:,} peers", "peers", "bytes")
    for label, failing in (("active", False), ("active, with failures on record", True)):
        progress(label)
        size = bytes_per_peer(names, failing=failing)
        memory.add(label, size)
        report.data[label] = size
        report.at_most(f"bytes per peer, {label}", size, MOST_BYTES, "bytes", "the promise is ~200")
    times = report.table("CPU per call, ns, over 1,000 peers", "call", "median", "min")
    works = calls(names[:CALLED_PEERS])
    series = {label: Series() for label in works}
    for _ in range(3 if options.quick else 30):
        for label, work in works.items():
            series[label].add(timed(work, CALLED_PEERS))
    for label, one in series.items():
        times.add(label, one.cpu_median, one.cpu_min)
    report.finish()


if __name__ == "__main__":
    main()
