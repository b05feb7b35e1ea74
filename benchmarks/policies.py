"""The time of a check beside the number of policies: 1, 1,000 and 10,000 of them.

The policies are of the kinds that people write: for one tenant (an exact value), for a part of an API (a
prefix), and a mix of both with wildcards. Of all of them one or two apply to a request. What is compared
is the same request answered by the same number of limits, with few policies and with many around them.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Report, Series, arguments, build_name, progress, timed
from benchmarks.load import Closed, Throughput, http_request
from benchmarks.processes import CHECK_PATH, Unavailable, headgate

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.engine.engine import Engine

MOST_RATIO = 1.2
ASKED = 256
OPERATIONS = 100_000


# Policies and requests ---------------------------------------------------------------------------


def limit(name: str, **rest: object) -> dict[str, Any]:
    return {"name": name, "limit": 1_000_000_000, "window": "1d", **rest}


def exact(number: int) -> list[dict[str, Any]]:
    """A policy for each tenant; one applies."""
    return [limit(f"tenant-{at}", match={"tenant": f"tenant-{at}"}) for at in range(number)]


def prefix(number: int) -> list[dict[str, Any]]:
    """A policy for each part of an API; one applies."""
    return [limit(f"api-{at}", match={"path": f"/api/{at:05d}/*"}) for at in range(number)]


def mix(number: int) -> list[dict[str, Any]]:
    """Tenants, parts of the API, wildcards that hardly ever apply; two apply."""
    found: list[dict[str, Any]] = []
    for at in range((number + 1) // 2):
        found.extend(
            (
                limit(f"tenant-{at}", match={"tenant": f"tenant-{at}"}),
                limit(f"api-{at}", match={"path": f"/api/{at:05d}/*"})
                if at % 10 < 9
                else limit(f"wild-{at}", match={"path": f"/api/{at:05d}/*/items"}),
            )
        )
    return found


def both(number: int) -> list[dict[str, Any]]:
    """A policy for all, and one for each tenant; two apply."""
    return [limit("everybody"), *exact(number - 1)] if number > 1 else [limit("everybody")]


# kind -> (its policies, how few of them the comparison starts from)
KINDS: dict[str, tuple[Any, int]] = {
    "exact values, one applies": (exact, 1),
    "prefixes, one applies": (prefix, 1),
    "one for all and exact values, two apply": (both, 2),
    "mix with wildcards, two apply": (mix, 2),
}
COUNTS = (1_000, 10_000)


def requests(number: int, spread: int) -> list[dict[str, str]]:
    """Requests of many keys, spread over so many of the tenants and paths."""
    step = max(1, number // 2 // max(1, spread))
    found = []
    for at in range(ASKED):
        place = at % spread * step
        place -= place % 10 == 9  # there the mix has a wildcard that does not apply
        found.append(
            {
                "key": f"user:{at}",
                "tenant": f"tenant-{place}",
                "path": f"/api/{place:05d}/items",
                "method": "GET",
            }
        )
    return found


# In the engine -----------------------------------------------------------------------------------


def make_engine(policies: list[dict[str, Any]]) -> Engine:
    from headgate.clock import SystemClock
    from headgate.engine.engine import Engine
    from headgate.policy.model import Policy

    engine = Engine(SystemClock())
    for policy in policies:
        engine.set_policy(Policy.from_dict(policy))
    return engine


def checking(engine: Engine, asked: list[dict[str, str]], operations: int) -> Callable[[], None]:
    def work() -> None:
        check = engine.check
        for attributes in islice(cycle(asked), operations):
            check(attributes)

    return work


def measure_engine(report: Report, *, quick: bool) -> None:
    rounds, operations = (2, 2_000) if quick else (9, OPERATIONS)
    table = report.table(
        f"Engine.check, CPU nanoseconds, {ASKED} keys ({build_name()})",
        "policies",
        "applied",
        "count",
        "median",
        "min",
        "times the few",
    )
    for kind, (make, few) in KINDS.items():
        progress(kind)
        engines = {count: make_engine(make(count)) for count in (few, *COUNTS)}
        series = {count: Series() for count in engines}
        asked = requests(few, 1)
        applied = len(next(iter(engines.values())).check(asked[0]).levels) or 1
        for engine in engines.values():
            checking(engine, asked, operations)()  # warms up
        for _ in range(rounds):
            for count, engine in engines.items():
                series[count].add(timed(checking(engine, asked, operations), operations))
        for count, one in series.items():
            ratio = one.cpu_min / series[few].cpu_min
            table.add(kind, applied, count, one.cpu_median, one.cpu_min, ratio)
        worst = max(series[count].cpu_min / series[few].cpu_min for count in COUNTS)
        report.at_most(f"Engine.check, {kind}: times the few", worst, MOST_RATIO, "times")


def measure_spread(report: Report, *, quick: bool) -> None:
    """For the record: requests that go to many policies touch more memory."""
    rounds, operations = (2, 2_000) if quick else (5, OPERATIONS)
    table = report.table(
        "Engine.check over 10,000 policies, by how many of them are asked for",
        "policies",
        "asked for",
        "median",
        "min",
        note="the work is the same; what differs is how much of memory it touches",
    )
    for kind, (make, _) in KINDS.items():
        engine = make_engine(make(COUNTS[-1]))
        for spread in (1, ASKED):
            one = Series()
            asked = requests(COUNTS[-1], spread)
            for _ in range(rounds):
                one.add(timed(checking(engine, asked, operations), operations))
            table.add(kind, spread, one.cpu_median, one.cpu_min)


# Over HTTP ---------------------------------------------------------------------------------------


def measure_http(report: Report, *, quick: bool) -> None:
    import json

    rounds, seconds = (1, 0.3) if quick else (5, 1.5)
    asked = [{"key": one.pop("key"), "tokens": 1, "metadata": one} for one in requests(2, 1)]
    payloads = [http_request(CHECK_PATH, json.dumps(body)) for body in asked]
    few, many = 2, 200 if quick else 1_000
    with headgate() as small, headgate() as large:
        for server, count in ((small, few), (large, many)):
            progress(f"sending {count} policies over HTTP")
            for policy in mix(count):
                server.set_policy(policy)
        found: dict[int, list[Throughput]] = {few: [], many: []}
        for _ in range(rounds):
            for server, count in ((small, few), (large, many)):
                found[count].append(Closed(server.port, payloads, 16).run(server, seconds))
    table = report.table(
        "POST /api/v1/check, mix", "policies", "CPU us/request min", "requests/s most"
    )
    for count, results in found.items():
        table.add(
            f"{count:,}",
            min(one.cpu_us for one in results),
            round(max(one.per_second for one in results)),
        )
    ratio = min(one.cpu_us for one in found[many]) / min(one.cpu_us for one in found[few])
    report.at_most(f"check over HTTP, {many:,} policies: times the few", ratio, MOST_RATIO, "times")


def run(*, quick: bool) -> Report:
    report = Report("policies", "4. Many policies", quick=quick)
    measure_engine(report, quick=quick)
    measure_spread(report, quick=quick)
    try:
        measure_http(report, quick=quick)
    except Unavailable as missing:
        report.unavailable(
            "check over HTTP with many policies", f"<= {MOST_RATIO:g} times", str(missing)
        )
    return report


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
