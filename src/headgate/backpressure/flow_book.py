"""The accounts of flows, in bounded memory.

A flow has an account of its own while its account says anything: while it has work open, or was served
ahead of the others. At the bound, newcomers share 128 accounts by shuffle sharding (as in Kubernetes' API
Priority and Fairness): each is dealt a hand of six by a hash of its name, and uses the one of them that was
served least. A heavy flow spoils at most its own six; that another is dealt just the same ones has odds of
one in five thousand million.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.backpressure.waiting_order import Candidate, ServiceTime

__all__ = ["HAND", "MAX_FLOWS", "SHARDS", "Flow", "FlowBook", "deal"]

MAX_FLOWS: Final = 4_096
SHARDS: Final = 128
HAND: Final = 6


@final
class Flow:
    """An account.

    Attributes:
        weight: its share against the others'.
        is_shared: whether it is one of the shared ones.
        is_active: whether it says anything.
        last: the virtual time up to which it has been served; where its first that waits begins.
        open: how many of its candidates wait or are seated.
        queue: those that wait, by number, in the order of coming.
        work: what these were charged, in seat-nanoseconds.
        service: how long its candidates take; None before one was done.
    """

    __slots__ = (
        "is_active",
        "is_shared",
        "last",
        "name",
        "open",
        "queue",
        "service",
        "weight",
        "work",
    )

    def __init__(self, name: str, weight: float, *, is_shared: bool = False) -> None:
        self.name = name
        self.weight = weight
        self.is_shared = is_shared
        self.is_active = False
        self.last = 0.0
        self.open = 0
        self.queue: dict[int, Candidate] = {}
        self.work = 0.0
        self.service: ServiceTime | None = None


@final
class FlowBook:
    """Who has which account.

    Args:
        weights: of the flows that have another than 1; these have accounts of their own in any case.
        max_flows: how many have an account of their own at most.
        secret: so that nobody can choose names that are dealt a given hand.

    Attributes:
        weight: of all accounts that say anything, in sum.
    """

    def __init__(
        self, weights: Mapping[str, float], max_flows: int = MAX_FLOWS, secret: bytes = b""
    ) -> None:
        self._weights = dict(weights)
        self._max_flows = max_flows
        self._secret = secret
        self._flows: dict[str, Flow] = {}
        self._shards = [Flow("", 1.0, is_shared=True) for _ in range(SHARDS)]
        self._has_dealt = False
        # Accounts without open work, by the virtual time from which on they say nothing.
        self._ahead: list[tuple[float, int, Flow]] = []
        self._put = 0
        self.weight = 0.0

    def __len__(self) -> int:
        """How many have an account of their own."""
        return len(self._flows)

    def account(self, name: str) -> Flow:
        """A flow's account. A new one is remembered when it is opened."""
        flow = self._flows.get(name)
        if flow is not None:
            return flow
        if name in self._weights:
            return Flow(name, self._weights[name])
        if len(self._flows) >= self._max_flows:
            return self._shard(name)
        return Flow(name, 1.0)

    def opened(self, flow: Flow) -> None:
        """One more candidate of the flow waits or is seated."""
        flow.open += 1
        if not flow.is_active:
            flow.is_active = True
            self.weight += flow.weight
            if not flow.is_shared:
                self._flows[flow.name] = flow

    def closed(self, flow: Flow, served: float) -> None:
        """One fewer does; ``served`` is the virtual time."""
        flow.open -= 1
        if flow.open > 0:
            return
        if flow.last <= served:
            self._forget(flow)
        else:
            self._put += 1
            heappush(self._ahead, (flow.last, self._put, flow))

    def advance(self, served: float) -> None:
        """The virtual time has moved: forget the accounts that are no more ahead of it."""
        while self._ahead and self._ahead[0][0] <= served:
            flow = heappop(self._ahead)[2]
            if flow.open == 0 and flow.is_active and flow.last <= served:
                self._forget(flow)

    def clear(self) -> None:
        """Forget all accounts; nothing is open."""
        self.weight = 0.0
        self._ahead.clear()
        self._flows.clear()
        if self._has_dealt:
            self._has_dealt = False
            for shard in self._shards:
                shard.last = 0.0
                shard.is_active = False
                shard.service = None

    def _forget(self, flow: Flow) -> None:
        flow.is_active = False
        self.weight -= flow.weight
        if not flow.is_shared:
            del self._flows[flow.name]

    def _shard(self, name: str) -> Flow:
        self._has_dealt = True
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._secret)
        hand = [self._shards[card] for card in deal(int.from_bytes(digest.digest(), "big"))]
        return min(hand, key=lambda flow: flow.last + flow.work / flow.weight)


def deal(value: int) -> list[int]:
    """A hand of different cards out of the shards, from a 64-bit number.

    >>> deal(0), deal(2**64 - 1)
    ([0, 1, 2, 3, 4, 5], [127, 1, 7, 56, 91, 6])
    """
    hand: list[int] = []
    for left in range(SHARDS, SHARDS - HAND, -1):
        value, card = divmod(value, left)
        for taken in sorted(hand):
            if card >= taken:
                card += 1  # a number among those left becomes one among all
        hand.append(card)
    return hand
