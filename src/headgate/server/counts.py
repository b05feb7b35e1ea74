"""What several workers counted, added up: plain data in, plain data out.

A report is ``{"families": [...], "records": {...}}``: the metrics of one worker as Prometheus knows them, and
as ``GET /api/v1/metrics`` shows them. Counters are added. Of gauges most are added too; those that say how
things stand, and not how many there are, are the highest or the lowest of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

__all__ = ["Report", "added_up", "only_counters"]

Report = dict[str, Any]

_HIGHEST: Final = frozenset(
    {
        "headgate",
        "headgate_pressure",
        "headgate_shedding",
        "headgate_breaker_state",
        "headgate_rate_factor",
        "headgate_cluster_agreement",
        "headgate_cluster_members",
        "headgate_cluster_is_leader",
        "headgate_cluster_config_age_seconds",
        "headgate_cluster_config_hash",
    }
)
_LOWEST: Final = frozenset(
    {
        "headgate_feature_on",
        "headgate_limits",  # those that are in force in all workers
        "headgate_cluster_up",
        "headgate_store_up",
        "process_start_time_seconds",
    }
)
_GROWING: Final = ("counter", "histogram")
_COUNTED: Final = ("admitted", "denied", "unmatched")


def added_up(reports: Iterable[Report]) -> Report:
    """One report about all."""
    families: dict[str, dict[str, Any]] = {}
    records: dict[str, Any] = {"totals": {}, "policies": {}, "top_denied": {}}
    for report in reports:
        for family in report["families"]:
            _add_family(families, family)
        _add_records(records, report["records"])
    return {
        "families": [{**one, "samples": _listed(one["samples"])} for one in families.values()],
        "records": {
            "totals": records["totals"],
            "policies": [{"policy": name, **one} for name, one in records["policies"].items()],
            "top_denied": [
                {"policy": policy, "key": key, "denied": count}
                for (policy, key), count in _by_count(records["top_denied"])
            ],
        },
    }


def only_counters(report: Report) -> Report:
    """What stays true of a worker that is gone."""
    records = report["records"]
    return {
        "families": [one for one in report["families"] if one["kind"] in _GROWING],
        "records": {
            "totals": {name: records["totals"].get(name, 0) for name in _COUNTED},
            "policies": [{**one, "keys": 0} for one in records["policies"]],
            "top_denied": [],
        },
    }


def _add_family(families: dict[str, dict[str, Any]], family: dict[str, Any]) -> None:
    name = family["name"]
    found = families.get(name)
    if found is None:
        found = families[name] = {**family, "samples": {}}
    samples: dict[Any, float] = found["samples"]
    for sample, labels, value in family["samples"]:
        identity = sample, tuple((label, text) for label, text in labels)
        if identity not in samples:
            samples[identity] = value
        elif name in _HIGHEST:
            samples[identity] = max(samples[identity], value)
        elif name in _LOWEST:
            samples[identity] = min(samples[identity], value)
        else:
            samples[identity] += value


def _listed(samples: dict[Any, float]) -> list[Any]:
    return [
        [sample, [list(one) for one in labels], value]
        for (sample, labels), value in samples.items()
    ]


def _add_records(into: dict[str, Any], records: dict[str, Any]) -> None:
    _add_numbers(into["totals"], records["totals"])
    for one in records["policies"]:
        numbers = {name: value for name, value in one.items() if name != "policy"}
        _add_numbers(into["policies"].setdefault(one["policy"], {}), numbers)
    denied = into["top_denied"]
    for one in records["top_denied"]:
        identity = one["policy"], one["key"]
        denied[identity] = denied.get(identity, 0) + one["denied"]


def _add_numbers(into: dict[str, int], numbers: dict[str, int]) -> None:
    for name, value in numbers.items():
        into[name] = into.get(name, 0) + value


def _by_count(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda one: one[1], reverse=True)
