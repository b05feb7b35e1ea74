"""Awaiting what the engine answers later: from a `Pending` to the loop of the service."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from headgate.decision import Decision
from headgate.engine.pending import Pending
from headgate.errors import HeadgateError

__all__ = ["settled", "settled_or_raise"]

T = TypeVar("T")


async def settled(outcome: T | Pending[T]) -> T:
    """The value, at once when it is there already.

    Who is cancelled meanwhile leaves nothing behind: the value comes all the same, and nobody takes it.
    """
    if not isinstance(outcome, Pending):
        return outcome
    if outcome.is_settled:
        return outcome.value
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def settle(value: T) -> None:
        if not future.done():
            future.set_result(value)

    outcome.then(settle)
    return await future


async def settled_or_raise(outcome: Decision | Pending[Decision | HeadgateError]) -> Decision:
    """The same of what may end in an error, which is raised."""
    if isinstance(outcome, Decision):
        return outcome
    value: Decision | HeadgateError = await settled(outcome)
    if isinstance(value, HeadgateError):
        raise value
    return value
