"""The metrics of a node among others: few series, however many nodes, keys and policies there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from headgate.server.cluster_desk import ClusterDesk
    from headgate.wiring.cluster import CourierFigures, SharingStatus

__all__ = ["of_cluster"]

_KINDS: Final = ("etcd", "redis", "single")
_MODES: Final = ("local", "open", "closed")


def of_cluster(desk: ClusterDesk) -> Iterator[Metric]:
    """What the node says of itself and of what it shares."""
    yield from _of_agreement(desk)
    status, carried = desk.cluster.status(), desk.cluster.carried()
    if status is not None:
        yield from _of_sharing(status, desk.cluster.drawn())
    if carried is not None:
        yield from _of_courier(carried)


def _of_agreement(desk: ClusterDesk) -> Iterator[Metric]:
    agreement = desk.cluster.agreement
    kinds = GaugeMetricFamily(
        "headgate_cluster_agreement", "1 for what the nodes agree by.", labels=["kind"]
    )
    for kind in _KINDS:
        kinds.add_metric([kind], float(kind == agreement.kind))
    yield kinds
    for name, text, value in (
        ("up", "Whether this node is in touch with the others.", float(not agreement.trouble)),
        ("members", "Live nodes, as last known.", float(len(agreement.members()))),
        ("is_leader", "Whether this node leads.", float(desk.leads)),
        (
            "config_age_seconds",
            "How long this node has been cut off from changes of the configuration.",
            desk.config_age,
        ),
        (
            "config_hash",
            "The configuration in force, as a number: equal on nodes that have the same.",
            float(int(desk.config_hash(), 16)),
        ),
    ):
        yield GaugeMetricFamily(f"headgate_cluster_{name}", text, value)
    yield CounterMetricFamily(
        "headgate_cluster_config_reads", "Times the configuration was read again.", desk.changes
    )


def _of_sharing(status: SharingStatus, drawn: tuple[int, int, int]) -> Iterator[Metric]:
    keys, held, bound = drawn
    yield GaugeMetricFamily(
        "headgate_store_up", "Whether the shared counters answer.", float(status.is_up)
    )
    for name, text, count in (
        ("store_downs", "Times the shared counters were given up.", status.downs),
        ("store_asks", "Questions to the shared counters.", status.questions),
        ("store_deadline_misses", "Of them, those not answered in time.", status.late),
        ("store_unanswered", "Of them, those of which nothing will be known.", status.unanswered),
        ("store_waits", "Requests that waited for the shared counters.", status.waited),
        ("lease_renewals", "Answers about leases.", status.renewals),
        ("lease_refusals", "Keys counted strictly for want of room.", status.keys_refused),
        ("owed_tokens_paid", "Tokens charged once the store was back.", status.paid),
        ("owed_tokens_forgone", "Tokens never charged, for want of room.", status.forgone),
        ("refunds_dropped", "Refunds given up, for want of room.", status.refunds_dropped),
    ):
        yield CounterMetricFamily(f"headgate_{name}", text, count)
    degraded = CounterMetricFamily(
        "headgate_degraded_decisions", "Limits decided by a failure mode.", labels=["mode"]
    )
    for mode in _MODES:
        degraded.add_metric([mode], status.degraded.get(mode, 0))
    yield degraded
    for name, text, number in (
        ("lease_keys", "Keys that this node has drawn tokens of.", keys),
        ("lease_held_tokens", "Tokens of them that are not spent.", held),
        (
            "lease_stranded_bound_tokens",
            "The most tokens of these keys that all nodes together may hold unspent.",
            bound,
        ),
        ("owed_tokens", "Tokens admitted without the store, not charged yet.", status.owed),
        ("refunds_waiting", "Refunds that wait for the store.", status.refunds_waiting),
    ):
        yield GaugeMetricFamily(f"headgate_{name}", text, number)


def _of_courier(carried: CourierFigures) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "headgate_store_commands", "Batches sent to the shared counters.", carried.batches
    )
    yield CounterMetricFamily(
        "headgate_store_refused", "Questions that were not even sent.", carried.refused
    )
    yield GaugeMetricFamily(
        "headgate_store_waiting", "Questions that wait to be sent.", carried.waiting
    )
    sizes = HistogramMetricFamily("headgate_store_batch_size", "Questions in a batch.")
    buckets, total = [], 0
    for power, count in enumerate(carried.sizes):
        total += count
        buckets.append((str(float(2**power)), float(total)))
    buckets[-1] = ("+Inf", float(total))
    sizes.add_metric([], buckets, carried.questions)
    yield sizes
