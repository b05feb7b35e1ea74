"""The service's counters for Prometheus, read when they are asked for.

The number of series is bounded: limits beyond the busiest thousand are summed up as ``(others)``, keys are
named only if they are among the few that are denied most, and routes go by their template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from headgate.backpressure.breaker_rule import CircuitState
from headgate.priority import PRIORITIES
from headgate.server.prometheus_cluster import of_cluster

if TYPE_CHECKING:
    from headgate.engine.stats import EngineStats, PolicyStats
    from headgate.server.context import Context

__all__ = ["CONTENT_TYPE", "exposition", "metrics"]

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_MAX_LIMITS: Final = 1_000
_MAX_KEY: Final = 128
_CHECK_ROUTE: Final = "/api/v1/check"


def exposition(context: Context) -> bytes:
    """All metrics, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Collector(context))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def metrics(context: Context) -> Iterator[Metric]:
    """The metrics of one process, without those that every process has."""
    return _Collector(context).collect()


class _Collector:
    """Reads a service when Prometheus asks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        return []  # or registering would collect everything once more

    def collect(self) -> Iterator[Metric]:
        context = self._context
        stats = context.service.engine.stats()
        yield InfoMetricFamily("headgate", "What runs.", {"version": context.version})
        yield from _of_limits(stats)
        yield from _of_table(stats)
        yield from _of_http(context)
        yield from _of_resp(context)
        yield from _of_backpressure(context)
        yield from of_cluster(context.cluster)
        yield _of_denied_keys(context)


def _of_limits(stats: EngineStats) -> Iterator[Metric]:
    decisions = CounterMetricFamily(
        "headgate_decisions", "Answers of each limit.", labels=["limit", "answer"]
    )
    keys = GaugeMetricFamily("headgate_limit_keys", "Keys kept for each limit.", labels=["limit"])
    busiest = sorted(stats.policies, key=_business, reverse=True)
    for one in busiest[:_MAX_LIMITS]:
        decisions.add_metric([one.level, "admitted"], one.admitted)
        decisions.add_metric([one.level, "denied"], one.denied)
        keys.add_metric([one.level], one.keys)
    others = busiest[_MAX_LIMITS:]
    if others:
        decisions.add_metric(["(others)", "admitted"], sum(one.admitted for one in others))
        decisions.add_metric(["(others)", "denied"], sum(one.denied for one in others))
        keys.add_metric(["(others)"], sum(one.keys for one in others))
    yield decisions
    yield keys
    yield CounterMetricFamily(
        "headgate_unmatched", "Checks that no policy applied to.", stats.unmatched
    )
    yield GaugeMetricFamily("headgate_limits", "Limits in force.", len(stats.policies))
    yield GaugeMetricFamily("headgate_reservations", "Reservations open.", stats.reservations)


def _business(stats: PolicyStats) -> int:
    return stats.admitted + stats.denied


def _of_table(stats: EngineStats) -> Iterator[Metric]:
    table = stats.table
    yield GaugeMetricFamily("headgate_keys", "Keys kept.", table.keys)
    yield GaugeMetricFamily("headgate_keys_max", "Keys that may be kept.", table.max_keys)
    for name, text, value in (
        ("forgotten", "Keys dropped that carried no information.", table.forgotten),
        ("evicted", "Keys given up early for lack of room.", table.evicted),
        ("overflowed", "Decisions on a shared state for lack of room.", table.overflowed),
    ):
        yield CounterMetricFamily(f"headgate_keys_{name}", text, value)
    yield CounterMetricFamily(
        "headgate_tokens_forgone",
        "Tokens spent by keys that were given up early.",
        table.tokens_forgone,
    )


def _of_http(context: Context) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "headgate_http_requests", "Requests answered.", labels=["route", "method", "status"]
    )
    answered = dict(context.answered)
    if context.lane is not None:
        lane = context.lane
        for status, count in ((200, lane.admitted), (429, lane.denied), (503, lane.shed)):
            identity = (_CHECK_ROUTE, "POST", status)
            answered[identity] = answered.get(identity, 0) + count
    for (route, method, status), count in sorted(answered.items()):
        requests.add_metric([route, method, str(status)], count)
    yield requests
    if context.connections is not None:
        yield GaugeMetricFamily(
            "headgate_http_connections", "Connections open.", len(context.connections.open)
        )
        yield CounterMetricFamily(
            "headgate_http_connections_refused",
            "Connections turned away at the limit.",
            context.connections.refused,
        )
        yield CounterMetricFamily(
            "headgate_http_timeouts",
            "Connections closed for what did not come, or was not taken, in time.",
            context.connections.timed_out,
        )


def _of_resp(context: Context) -> Iterator[Metric]:
    door = context.resp
    if door is None:
        return
    decisions = CounterMetricFamily(
        "headgate_throttle_decisions", "Answers of CL.THROTTLE.", labels=["answer"]
    )
    decisions.add_metric(["admitted"], door.throttles.admitted)
    decisions.add_metric(["denied"], door.throttles.denied)
    yield decisions
    limits = len(door.throttles)
    yield GaugeMetricFamily(
        "headgate_throttle_limits", "Limits that callers brought along.", limits
    )
    yield GaugeMetricFamily("headgate_resp_connections", "Connections open.", door.connections)
    for name, text, value in (
        ("commands", "Commands done.", door.commands),
        ("connections_refused", "Connections turned away at the limit.", door.refused),
        ("malformed", "Connections closed for what they sent.", door.malformed),
        ("timeouts", "Connections closed for what did not come, or was not read.", door.timed_out),
    ):
        yield CounterMetricFamily(f"headgate_resp_{name}", text, value)


def _of_backpressure(context: Context) -> Iterator[Metric]:
    overload = context.service.overload
    yield GaugeMetricFamily(
        "headgate_pressure", "How hard pressed the service is; 1 is the limit.", overload.pressure
    )
    shed = CounterMetricFamily(
        "headgate_shed", "Requests refused under pressure, undecided.", labels=["priority"]
    )
    part = GaugeMetricFamily(
        "headgate_shedding", "The part of the requests that is refused now.", labels=["priority"]
    )
    parts = overload.parts()
    for tier, priority in enumerate(PRIORITIES):
        shed.add_metric([priority], overload.shed[tier])
        part.add_metric([priority], round(parts[tier], 4))
    yield shed
    yield part
    breaker = GaugeMetricFamily(
        "headgate_breaker_state",
        "1 for the state that a breaker is in.",
        labels=["breaker", "state"],
    )
    now = context.store.breaker.state
    for state in CircuitState:
        breaker.add_metric(["store", state.value], float(state is now))
    yield breaker
    factors = GaugeMetricFamily(
        "headgate_rate_factor",
        "How many times its rate an adaptive policy runs at.",
        labels=["policy"],
    )
    for name, factor in sorted(context.service.engine.factors().items())[:_MAX_LIMITS]:
        factors.add_metric([name], factor)
    yield factors
    features = GaugeMetricFamily(
        "headgate_feature_on", "Whether a feature is on.", labels=["feature"]
    )
    for feature in context.features.states():
        features.add_metric([feature.name], float(feature.on))
    yield features


def _of_denied_keys(context: Context) -> Metric:
    denied = GaugeMetricFamily(
        "headgate_top_denied",
        "The keys that are denied most: at least so many times while among them.",
        labels=["limit", "key"],
    )
    for limit, key, count in context.top_denied.top(context.settings.top_keys):
        denied.add_metric([limit, key[:_MAX_KEY]], count)
    return denied
