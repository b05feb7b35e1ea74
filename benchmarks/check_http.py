"""POST /api/v1/check over keep-alive, one core for the server: CPU per request beside nginx; latency.

nginx answers the same requests with a fixed 200 and a body about as long as ours; it does not even read
what is asked. The two take turns. CPU per request is user and system time of the server's process by the
requests it answered: steadier than throughput, which also depends on the load generator and the machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import Report, arguments, progress, quantile
from benchmarks.load import Open, Throughput, as_fast_as_it_goes, http_request
from benchmarks.processes import CHECK_PATH, Unavailable, headgate, nginx

if TYPE_CHECKING:
    from benchmarks.processes import Running

CONNECTIONS = 32
MOST_RATIO = 2.0
MOST_P99_MS = 1.0
KEYS = 1_000
POLICY = {
    "name": "api-rate-limit",
    "algorithm": "token_bucket",
    "limit": 1_000_000_000,
    "window": "1d",
    "dimensions": ["user_id", "api_key"],
}


def bodies(keys: int = KEYS) -> list[str]:
    """Checks as spec F shows them."""
    return [
        json.dumps(
            {
                "key": f"user:{number:05d}",
                "tokens": 1,
                "metadata": {
                    "user_id": f"{number:05d}",
                    "api_key": "abc123",
                    "endpoint": "/api/data",
                },
            }
        )
        for number in range(keys)
    ]


def rounds(
    servers: list[Running], number: int, seconds: float, directory: Path
) -> dict[str, list[Throughput]]:
    """Full load on each server in turn."""
    found: dict[str, list[Throughput]] = {server.name: [] for server in servers}
    for server in servers:
        as_fast_as_it_goes(server, CHECK_PATH, bodies(), 1, CONNECTIONS, directory)
    for place in range(number):
        for server in servers:
            progress(f"round {place + 1} of {number}: {server.name}")
            found[server.name].append(
                as_fast_as_it_goes(server, CHECK_PATH, bodies(), seconds, CONNECTIONS, directory)
            )
    return found


def latency(server: Running, per_second: float, seconds: float) -> list[object]:
    """A row of the latency table, and its p99 in milliseconds as the last cell."""
    payloads = [http_request(CHECK_PATH, body) for body in bodies()]
    seen = Open(server.port, payloads, CONNECTIONS, per_second).run(seconds)
    shares = (0.5, 0.99, 0.999, 1.0)
    return [
        server.name,
        round(per_second),
        round(seen.per_second),
        *(quantile(seen.sorted_ns, share) / 1e6 for share in shares),
        seen.missed,
    ]


def run(*, quick: bool) -> Report:
    report = Report("check_http", "2. POST /api/v1/check", quick=quick)
    try:
        with headgate() as ours:
            ours.set_policy(POLICY)
            measure(report, ours, quick=quick)
    except Unavailable as missing:
        report.unavailable(
            "CPU per request, against nginx return 200", f"<= {MOST_RATIO:g}", str(missing)
        )
        report.unavailable("p99 at half load", f"< {MOST_P99_MS:g} ms", str(missing))
    return report


def measure(report: Report, ours: Running, *, quick: bool) -> None:
    number, seconds = (1, 1.0) if quick else (5, 3.0)
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        directory = Path(name)
        try:
            with nginx() as theirs:
                found = rounds([ours, theirs], number, seconds, directory)
                tell_latency(report, [ours, theirs], found, quick=quick)
        except Unavailable as missing:
            found = rounds([ours], number, seconds, directory)
            tell_latency(report, [ours], found, quick=quick)
            report.note(str(missing))
    tell_throughput(report, found)


def tell_throughput(report: Report, found: dict[str, list[Throughput]]) -> None:
    table = report.table(
        f"As fast as it goes, {CONNECTIONS} connections",
        "server",
        "CPU us/request min",
        "median",
        "requests/s median",
        "most",
        "failed",
    )
    for name, results in found.items():
        cpu = [one.cpu_us for one in results]
        rate = [one.per_second for one in results]
        table.add(
            name,
            min(cpu),
            median(cpu),
            round(median(rate)),
            round(max(rate)),
            sum(r.failed for r in results),
        )
    pairs = list(found.values())
    if len(pairs) < 2:
        report.unavailable(
            "CPU per request, against nginx return 200",
            f"<= {MOST_RATIO:g}",
            "nginx is not installed",
        )
        return
    ratios = [one.cpu_us / other.cpu_us for one, other in zip(*pairs, strict=True)]
    least = min(one.cpu_us for one in pairs[0]) / min(one.cpu_us for one in pairs[1])
    report.at_most(
        "CPU per request, against nginx return 200 (median of the rounds' ratios)",
        median(ratios),
        MOST_RATIO,
        "times",
        f"ratio of the minima {least:.2f}",
    )


def tell_latency(
    report: Report, servers: list[Running], found: dict[str, list[Throughput]], *, quick: bool
) -> None:
    most = median(one.per_second for one in found[servers[0].name])
    table = report.table(
        "At half of our full load, an open loop at a fixed rate",
        "server",
        "asked/s",
        "answered/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "worst ms",
        "missed",
        note="from the moment a request was due; the Python client's own work is in it, as nginx's row shows",
    )
    passes: list[float] = []
    for place in range(1 if quick else 3):
        for server in servers:
            progress(f"half load, pass {place + 1}: {server.name}")
            row = latency(server, most / 2, 1.0 if quick else 5.0)
            table.add(*row)
            if server is servers[0]:
                passes.append(float(row[4]))  # type: ignore[arg-type]
    report.at_most("p99 at half load (median of the passes)", median(passes), MOST_P99_MS, "ms")


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
