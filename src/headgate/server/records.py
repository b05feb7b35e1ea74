"""The counters of one process as ``GET /api/v1/metrics`` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.engine.stats import EngineStats, PolicyStats
    from headgate.server.context import Context

__all__ = ["records"]


def records(context: Context) -> dict[str, Any]:
    """Totals, policies, and the keys that are denied most."""
    stats = context.service.engine.stats()
    return {
        "totals": _totals(stats),
        "policies": [_of_policy(one) for one in stats.policies],
        "top_denied": [
            {"policy": policy, "key": denied_key, "denied": count}
            for policy, denied_key, count in context.top_denied.top(context.settings.top_keys)
        ],
    }


def _totals(stats: EngineStats) -> dict[str, int]:
    return {
        "admitted": sum(one.admitted for one in stats.policies),
        "denied": sum(one.denied for one in stats.policies),
        "unmatched": stats.unmatched,
        "keys": stats.table.keys,
        "reservations": stats.reservations,
    }


def _of_policy(stats: PolicyStats) -> dict[str, Any]:
    return {
        "policy": stats.level,
        "admitted": stats.admitted,
        "denied": stats.denied,
        "keys": stats.keys,
    }
