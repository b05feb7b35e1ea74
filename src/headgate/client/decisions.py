"""From the JSON of an answer back to the decision."""

from __future__ import annotations

import re
from typing import Any, Final

from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.decision import NEVER, Decision

__all__ = ["decision_of"]

_POLICY: Final = re.compile(r'"([^"]*)";q=(\d+);w=(\d+)')


def decision_of(answer: dict[str, Any], policies: str) -> Decision:
    """The decision in a body.

    Args:
        answer: the body's members.
        policies: the RateLimit-Policy field, which alone tells the windows (in whole seconds).
    """
    windows = {name: int(seconds) * NS_PER_SECOND for name, _, seconds in _POLICY.findall(policies)}
    levels = tuple(_one(level, windows) for level in answer.get("levels", ()))
    return _one(answer, windows, levels)


def _one(
    answer: dict[str, Any], windows: dict[str, int], levels: tuple[Decision, ...] = ()
) -> Decision:
    retry = answer["retry_after"]
    return Decision(
        bool(answer["allowed"]),
        answer["limit"],
        answer["remaining"],
        NEVER if retry is None else seconds_to_ns(retry),
        seconds_to_ns(answer["reset_after"]),
        seconds_to_ns(answer["delay"]),
        answer["policy"],
        windows.get(answer["policy"], 0),
        levels,
        bool(answer.get("degraded", False)),
    )
