"""What one key has spent and has left, wherever that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.server.settling import settled

if TYPE_CHECKING:
    from headgate.engine.stats import Usage
    from headgate.server.context import Context

__all__ = ["RECENT", "attributes_of", "key_usage"]

RECENT = "recent"
"""What workers ask each other: the attributes that a key last came with."""


async def key_usage(context: Context, key: str) -> list[dict[str, Any]]:
    """What a key has spent and has left under every limit that its last request met.

    What is shared with other nodes is asked of the shared counters; there, tokens that are leased and not
    spent yet count as used. While they do not answer, it is what their failure mode knows.

    Raises:
        InvalidKey: the key is too long.
    """
    attributes = await attributes_of(context, key)
    engine = context.service.engine
    usages = [_usage(one) for one in engine.usage(attributes)]
    if engine.sharing is None or not usages:
        return usages
    decision = await settled(engine.begin_peek(attributes, 0))
    for usage, level in zip(usages, decision.levels or (decision,), strict=True):
        usage["remaining"] = level.remaining
        usage["used"] = max(0, usage["capacity"] - level.remaining)
        usage["reset_after"] = level.reset_after_ns / 1e9
        usage["rate_per_second"] = usage["used"] / usage["window"]
    return usages


async def attributes_of(context: Context, key: str) -> dict[str, str]:
    """What the key last came with, to any worker of this node."""
    own = context.service.recall(key)
    if own is None and context.station is not None:
        for known in await context.station.link.ask(RECENT, key):
            return dict(known)
    return own or {"key": key}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "policy": usage.policy,
        "key": usage.key,
        "limit": usage.limit,
        "window": usage.window_ns / 1e9,
        "capacity": usage.capacity,
        "used": usage.used,
        "remaining": usage.remaining,
        "reset_after": usage.reset_after_ns / 1e9,
        "rate_per_second": usage.rate_per_second,
    }
