"""What is remembered about each peer, in bounded memory.

At the cap, room for a newcomer is made by forgetting a peer of which nothing is known any more (a full
bucket, no failures), or else the one that would be so soonest. A peer that is being limited, whose
circuit is not closed, or that was given a reputation is not forgotten. When all that are looked at are
such, newcomers are not remembered; they share one bucket, the *strangers'*, and no circuit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from headgate.algorithms.token_bucket import TokenBucket
from headgate.backpressure.consecutive_breaker import Circuit
from headgate.decision import NEVER
from headgate.engine.table import TableStats
from headgate.rate import Rate

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["Peer", "PeerBook"]

_LOOKS_AT_CAP: Final = 32
_CACHED_BUCKETS: Final = 1_024


@final
class Peer(Circuit):
    """All that is kept of a peer: its circuit, its bucket's state and its reputation."""

    __slots__ = ("bucket", "reputation", "tat")

    def __init__(self, bucket: TokenBucket) -> None:
        super().__init__()
        self.bucket = bucket
        self.tat: i64 = 0
        self.reputation = 1.0

    def wait(self, cost: i64, now: i64) -> i64:
        """The wait until the bucket has so many tokens; `NEVER` with a reputation of zero."""
        if self.reputation == 0.0 and cost > 0:
            return NEVER
        return self.bucket.wait(self.tat, cost, now)

    def spend(self, cost: i64, now: i64) -> None:
        """Take tokens; only valid when `wait` answered 0."""
        self.tat = cast("int", self.bucket.consume(self.tat, cost, now))

    def remaining(self, now: i64) -> i64:
        """The tokens that may be spent now."""
        if self.reputation == 0.0:
            return 0
        return self.bucket.remaining(self.tat, now)

    def reset(self, now: i64) -> i64:
        """The wait until the bucket is full."""
        return self.bucket.reset(self.tat, now)

    def rescale(self, reputation: float, bucket: TokenBucket, now: i64) -> None:
        """Change the bucket; the share of it that is spent stays the same."""
        before = self.bucket
        spent = before.used(self.tat, now)
        self.reputation = reputation
        self.bucket = bucket
        self.tat = 0
        if spent > 0:
            self.spend(-(-spent * bucket.capacity // before.capacity), now)


@final
class PeerBook:
    """The peers that are remembered. Not locked: its owner does that.

    Attributes:
        strangers: what newcomers share that find no room.
    """

    def __init__(self, rate: Rate, max_peers: int) -> None:
        self._rate = rate
        self._bucket = TokenBucket(rate.limit, rate.window_ns, rate.capacity)
        self._buckets: dict[float, TokenBucket] = {}
        self._peers: dict[str, Peer] = {}
        self._max_peers: i64 = max_peers
        self.strangers = Peer(self._bucket)
        self._unknown = Peer(self._bucket)
        self._round: list[str] = []
        self._forgotten: i64 = 0
        self._evicted: i64 = 0
        self._tokens_forgone: i64 = 0
        self._overflowed: i64 = 0

    def __len__(self) -> int:
        return len(self._peers)

    def names(self) -> list[str]:
        """The peers that are remembered."""
        return list(self._peers)

    def seen(self, name: str) -> Peer:
        """What is known of a peer, to look at: one that is new has everything."""
        return self._peers.get(name, self._unknown)

    def remembered(self, name: str, now: i64) -> Peer:
        """What is known of a peer, to change; the strangers' state for a newcomer without room."""
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= self._max_peers and not self._make_room(now):
                self._overflowed += 1
                return self.strangers
            peer = Peer(self._bucket)
            self._peers[name] = peer
        return peer

    def known(self, name: str) -> Peer | None:
        """What is known of a peer; None when nothing is."""
        return self._peers.get(name)

    def remove(self, name: str) -> bool:
        """Forget a peer; False when it was not known."""
        return self._peers.pop(name, None) is not None

    def bucket_for(self, reputation: float) -> TokenBucket:
        """The bucket of peers with this reputation."""
        if reputation == 1.0:
            return self._bucket
        bucket = self._buckets.get(reputation)
        if bucket is None:
            rate = _scaled(self._rate, reputation)
            bucket = TokenBucket(rate.limit, rate.window_ns, rate.capacity)
            if len(self._buckets) >= _CACHED_BUCKETS:
                self._buckets.clear()
            self._buckets[reputation] = bucket
        return bucket

    def stats(self) -> TableStats:
        """A reading of the counters."""
        return TableStats(
            len(self._peers),
            self._max_peers,
            self._forgotten,
            self._evicted,
            self._tokens_forgone,
            self._overflowed,
        )

    def _make_room(self, now: i64) -> bool:
        """Forget the least known of the next few; False when all of them have to be remembered."""
        victim = ""
        soonest: i64 = 0
        looks: i64 = 0
        while looks < _LOOKS_AT_CAP:
            looks += 1
            name = self._next_in_round()
            peer = self._peers.get(name)
            if peer is None or peer.reputation != 1.0 or peer.until_ns != 0:
                continue
            reset = peer.reset(now)
            if reset <= 0 and peer.failures == 0:
                self._peers.pop(name)
                self._forgotten += 1
                return True
            if (not victim or reset < soonest) and peer.remaining(now) > 0:
                victim = name
                soonest = reset
        if not victim:
            return False
        given_up = self._peers.pop(victim)
        self._tokens_forgone += given_up.bucket.used(given_up.tat, now)
        self._evicted += 1
        return True

    def _next_in_round(self) -> str:
        """The next peer to look at. A round is a list of all, made anew when it is through."""
        if not self._round:
            self._round = list(self._peers)
        return self._round.pop()


def _scaled(rate: Rate, reputation: float) -> Rate:
    """A rate times a number; below one per window, the window grows instead."""
    if reputation == 0.0:
        return rate
    limit = rate.limit * reputation
    burst = max(1, round(rate.capacity * reputation))
    if limit >= 1.0:
        return Rate(round(limit), rate.window_ns, burst)
    return Rate(1, round(rate.window_ns / limit), burst)
