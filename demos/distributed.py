"""One limit over three nodes: `make demo-distributed`.

Three nodes and a Valkey, all real processes on this machine. Two policies of 300 requests a second see
the same demand of 600: one is shared by the nodes (`leased`), one is not (`local`), so that each node
counts for itself. First every node gets a third of the demand, then one gets ten times as much as each
of the others, then all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demos.asking import Answer, Asking, ask_all, between, per_second
from demos.picture import LIMIT_STYLE, NODE_COLOURS, Picture
from scripts.local_cluster import ClusterError, local_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.local_cluster import LocalCluster

LIMIT = 300
DEMAND = 600
PHASES = (
    ("a third each", (1 / 3, 1 / 3, 1 / 3)),
    ("ten to one", (10 / 12, 1 / 12, 1 / 12)),
    ("all at one node", (1.0, 0.0, 0.0)),
)
SHARED, ALONE = "shared", "alone"
OUT = Path("build/demos/distributed.png")
BIN = 0.5


def policy(name: str, consistency: str) -> dict[str, object]:
    # A burst of a tenth of a second, so that what is admitted is the rate nearly from the beginning.
    return {
        "name": name,
        "limit": LIMIT,
        "window": "1s",
        "burst": LIMIT // 10,
        "dimensions": [name],
        "consistency": consistency,
    }


def rate_of(node: int, phase_seconds: float) -> Callable[[float], float]:
    def rate(now: float) -> float:
        phase = min(int(now / phase_seconds), len(PHASES) - 1)
        return DEMAND * PHASES[phase][1][node]

    return rate


def wait_for_policies(cluster: LocalCluster, names: Sequence[str]) -> None:
    """Return once every node has them: they are told to one, and reach the others by what the nodes agree on.

    Raises:
        ClusterError: they did not arrive.
    """
    deadline = time.monotonic() + 10
    for node in cluster.nodes:
        for name in names:
            question = {"key": "nobody", "tokens": 0, "metadata": {name: "nobody"}}
            while node.call("POST", "/api/v1/check", question)[1].get("limit") != LIMIT:
                if time.monotonic() > deadline:
                    raise ClusterError(f"the policy {name} did not reach {node.name}")
                time.sleep(0.02)


def admitted(askings: list[Asking], name: str) -> list[Answer]:
    return [
        answer
        for asking in askings
        for answer in asking.answers
        if asking.policy == name and answer.allowed
    ]


def teller(askings: list[Asking], phase_seconds: float) -> Callable[[float], None]:
    def tell(now: float) -> None:
        phase = PHASES[min(int((now - 0.01) / phase_seconds), len(PHASES) - 1)][0]
        shared = between(admitted(askings, SHARED), now - 1, now)
        alone = between(admitted(askings, ALONE), now - 1, now)
        nodes = [sum(answer.node == node for answer in shared) for node in range(3)]
        print(
            f"  {now:3.0f} s  {phase:<16} asked {DEMAND}/s   shared: admitted {len(shared):3} "
            f"({' + '.join(f'{number:3}' for number in nodes)})   each alone: {len(alone):3}",
            flush=True,
        )

    return tell


def draw(askings: list[Asking], phase_seconds: float, path: Path) -> None:
    seconds = phase_seconds * len(PHASES)
    picture = Picture(
        f"One limit of {LIMIT}/s over three nodes",
        (
            "asked of each node, requests/s",
            "admitted by the shared limit (leased), one node on top of the other, requests/s",
            "admitted when each node counts for itself (local), requests/s",
        ),
        seconds,
    )
    demand, shared, alone = picture.axes
    for node, colour in enumerate(NODE_COLOURS[:3]):
        asked = [
            answer
            for asking in askings
            if asking.node == node and asking.policy == SHARED
            for answer in asking.answers
        ]
        demand.plot(*per_second(asked, seconds, BIN), color=colour, label=f"node-{node + 1}")
    for axis, name in ((shared, SHARED), (alone, ALONE)):
        answers = admitted(askings, name)
        series = [
            per_second([one for one in answers if one.node == node], seconds, BIN)
            for node in range(3)
        ]
        axis.stackplot(
            series[0][0], *(rates for _, rates in series), colors=NODE_COLOURS[:3], alpha=0.85
        )
        axis.axhline(LIMIT, label=f"limit, {LIMIT}/s", **LIMIT_STYLE)
        axis.set_ylim(0, DEMAND * 1.15)
    demand.set_ylim(0, DEMAND * 1.15)
    picture.divide(
        [place * phase_seconds for place in range(len(PHASES))], [name for name, _ in PHASES]
    )
    picture.save(path)


def verdict(askings: list[Asking], phase_seconds: float) -> list[str]:
    lines = []
    # The beginning of each phase is left out: what the buckets hold, and leases that move to other nodes.
    settle = min(1.0, phase_seconds / 4)
    for place, (name, _) in enumerate(PHASES):
        begin, end = place * phase_seconds + settle, (place + 1) * phase_seconds
        allowed = LIMIT * (end - begin)
        shared = len(between(admitted(askings, SHARED), begin, end)) / allowed
        alone = len(between(admitted(askings, ALONE), begin, end)) / allowed
        lines.append(f"  {name:<16} shared: {shared:6.3f} of the limit    each alone: {alone:6.3f}")
    return lines


def run(phase_seconds: float, path: Path) -> None:
    print("starting three nodes and a Valkey ...", flush=True)
    with local_cluster(with_etcd=False) as cluster:
        cluster.nodes[0].set_policy(policy(SHARED, "leased"))
        cluster.nodes[0].set_policy(policy(ALONE, "local"))
        wait_for_policies(cluster, (SHARED, ALONE))
        askings = [
            Asking(place, node.port, name, rate_of(place, phase_seconds))
            for place, node in enumerate(cluster.nodes)
            for name in (SHARED, ALONE)
        ]
        seconds = phase_seconds * len(PHASES)
        asyncio.run(ask_all(askings, seconds, teller(askings, phase_seconds)))
        cluster.require_alive()
    draw(askings, phase_seconds, path)
    print("\nadmitted, of the limit:")
    print("\n".join(verdict(askings, phase_seconds)))
    failures = sum(asking.failures for asking in askings)
    print(f"  requests that failed: {failures}\n\npicture: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-distributed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase (default 8)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the picture (default {OUT})")
    options = parser.parse_args()
    try:
        run(options.seconds, options.out)
    except ClusterError as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
