"""Many decisions per round trip: check:batch over HTTP, and pipelines over RESP; one core for the server.

Decisions per second of wall time is what a client gets; per second of the server's CPU time is what the
server could do were the client never the slower one, and the steadier figure. A server that is less than
fully busy was waiting for our Python client.
"""

from __future__ import annotations

import json
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import Report, arguments, progress
from benchmarks.load import Closed, http_answer_length, http_request
from benchmarks.processes import Unavailable, headgate

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load import Throughput
    from benchmarks.processes import Running

BATCH = 1_000
KEYS = 10_000
DEPTHS = (16, 64, 256)
CONNECTIONS = 4
LEAST = 250_000.0
POLICY = {"name": "bench", "limit": 1_000_000_000, "window": "1d"}
BATCH_PATH = "/api/v1/check:batch"

Load = tuple[str, int, list[bytes], int, "Callable[[bytearray], bool]"]


# What is sent ------------------------------------------------------------------------------------


def batch(first: int, *, metadata: bool) -> bytes:
    checks: list[dict[str, object]] = []
    for number in range(first, first + BATCH):
        one: dict[str, object] = {"key": f"user:{number:05d}", "tokens": 1}
        if metadata:
            one["metadata"] = {
                "user_id": f"{number:05d}",
                "api_key": "abc123",
                "endpoint": "/api/data",
            }
        checks.append(one)
    return http_request(BATCH_PATH, json.dumps({"checks": checks}))


def batches(*, metadata: bool) -> list[bytes]:
    return [batch(first, metadata=metadata) for first in range(0, KEYS, BATCH)]


def command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


def throttle(number: int) -> bytes:
    return command("CL.THROTTLE", f"user:{number:05d}", "1000000", "1000000000", "86400")


def check(number: int) -> bytes:
    return command("HEADGATE.CHECK", f"user:{number:05d}", "1")


def pipelines(one: Callable[[int], bytes], depth: int) -> list[bytes]:
    numbers = range(KEYS - KEYS % depth)
    return [b"".join(map(one, numbers[at : at + depth])) for at in range(0, len(numbers), depth)]


# What comes back ---------------------------------------------------------------------------------


def answers_throttle(received: bytearray, depth: int) -> bool:
    return received.endswith(b"\r\n") and received.count(b":") == 5 * depth


def answers_check(received: bytearray, depth: int) -> bool:
    return received.endswith(b"bench\r\n") and received.count(b"*7\r\n") == depth


def answers_batch(received: bytearray) -> bool:
    return http_answer_length(received) > 0


# The measurement ---------------------------------------------------------------------------------


def loads(server: Running) -> list[Load]:
    """Label, decisions per payload, payloads, port, and how to know a whole answer."""
    found: list[Load] = [
        ("check:batch, keys only", BATCH, batches(metadata=False), server.port, answers_batch),
        ("check:batch, with metadata", BATCH, batches(metadata=True), server.port, answers_batch),
    ]
    commands = (
        ("CL.THROTTLE", throttle, answers_throttle),
        ("HEADGATE.CHECK", check, answers_check),
    )
    for name, one, answered in commands:
        for depth in DEPTHS:
            whole = partial(answered, depth=depth)
            label = f"{name}, pipelines of {depth}"
            found.append((label, depth, pipelines(one, depth), server.resp_port, whole))
    return found


def run_load(server: Running, load: Load, seconds: float) -> Throughput:
    _, _, payloads, port, answered = load
    return Closed(port, payloads, CONNECTIONS, answered).run(server, seconds)


def run(*, quick: bool) -> Report:
    report = Report("batch_resp", "3. Batches and pipelines", quick=quick)
    number, seconds = (1, 0.3) if quick else (5, 2.0)
    try:
        with headgate() as server:
            server.set_policy(POLICY)
            found: dict[str, list[Throughput]] = {}
            for place in range(number + 1):
                progress(f"round {place} of {number}")
                for load in loads(server):
                    result = run_load(server, load, seconds if place else 0.2)
                    if place:  # the first warms up
                        found.setdefault(load[0], []).append(result)
            tell(report, loads(server), found)
    except Unavailable as missing:
        report.unavailable("check:batch and RESP pipelines", f"> {LEAST:,.0f}/s", str(missing))
    return report


def tell(report: Report, asked: list[Load], found: dict[str, list[Throughput]]) -> None:
    table = report.table(
        f"{CONNECTIONS} connections, {KEYS:,} keys",
        "",
        "decisions/s (wall) median",
        "most",
        "per CPU second median",
        "most",
        "us CPU each, min",
        "server busy",
    )
    for label, each, *_ in asked:
        results = found[label]
        wall = [one.per_second * each for one in results]
        cpu = [one.requests * each / one.cpu_ns * 1e9 for one in results]
        busy = median(one.cpu_ns / 1e9 / one.seconds for one in results)
        table.add(
            label,
            round(median(wall)),
            round(max(wall)),
            round(median(cpu)),
            round(max(cpu)),
            1e6 / max(cpu),
            f"{busy:.0%}",
        )
        if each >= DEPTHS[1]:
            report.at_least(
                f"{label}: decisions per second of server CPU (median)", median(cpu), LEAST, "/s"
            )


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
