"""Figure 1 of many nodes: what three nodes admit in all against the limit, when each is asked for more.

Three processes share one Valkey; each asks its engine more often than the limits allow, evenly or ten
times as much on one of them, steadily or in bursts. All limits are measured in the same 60 s (three
rounds of those, so that strict questions do not take the machine from each other). Counting begins after
5 s, when the bursts that the limits allow are spent. The window slides over what was recorded, in slots
of 10 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from benchmarks.cluster_node import SLOT_NS
from benchmarks.cluster_store import Nodes, redis, url_of
from benchmarks.harness import Report, arguments, progress
from benchmarks.processes import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES = 3
WARM_SECONDS = 5.0
SECONDS = 60.0
LEASE_SHARE = 0.05
# Nodes, store and others share the cores here: what is measured are counts, not whether a turn came in 20 ms.
DEADLINE_NS = 100_000_000
LEAST = 0.999
EVEN = (1 / 3, 1 / 3, 1 / 3)
SKEWED = (10 / 12, 1 / 12, 1 / 12)
SLOT = SLOT_NS / 1e9


@dataclass(frozen=True)
class Case:
    """One limit, and who asks for how much of it."""

    limit: int  # a second
    consistency: str
    demand: str  # even, skewed, or bursts
    algorithm: str = "token_bucket"
    times: float = 2.0  # the demand, in limits

    @property
    def name(self) -> str:
        return f"{self.consistency}-{self.algorithm}-{self.limit}-{self.demand}"

    @property
    def capacity(self) -> int:
        """What a bucket holds: a second's worth; two in bursts; what is empty before counting begins."""
        if self.demand == "bursts":
            return self.limit * 2
        return self.limit if self.times >= 2 else self.limit // 10

    @property
    def bound(self) -> int:
        """What all nodes together may hold unspent, as the policy promises it."""
        if self.consistency != "leased":
            return 0
        return max(1, int(LEASE_SHARE * self.capacity))

    def policy(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": self.name,
            "limit": self.limit,
            "window": "1s",
            "algorithm": self.algorithm,
            "consistency": self.consistency,
            "dimensions": [self.name],
        }
        if self.algorithm == "token_bucket":
            document["burst"] = self.capacity
        return document

    def stream(self, rank: int) -> dict[str, Any]:
        shares = SKEWED if self.demand == "skewed" else EVEN
        return {
            "policy": self.name,
            "per_second": self.limit * self.times * shares[rank],
            "burst": 1.0 if self.demand == "bursts" else 0.0,
        }


def leased_cases() -> list[Case]:
    """All that is leased, in one round."""
    steady = [
        Case(limit, "leased", demand)
        for limit in (100, 1_000, 50_000)
        for demand in ("even", "skewed")
    ]
    bursts = [Case(limit, "leased", "bursts") for limit in (100, 1_000)]
    windows = [
        Case(1_000, "leased", "even", "fixed_window"),
        Case(1_000, "leased", "skewed", "sliding_window"),
    ]
    return steady + bursts + windows


def strict_cases() -> list[list[Case]]:
    """What is strict, in two rounds; the largest limit with a demand just above it."""
    small = [
        Case(limit, "strict", demand) for limit in (100, 1_000) for demand in ("even", "skewed")
    ]
    small += [
        Case(1_000, "strict", "bursts"),
        Case(1_000, "strict", "even", "fixed_window"),
    ]
    return [
        [*small, Case(50_000, "strict", "even", times=1.1)],
        [Case(50_000, "strict", "skewed", times=1.1)],
    ]


def run_round(cases: Sequence[Case], seconds: float) -> tuple[list[dict[str, Any]], int]:
    """The results of the nodes, and the wall's time at which they began."""
    with redis() as store:
        tasks = [
            {
                "redis_url": url_of(store),
                "node": f"node-{rank + 1}",
                "rank": rank,
                "nodes": NODES,
                "seconds": WARM_SECONDS + seconds + 1,
                "settings": {"share": LEASE_SHARE, "deadline_ns": DEADLINE_NS},
                "policies": [case.policy() for case in cases],
                "streams": [case.stream(rank) for case in cases],
            }
            for rank in range(NODES)
        ]
        with Nodes(tasks) as nodes:
            nodes.begin()
            began = time.time_ns() + nodes.begin_ns - time.monotonic_ns()
            return nodes.results(), began


@dataclass
class Outcome:
    """What became of one case."""

    case: Case
    admitted: int
    seconds: float
    asked: int
    degraded: int
    excess: float  # tokens above the rate in the worst window of any length
    most_minute: float  # of limits, in the worst window of the whole length
    whole: float  # admitted from the first request on, of what is allowed in all that time
    shares: list[int]
    windows: list[int] | None  # the aligned windows of a fixed window
    longest: float  # seconds that an answer took at most

    @property
    def ratio(self) -> float:
        if self.windows:
            return sum(self.windows) / (self.case.limit * len(self.windows))
        return self.admitted / (self.case.limit * self.seconds)

    @property
    def most(self) -> float:
        """The most that a window of the whole length may have, of its limit.

        A bucket that is full before each burst adds itself, and a fixed window the part of one more. Stamps
        are the nodes': an admission is stamped when it is answered, and was granted that much earlier.
        """
        case = self.case
        extra: float = case.bound + 1 + case.limit * (self.longest + SLOT)
        if case.demand == "bursts":
            extra += case.capacity
        if case.algorithm == "fixed_window":
            extra += case.limit
        return 1 + extra / (case.limit * self.seconds)


