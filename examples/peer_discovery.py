"""A peer-discovery loop under attack: a liar announces a thousand addresses for each real one.

python examples/peer_discovery.py
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from headgate import AsyncBoundedLoop, Clock, LoopBudget, PeerLimiter, SystemClock


@dataclass
class Discovery:
    """Looks at announced addresses, at most 200 a second, whoever announces how many."""

    clock: Clock = field(default_factory=SystemClock)
    found: set[str] = field(default_factory=set)
    looked: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        # Two bounds: what one peer may announce, and what the loop does in all.
        self.peers = PeerLimiter(rate=20, burst=40, failure_threshold=5, clock=self.clock)
        # While there is too much, the oldest announcements give way: they are the least likely to hold.
        self.loop = AsyncBoundedLoop(
            self.look,
            LoopBudget.discovery(self.clock),
            capacity=500,
            overflow="drop_oldest",
            handler_timeout=5.0,
        )

    def announce(self, peer: str, address: str) -> None:
        """What comes off the network; it never waits."""
        if self.peers.check(peer):
            self.loop.put((peer, address))
        else:
            self.refused += 1

    async def look(self, announcement: tuple[str, str]) -> None:
        """Stands for a handshake with the address; who announces what is not there is left alone."""
        peer, address = announcement
        self.looked += 1
        if address.startswith("made-up"):
            self.peers.record_failure(peer)
            raise ConnectionError(f"nobody at {address}")
        self.peers.record_success(peer)
        self.found.add(address)


async def attacked(seconds: int = 3, clock: Clock | None = None) -> Discovery:
    discovery = Discovery(SystemClock() if clock is None else clock)
    async with discovery.loop:
        for tick in range(seconds * 10):
            for number in range(100):
                discovery.announce("liar", f"made-up-{tick}-{number}")
            discovery.announce(f"honest-{tick % 5}", f"node-{tick}")
            await discovery.clock.sleep_async(0.1)
    return discovery


def main() -> None:
    logging.getLogger("headgate").setLevel(logging.ERROR)
    discovery = asyncio.run(attacked())
    stats = discovery.loop.stats()
    print(f"announced and refused at once: {discovery.refused}")
    print(f"looked at: {discovery.looked}, of which nobody was there: {stats.failed}")
    print(f"real nodes found: {len(discovery.found)} of 30")
    print(f"the liar's circuit: {discovery.peers.circuit_state('liar')}")


if __name__ == "__main__":
    main()
