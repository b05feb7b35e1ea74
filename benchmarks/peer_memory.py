"""What a `PeerLimiter` keeps per active peer, and what a check costs.

    python benchmarks/peer_memory.py [peers]

The figure of A13 is <= ~200 bytes per active peer beyond the name, which the caller holds anyway.
"""

from __future__ import annotations

import gc
import os
import sys
import time

import psutil

from headgate.gates import peer_book
from headgate.gates.peer import PeerLimiter
from headgate.testing import ManualClock


def resident() -> int:
    gc.collect()
    return psutil.Process(os.getpid()).memory_info().rss


def bytes_per_peer(names: list[str], *, failing: bool) -> float:
    limiter = PeerLimiter(clock=ManualClock(10**15), max_peers=len(names))
    before = resident()
    for name in names:
        limiter.check(name)
        if failing:
            limiter.record_failure(name)
    assert limiter.peer_count == len(names)
    return (resident() - before) / len(names)


def nanoseconds_per_call(names: list[str]) -> tuple[float, float]:
    limiter = PeerLimiter(rate=10**9, burst=10**9, max_peers=len(names))
    checks = guards = float("inf")
    for _ in range(5):
        began = time.process_time_ns()
        for name in names:
            limiter.check(name)
        checks = min(checks, (time.process_time_ns() - began) / len(names))
        began = time.process_time_ns()
        for name in names:
            with limiter.guard(name):
                pass
        guards = min(guards, (time.process_time_ns() - began) / len(names))
    return checks, guards


def main() -> None:
    peers = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    build = "plain Python" if str(peer_book.__file__).endswith(".py") else "compiled"
    names = [f"peer-{number:08}" for number in range(peers)]
    print(f"{build}, {peers:,} peers")
    print(f"  bytes per active peer              {bytes_per_peer(names, failing=False):6.0f}")
    print(f"  bytes per active peer with failures{bytes_per_peer(names, failing=True):6.0f}")
    check, guard = nanoseconds_per_call(names[:1000])
    print(f"  ns per check                       {check:6.0f}")
    print(f"  ns per guarded call                {guard:6.0f}")


if __name__ == "__main__":
    main()
