"""A consensus node that proposes until a majority agrees, without spinning while there is none.

python examples/consensus_retry.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate import LoopBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass
class Proposals:
    """How it went."""

    rounds: int = 0
    agreed: int = 0
    waited: float = 0.0


async def agree(
    values: list[str], vote: Callable[[str], Awaitable[int]], nodes: int, budget: LoopBudget
) -> Proposals:
    """Propose each value until a majority votes for it.

    The budget bounds the rounds per second, whatever happens. The pauses grow while nothing is achieved, with
    jitter, so that nodes which collided do not collide again; an agreement makes them short again.
    """
    done = Proposals()
    for value in values:
        while True:
            if not budget.consume():
                done.waited += await budget.backoff()
                continue
            done.rounds += 1
            try:
                votes = await vote(value)
            except ConnectionError:
                votes = 0
            if votes > nodes // 2:
                done.agreed += 1
                budget.progress()
                break
            done.waited += await budget.backoff()
    return done


class Cluster:
    """Stands for the others: cut off for a while, then agreeing."""

    def __init__(self, nodes: int, cut_off_for: int) -> None:
        self.nodes = nodes
        self.left = cut_off_for
        self.asked = 0

    async def vote(self, value: str) -> int:
        self.asked += 1
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError(f"no answer to {value}")
        return self.nodes


def main() -> None:
    cluster = Cluster(nodes=5, cut_off_for=12)
    values = [f"entry-{number}" for number in range(200)]
    done = asyncio.run(agree(values, cluster.vote, cluster.nodes, LoopBudget.consensus()))
    print(f"{done.agreed} agreed in {done.rounds} rounds; {done.waited:.1f} s were spent waiting")


if __name__ == "__main__":
    main()
