"""Figure 6 of many nodes: how soon a change of a policy is in force on all three of them.

Three services with an etcd (or, without one, their Redis) take a hundred changes, told to one node after
the other. From the moment at which the request was sent, every node is asked again and again for a
decision, until each answers with the new limit: that is what "active" means.
"""

from __future__ import annotations

import http.client
import json
import time
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import Report, arguments, progress, quantile
from benchmarks.processes import CHECK_PATH
from scripts.local_cluster import NO_ETCD, NO_REDIS, ClusterError, find_program, local_cluster

if TYPE_CHECKING:
    from scripts.local_cluster import LocalCluster, Node

MOST_SECONDS = 1.0
GIVE_UP = 10.0
LIMIT = 1_000


class Asker:
    """Asks one node on a connection that stays open."""

    def __init__(self, node: Node) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)

    def call(self, method: str, path: str, document: object) -> dict[str, object]:
        self.connection.request(
            method, path, json.dumps(document), {"Content-Type": "application/json"}
        )
        answer = self.connection.getresponse()
        body = json.loads(answer.read())
        # Refused is an answer too: the limits of the bench are not reached, so it is none that is wanted.
        if answer.status >= 300:
            raise ClusterError(f"{method} {path} was answered with {answer.status}: {body}")
        return body

    def limit(self) -> object:
        return self.call("POST", CHECK_PATH, {"key": "a", "metadata": {"change": "a"}})["limit"]


def policy(limit: int) -> dict[str, object]:
    return {"name": "change", "limit": limit, "window": "1s", "dimensions": ["change"]}


def one_change(askers: list[Asker], number: int, path: str) -> tuple[float, float]:
    """Seconds from the request to the last node, and from its answer to the last node."""
    limit = LIMIT + number + 1
    began = time.monotonic()
    askers[number % len(askers)].call("PUT", path, policy(limit))
    answered = time.monotonic()
    waiting = list(askers)
    while waiting:
        waiting = [asker for asker in waiting if asker.limit() != limit]
        if time.monotonic() - began > GIVE_UP:
            raise ClusterError(f"change {number} is not active after {GIVE_UP:.0f} s")
    done = time.monotonic()
    return done - began, max(0.0, done - answered)


def measure(cluster: LocalCluster, count: int) -> list[tuple[float, float]]:
    cluster.nodes[0].set_policy(policy(LIMIT))
    askers = [Asker(node) for node in cluster.nodes]
    deadline = time.monotonic() + GIVE_UP
    while any(asker.limit() != LIMIT for asker in askers):
        if time.monotonic() > deadline:
            raise ClusterError("the first policy did not reach all nodes")
        time.sleep(0.01)
    found = []
    for number in range(count):
        if number % 25 == 0:
            progress(f"change {number} of {count}")
        found.append(one_change(askers, number, "/api/v1/policies/change"))
    return found


def run(*, quick: bool) -> Report:
    report = Report("cluster_changes", "6. A change of a policy", quick=quick)
    figure, target = "active on all three nodes, p99 of 100 changes", f"< {MOST_SECONDS:g} s"
    if find_program("valkey-server", "redis-server") is None:
        report.unavailable(figure, target, NO_REDIS)
        return report
    table = report.table(
        "Milliseconds until all nodes answer by the new policy",
        "agreement",
        "changes",
        "from the request, median",
        "p99",
        "worst",
        "from its answer, median",
        "p99",
    )
    has_etcd = find_program("etcd") is not None
    for kind in ("etcd", "redis") if has_etcd else ("redis",):
        try:
            with local_cluster(with_etcd=kind == "etcd") as cluster:
                found = measure(cluster, 5 if quick else 100)
        except ClusterError as trouble:
            report.unavailable(f"{figure}, by {kind}", target, str(trouble)[:300])
            continue
        whole = sorted(one * 1e3 for one, _ in found)
        after = sorted(one * 1e3 for _, one in found)
        p99 = quantile(whole, 0.99)
        table.add(
            kind, len(found), median(whole), p99, whole[-1], median(after), quantile(after, 0.99)
        )
        report.at_most(f"{figure}, by {kind}", p99, MOST_SECONDS * 1e3, "ms")
    if not has_etcd:
        report.note(NO_ETCD)
    return report


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
