"""Who goes first when not all can: one vocabulary for policies, requests, shedders and queues.

People name a priority; machines count tiers. Tier 0 is the most important, so the lowest number is shed
last and served first.
"""

from __future__ import annotations

from typing import Final

from headgate.errors import InvalidInput

__all__ = ["DEFAULT_TIER", "PRIORITIES", "TIERS", "priority_of", "tier_of"]

PRIORITIES: Final = ("critical", "high", "normal", "low")
"""The names, by tier."""

TIERS: Final = 4
DEFAULT_TIER: Final = 2
"""The tier of what says nothing about itself: normal."""


def tier_of(priority: object) -> int:
    """The tier of a priority, which may be a name or the tier itself.

    >>> tier_of("critical"), tier_of("low"), tier_of(1)
    (0, 3, 1)

    Raises:
        InvalidInput: it is none of them.
    """
    if isinstance(priority, str):
        if priority in PRIORITIES:
            return PRIORITIES.index(priority)
    elif isinstance(priority, int) and not isinstance(priority, bool) and 0 <= priority < TIERS:
        return priority
    raise InvalidInput(
        f"priority must be one of {', '.join(PRIORITIES)}, or a tier from 0 (most important) to "
        f"{TIERS - 1}, got {priority!r:.100}"
    )


def priority_of(tier: int) -> str:
    """The name of a tier.

    >>> priority_of(0)
    'critical'
    """
    return PRIORITIES[tier]
