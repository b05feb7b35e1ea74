"""How a node sees its cluster, as documents for REST: what `headgate cluster` shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from headgate.engine.agreement import Member
    from headgate.server.context import Context

__all__ = ["cluster_document", "leader_document", "members_document"]

_ASK_SECONDS: Final = 1.0
_MOST_ASKED: Final = 256
_NS: Final = 1e9


async def cluster_document(context: Context) -> dict[str, Any]:
    """All of it, with what each member says of itself."""
    desk = context.cluster
    agreement = desk.cluster.agreement
    return {
        "cluster": context.settings.cluster,
        "node": desk.cluster.node,
        "agreement": {
            "kind": agreement.kind,
            "trouble": agreement.trouble,
            "cut_off_for": round(desk.config_age, 3),
        },
        "leader": agreement.leader(),
        "configuration": {
            "hash": desk.config_hash(),
            "policies": len(context.policies.versions),
            "is_read": desk.is_configured,
        },
        "store": _store(context),
        "pressure": context.pressure.cluster_members(),
        "members": await members_document(context),
    }


async def members_document(context: Context) -> list[dict[str, Any]]:
    """The live members; each is asked which configuration it has."""
    members = list(context.cluster.cluster.agreement.members())
    asked = await asyncio.gather(*(_ask(context, one) for one in members[:_MOST_ASKED]))
    hashes = {**{one.node: None for one in members}, **dict(asked)}
    leader = context.cluster.cluster.agreement.leader()
    return [
        {
            "node": one.node,
            "address": one.address,
            "version": one.version,
            "started_ms": one.started_ms,
            "workers": one.workers,
            "leads": one.node == leader,
            "configuration": hashes[one.node],
        }
        for one in members
    ]


def leader_document(context: Context) -> dict[str, Any]:
    """Who leads, as far as this node knows."""
    desk = context.cluster
    return {
        "leader": desk.cluster.agreement.leader(),
        "node": desk.cluster.node,
        "leads": desk.leads,
    }


def _store(context: Context) -> dict[str, Any]:
    """The shared counters, as this node finds them."""
    cluster = context.cluster.cluster
    status = cluster.status()
    if status is None:
        return {"state": cluster.store_state()}
    keys, held, bound = cluster.drawn()
    return {
        "state": cluster.store_state(),
        "for": round(status.since_ns / _NS, 3) if status.downs else None,
        "downs": status.downs,
        "asked": status.questions,
        "late": status.late,
        "unanswered": status.unanswered,
        "degraded": status.degraded,
        "leases": keys,
        "held": held,
        "stranded": bound,
        "owed": status.owed,
    }


async def _ask(context: Context, member: Member) -> tuple[str, str | None]:
    """Which configuration a member has; None when it does not say so in time."""
    desk = context.cluster
    if member.node == desk.cluster.node:
        return member.node, desk.config_hash()
    try:
        summary = await asyncio.wait_for(_summary_at(member.address), _ASK_SECONDS)
    except (OSError, TimeoutError, ValueError, KeyError, TypeError):
        return member.node, None
    # Several workers share an address: another one may have answered, which is no less true of its node.
    return member.node, str(summary["configuration"])


async def _summary_at(address: str) -> dict[str, Any]:
    """What the service at an address says of its cluster.

    Raises:
        ValueError: there is no such address, or another program answers there.
        OSError: nobody answers.
    """
    import httpx  # noqa: PLC0415 - who asks for this can wait for the import

    if urlsplit(address).scheme not in {"http", "https"}:
        raise ValueError(address)
    try:
        # What is asked for is no secret, and nothing is sent: the name in a certificate does not matter.
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:  # noqa: S501
            answer = await client.get(f"{address}/readyz", timeout=_ASK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(str(error)) from error
    summary = answer.json()["cluster"]
    if not isinstance(summary, dict):
        raise TypeError(address)
    return summary