def judge_case(
    case: Case, place: int, results: list[dict[str, Any]], seconds: float, began_ns: int
) -> Outcome:
    streams = [one["streams"][place] for one in results]
    admitted = [sum(slot) for slot in zip(*(one["admitted"] for one in streams), strict=True)]
    first = int(WARM_SECONDS / SLOT)
    count = int(seconds / SLOT)
    measured = admitted[first : first + count]
    sums = list(accumulate(admitted, initial=0))
    most_minute = max(
        sums[at + count] - sums[at] for at in range(first, len(admitted) - count + 1)
    ) / (case.limit * seconds)
    allowed = case.capacity + case.limit * len(admitted) * SLOT
    if case.algorithm != "token_bucket":
        allowed += case.limit  # the run begins and ends within a window
    return Outcome(
        case,
        sum(measured),
        seconds,
        sum(sum(one["answered"]) for one in streams),
        sum(sum(one["degraded"]) for one in streams),
        worst_excess(measured, case.limit * SLOT),
        most_minute,
        sum(admitted) / allowed,
        [sum(one["admitted"][first : first + count]) for one in streams],
        aligned(admitted, first, count, began_ns) if case.algorithm == "fixed_window" else None,
        max(max(one["longest"]) for one in streams) / 1e9,
    )


def worst_excess(admitted: Sequence[int], per_slot: float) -> float:
    """How far the admitted are above the rate in the worst run of slots of any length."""
    worst = current = 0.0
    for number in admitted:
        current = max(0.0, current + number - per_slot)
        worst = max(worst, current)
    return worst


def aligned(admitted: Sequence[int], first: int, count: int, began_ns: int) -> list[int]:
    """What was admitted in each of the whole seconds of the wall that lie in what is measured."""
    offset = -began_ns % 1_000_000_000 // SLOT_NS
    second = int(1 / SLOT)
    begins = range(offset + (first - offset + second - 1) // second * second, first + count, second)
    return [sum(admitted[at : at + second]) for at in begins if at + second <= first + count]


def tell(report: Report, outcomes: list[Outcome]) -> None:
    table = report.table(
        "Admitted of the limit, three nodes, all windows of the run",
        "limit",
        "demand",
        "admitted / limit",
        "worst window / limit",
        "may be",
        "tokens above the rate, worst run",
        "stated bound",
        "by node",
        "degraded",
        note="worst run: of slots of 10 ms, of any length; a bucket that is not empty adds what it holds",
    )
    for one in outcomes:
        case = one.case
        table.add(
            f"{case.consistency}, {case.algorithm}, {case.limit:,}/s",
            f"{case.demand}, {case.times:g} times",
            f"{one.ratio:.5f}",
            f"{one.most_minute:.5f}",
            f"{one.most:.5f}",
            one.excess,
            case.bound,
            " ".join(f"{share / max(1, sum(one.shares)):.0%}" for share in one.shares),
            one.degraded,
        )
        judge(report, one)
    fixed = [one for one in outcomes if one.windows]
    if fixed:
        windows = report.table(
            "Fixed windows of a second, one by one", "limit", "least", "most", "may be"
        )
        for one in fixed:
            assert one.windows is not None
            case = one.case
            windows.add(
                f"{case.consistency}, {case.limit:,}/s",
                min(one.windows),
                max(one.windows),
                case.limit + case.bound,
            )


def judge(report: Report, one: Outcome) -> None:
    case = one.case
    figure = f"{case.consistency}, {case.algorithm}, {case.limit:,}/s, {case.demand}"
    met = one.ratio >= LEAST and one.most_minute <= one.most
    if case.consistency == "strict":
        met = met and one.whole <= 1
        target, note = (
            "<= 1.000",
            f"from the first request on {one.whole:.5f} of all that is allowed",
        )
    else:
        target, note = f"{LEAST} to {one.most:.4f}", f"worst window {one.most_minute:.5f}"
    if one.windows:
        met = met and max(one.windows) <= case.limit + case.bound
    report.judge(f"admitted / limit: {figure}", target, f"{one.ratio:.5f}", met=met, note=note)


def run(*, quick: bool) -> Report:
    report = Report("cluster_accuracy", "1. Accuracy of a shared limit", quick=quick)
    seconds = 2.0 if quick else SECONDS
    rounds = [leased_cases(), *strict_cases()]
    outcomes: list[Outcome] = []
    try:
        for number, cases in enumerate(rounds, 1):
            progress(f"round {number} of {len(rounds)}: {len(cases)} limits, {seconds:.0f} s")
            results, began = run_round(cases, seconds)
            outcomes += [
                judge_case(case, place, results, seconds, began) for place, case in enumerate(cases)
            ]
            tell_load(report, number, results, seconds)
    except Unavailable as missing:
        report.unavailable("admitted / limit", f"{LEAST} to 1.000", str(missing))
    tell(report, outcomes)
    return report


def tell_load(report: Report, number: int, results: list[dict[str, Any]], seconds: float) -> None:
    asked = sum(sum(one["answered"]) for node in results for one in node["streams"])
    batches = sum(node["batches"] for node in results)
    busy = [node["cpu_ns"] / 1e9 / (WARM_SECONDS + seconds + 1) for node in results]
    report.note(
        f"round {number}: {asked:,} decisions, {batches:,} commands to the store "
        f"({batches / max(1, asked) * 100:.2f} for 100 decisions), nodes busy "
        + ", ".join(f"{share:.0%}" for share in busy)
        + f"; a node's loop was late by {max(node['worst_lag_ns'] for node in results) / 1e6:.1f} ms at worst"
    )


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
