"""A storm of 10,000 connections on a server that does 1000 handshakes a second.

python examples/connection_storm.py
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from headgate import AsyncBoundedLoop, Clock, LoopBudget, SystemClock


class Connection:
    """Stands for a socket that was accepted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Server:
    """Shakes hands at the pace of its budget, and turns away at once what would wait too long."""

    clock: Clock = field(default_factory=SystemClock)
    served: list[Connection] = field(default_factory=list)
    turned_away: int = 0

    def __post_init__(self) -> None:
        # Two seconds' worth may wait. Whoever comes on top of that is told so now and can go elsewhere;
        # it gets a function of ours, because a connection must be closed.
        self.loop = AsyncBoundedLoop(
            self.shake_hands,
            LoopBudget.network(self.clock),
            capacity=2_000,
            overflow=self.turn_away,
            handler_timeout=2.0,
        )

    def accept(self, connection: Connection) -> None:
        self.loop.put(connection)

    def turn_away(self, connection: Connection) -> None:
        connection.close()
        self.turned_away += 1

    async def shake_hands(self, connection: Connection) -> None:
        if connection.number % 500 == 499:
            await self.clock.sleep_async(
                3_600
            )  # one that never says a word: its handler is given up
        self.served.append(connection)


async def storm(
    connections: int = 10_000, seconds: float = 3.0, clock: Clock | None = None
) -> Server:
    """They come within a tenth of a second."""
    server = Server(SystemClock() if clock is None else clock)
    async with server.loop:
        for number in range(connections):
            server.accept(Connection(number))
            if number % (connections // 100) == 0:
                await server.clock.sleep_async(0.001)
        await server.clock.sleep_async(seconds)
    return server


def main() -> None:
    logging.getLogger("headgate").setLevel(logging.ERROR)
    server = asyncio.run(storm(seconds=12.0))
    stats = server.loop.stats()
    print(f"{stats.received} connections within a tenth of a second")
    print(
        f"{server.turned_away} turned away at once, {len(server.served)} served, {stats.hung} hung"
    )
    print(f"never more than {stats.peak} waited")


if __name__ == "__main__":
    main()
