"""Limits and questions for tests of shared counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.engine.counters import CHECK, PEEK, Counter, Question
from headgate.policy.model import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.engine.counters import Answer, CounterStore


def counter(
    limit: int = 10,
    window: str = "1m",
    algorithm: str = "fixed_window",
    name: str = "c",
    version: int = 1,
) -> Counter:
    """A limit that nodes share."""
    policy = Policy.from_dict(
        {"name": name, "algorithm": algorithm, "limit": limit, "window": window}
    )
    return Counter(f"tests/{name}", version, policy.levels[0].spec, name)


def check(limit: Counter, *keys: str, cost: int = 1) -> Question:
    return Question(CHECK, [(limit, key) for key in keys], cost)


def passes(answer: Answer | None) -> bool:
    return (
        answer is not None
        and not answer.failed
        and all(standing.wait_ns == 0 for standing in answer.standings)
    )


async def left(store: CounterStore, limit: Counter, *keys: str) -> list[int]:
    """What remains of each key."""
    questions: Sequence[Question] = [Question(PEEK, [(limit, key)], 1) for key in keys]
    answers = await store.ask(questions)
    return [-1 if answer is None else answer.standings[0].remaining for answer in answers]
