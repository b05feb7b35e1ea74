"""Who holds tokens of a key: what `headgate cluster leases` shows.

The shared counters are asked how the key stands under every shared limit, 256 at most: as the limit counted
it by its last request, else as it was given. Where it has spent anything, they are asked who has drawn
tokens ahead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from headgate.engine.counters import PEEK, Question
from headgate.errors import StoreUnavailable
from headgate.server.key_usage import attributes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.engine.counters import Answer, Counter, CounterStore
    from headgate.server.context import Context

__all__ = ["leases_document"]

_SECONDS: Final = 2.0
_MOST: Final = 256
_US: Final = 1e6


async def leases_document(context: Context, key: str, policy: str | None) -> dict[str, Any]:
    """Who holds tokens of a key, limit by limit.

    Raises:
        InvalidKey: the key is too long.
        StoreUnavailable: the shared counters do not answer.
    """
    attributes = await attributes_of(context, key)
    counters = context.cluster.cluster.counters
    places = [] if counters is None else _places(context, key, attributes, policy)
    levels: list[dict[str, Any]] = []
    if counters is not None and places:
        try:
            async with asyncio.timeout(_SECONDS):
                levels = await _levels(context, counters, places)
        except TimeoutError as error:
            message = "the shared counters do not answer; ask again when they do"
            raise StoreUnavailable(message) from error
    return {
        "key": key,
        "node": context.cluster.cluster.node,
        "looked_at": len(places),
        "levels": levels,
    }


def _places(
    context: Context, key: str, attributes: dict[str, str], policy: str | None
) -> list[tuple[Counter, int, str]]:
    """Where the key may stand: a counter, the most that may be leased of its keys, the key within it."""
    met = {one.policy: one.key for one in context.service.engine.usage(attributes)}
    places = []
    for counter, bound in context.cluster.cluster.shared_counters():
        name = counter.name
        if policy is None or name == policy or name.startswith(f"{policy}/"):
            places.append((counter, bound, met.get(name, key)))
    return places[:_MOST]


async def _levels(
    context: Context, counters: CounterStore, places: Sequence[tuple[Counter, int, str]]
) -> list[dict[str, Any]]:
    asked = [Question(PEEK, [(counter, key)], 0) for counter, _, key in places]
    answers = await counters.ask(asked)
    found = []
    for (counter, bound, key), answer in zip(places, answers, strict=True):
        if _has_spent(answer):
            leases = await counters.leases(counter, key)
            found.append(_level(context, (counter, bound, key), leases, answer))
    return found


def _has_spent(answer: Answer | None) -> bool:
    return answer is not None and not answer.failed and answer.standings[0].reset_ns > 0


def _level(
    context: Context,
    place: tuple[Counter, int, str],
    leases: Sequence[tuple[str, int, int]],
    answer: Answer | None,
) -> dict[str, Any]:
    counter, bound, key = place
    sharing = context.cluster.cluster.sharing
    views = [] if sharing is None else sharing.leases(key)
    here = next((one for one in views if one.policy == counter.name), None)
    return {
        "policy": counter.name,
        "key": key,
        "leases": [
            {"node": _member(node), "held": held, "expires_in": expires_us / _US}
            for node, held, expires_us in leases
        ],
        "held": sum(held for _, held, _ in leases),
        "bound": bound,
        "remaining": 0 if answer is None else answer.standings[0].remaining,
        "here": {
            "left": 0 if here is None else here.held,
            "demand": 0.0 if here is None else round(here.demand, 3),
        },
    }


def _member(holder: str) -> str:
    """The member that a holder of leases is; what follows tells its lives apart."""
    return holder.rpartition("/")[0] or holder
