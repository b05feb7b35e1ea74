"""The store dies and comes back, under load: `make demo-failure`.

Three nodes and a Valkey, all real processes on this machine, are asked for twice what three policies of
300 a second allow. After a while the Valkey is killed; later it is started again, empty. The policies
differ in what they do without it: `local` goes on with each node's share of the limit, `open` admits
everybody, `closed` nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demos.asking import Answer, Asking, ask_all, between, per_second
from demos.distributed import wait_for_policies
from demos.picture import LIMIT_STYLE, Picture
from scripts.local_cluster import ClusterError, local_cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.local_cluster import LocalCluster

LIMIT = 300
DEMAND = 600
DEADLINE_MS = 20
# policy -> (consistency, failure mode, colour)
POLICIES = {
    "leased, local": ("leased", "local", "#1f5fbf"),
    "strict, open": ("strict", "open", "#e08a1e"),
    "strict, closed": ("strict", "closed", "#8e5bb5"),
}
OUT = Path("build/demos/failure.png")
BIN = 0.25


@dataclass(frozen=True)
class Plan:
    """When, in seconds."""

    killed: float
    back: float
    end: float


def dimension(name: str) -> str:
    return name.replace(", ", "-")


def policy(name: str) -> dict[str, object]:
    consistency, mode, _ = POLICIES[name]
    return {
        "name": dimension(name),
        "limit": LIMIT,
        "window": "1s",
        "burst": LIMIT // 10,
        "dimensions": [dimension(name)],
        "consistency": consistency,
        "failure_mode": mode,
    }


def answers_of(askings: list[Asking], name: str) -> list[Answer]:
    wanted = dimension(name)
    return [one for asking in askings if asking.policy == wanted for one in asking.answers]


def all_answers(askings: list[Asking]) -> list[Answer]:
    return [answer for asking in askings for answer in asking.answers]


def teller(askings: list[Asking], plan: Plan) -> Callable[[float], None]:
    def tell(now: float) -> None:
        state = "killed" if plan.killed < now <= plan.back else "up"
        shown = []
        for name in POLICIES:
            recent = between(answers_of(askings, name), now - 1, now)
            shown.append(f"{name} {sum(answer.allowed for answer in recent):3}")
        recent = between(all_answers(askings), now - 1, now)
        longest = max((answer.waited for answer in recent), default=0.0) * 1e3
        degraded = sum(answer.degraded for answer in recent) / max(1, len(recent))
        print(
            f"  {now:3.0f} s  store {state:<7} admitted: {',  '.join(shown)}   "
            f"longest wait {longest:5.1f} ms   degraded {degraded:4.0%}",
            flush=True,
        )

    return tell


async def disturb(cluster: LocalCluster, plan: Plan, moments: dict[str, float]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(plan.killed)
    cluster.redis.kill()
    moments["killed"] = loop.time() - began
    await asyncio.sleep(plan.back - (loop.time() - began))
    await loop.run_in_executor(None, cluster.redis.restart)
    moments["back"] = loop.time() - began


def recovery(answers: list[Answer], back: float) -> float:
    """Seconds from the return of the store until a quarter of a second comes without degraded answers."""
    late = sorted(answer.at for answer in answers if answer.degraded and answer.at > back)
    begin = back
    for moment in late:
        if moment - begin >= BIN:
            break
        begin = moment
    return begin - back


def draw(askings: list[Asking], plan: Plan, moments: dict[str, float], path: Path) -> None:
    picture = Picture(
        f"Three nodes, {LIMIT}/s in all: the store is killed and comes back",
        (
            "admitted by all nodes, requests/s",
            "longest wait of a request, ms",
            "answers without the store (degraded), %",
        ),
        plan.end,
    )
    rates, waits, degraded = picture.axes
    for name, (*_, colour) in POLICIES.items():
        answers = answers_of(askings, name)
        admitted = [answer for answer in answers if answer.allowed]
        rates.plot(*per_second(admitted, plan.end, BIN), color=colour, label=name)
        middles, longest, share = [], [], []
        for place in range(round(plan.end / BIN)):
            recent = between(answers, place * BIN, (place + 1) * BIN)
            middles.append((place + 0.5) * BIN)
            longest.append(max((answer.waited for answer in recent), default=0.0) * 1e3)
            share.append(100 * sum(answer.degraded for answer in recent) / max(1, len(recent)))
        waits.plot(middles, longest, color=colour, label=name)
        degraded.plot(middles, share, color=colour, label=name)
    rates.axhline(LIMIT, label=f"limit, {LIMIT}/s", **LIMIT_STYLE)
    waits.axhline(DEADLINE_MS, label=f"deadline, {DEADLINE_MS} ms", **LIMIT_STYLE)
    rates.set_ylim(0, DEMAND * 1.15)
    waits.set_ylim(bottom=0)
    degraded.set_ylim(-3, 103)
    picture.mark(moments["killed"], moments["back"], "no store")
    picture.save(path)


def verdict(askings: list[Asking], moments: dict[str, float]) -> list[str]:
    killed, back = moments["killed"], moments["back"]
    lines = []
    for name in POLICIES:
        answers = answers_of(askings, name)
        away = between(answers, killed, back)
        share = sum(answer.allowed for answer in away) / (LIMIT * (back - killed))
        longest = max((answer.waited for answer in answers), default=0.0) * 1e3
        degraded = sum(answer.degraded for answer in away) / max(1, len(away))
        lines.append(
            f"  {name:<15} admitted without the store {share:5.2f} of the limit, "
            f"{degraded:4.0%} degraded, longest wait {longest:5.1f} ms, "
            f"back {recovery(answers, back):.2f} s after the store"
        )
    return lines


def run(plan: Plan, path: Path) -> None:
    print("starting three nodes and a Valkey ...", flush=True)
    moments: dict[str, float] = {}
    with local_cluster(with_etcd=False) as cluster:
        for name in POLICIES:
            cluster.nodes[0].set_policy(policy(name))
        wait_for_policies(cluster, [dimension(name) for name in POLICIES])
        askings = [
            Asking(place, node.port, dimension(name), lambda _: DEMAND / 3)
            for place, node in enumerate(cluster.nodes)
            for name in POLICIES
        ]

        async def both() -> None:
            await asyncio.gather(
                ask_all(askings, plan.end, teller(askings, plan)), disturb(cluster, plan, moments)
            )

        asyncio.run(both())
        cluster.require_alive()
    draw(askings, plan, moments, path)
    print(f"\nwithout the store for {moments['back'] - moments['killed']:.1f} s:")
    print("\n".join(verdict(askings, moments)))
    failures = sum(asking.failures for asking in askings)
    print(f"  requests that failed: {failures}\n\npicture: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-failure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=24.0, help="in all (default 24)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the picture (default {OUT})")
    options = parser.parse_args()
    third = options.seconds / 3
    try:
        run(Plan(third, 2 * third, options.seconds), options.out)
    except ClusterError as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
