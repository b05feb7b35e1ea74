"""What a node has counted, whichever of its workers is asked: all of them answer, and it is added up.

The supervisor adds what workers had counted that are gone, so that no counter goes down; see
`headgate.server.switchboard`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headgate.server.counts import Report, added_up
from headgate.server.prometheus import metrics
from headgate.server.records import records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.server.context import Context

__all__ = ["METRICS", "node_exposition", "node_report", "own_report"]

METRICS = "metrics"
"""What workers ask each other for."""
_TOP_DENIED = "headgate_top_denied"


async def node_report(context: Context) -> Report:
    """What all workers have counted."""
    own = own_report(context)
    others = [] if context.station is None else await context.station.link.ask(METRICS, own)
    report = added_up([own, *others])
    top = context.settings.top_keys
    report["records"]["top_denied"] = report["records"]["top_denied"][:top]
    for family in report["families"]:
        if family["name"] == _TOP_DENIED:
            family["samples"] = sorted(family["samples"], key=lambda one: -one[2])[:top]
    return report


async def node_exposition(context: Context) -> bytes:
    """All metrics of the node, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Told((await node_report(context))["families"]))
    return generate_latest(registry)


def own_report(context: Context) -> Report:
    """What this worker has counted, as plain data."""
    families = [*metrics(context), *_of_worker(context), *ProcessCollector(registry=None).collect()]
    return {"families": [_plain(one) for one in families], "records": records(context)}


def _of_worker(context: Context) -> Iterator[Metric]:
    station = context.station
    if station is None:
        return
    worker = str(station.number)
    connections = GaugeMetricFamily(
        "headgate_worker_connections", "Connections open, by worker.", labels=["worker", "door"]
    )
    if context.connections is not None:
        connections.add_metric([worker, "rest"], len(context.connections.open))
    if context.resp is not None:
        connections.add_metric([worker, "resp"], context.resp.connections)
    yield connections
    asked = CounterMetricFamily(
        "headgate_worker_checks", "Checks asked for, by worker.", labels=["worker"]
    )
    asked.add_metric([worker], int(context.service.overload.asked))
    yield asked


def _plain(family: Metric) -> dict[str, Any]:
    samples = [[one.name, list(one.labels.items()), one.value] for one in family.samples]
    return {
        "name": family.name,
        "kind": family.type,
        "help": family.documentation,
        "samples": samples,
    }


class _Told:
    """Families as they were told."""

    def __init__(self, families: list[dict[str, Any]]) -> None:
        self._families = families

    def describe(self) -> list[Metric]:
        return []  # or registering would collect everything once more

    def collect(self) -> Iterator[Metric]:
        for one in self._families:
            family = Metric(one["name"], one["help"], one["kind"])
            for name, labels, value in one["samples"]:
                family.add_sample(name, dict(labels), value)
            yield family
