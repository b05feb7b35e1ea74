"""Leases, the calculator: how many tokens of a key a node should have, and when it should ask for more.

Plain numbers in, plain numbers out; `headgate.engine.renewals` sends the messages. The rules:

* *Demand* is what requests ask for, admitted or not, in tokens per second: of the time since it was last
  looked at, blended with what it was before; what was ``t`` ago counts ``tau / (tau + t)``, tau = 200 ms.
* A node wants demand x horizon (half a second) tokens, and at a key's first request none but those it needs.
* It asks for more when half of what it had after the last answer is spent: long before it has nothing left.
* When the store has none, the key is *dry* until asking is worth while again: requests are denied at once,
  and the node asks again by itself, if there was demand meanwhile.
* A lease that nobody used for half its life is given back.

Life. The store ends a lease at ``ttl`` after it carried out the last message about it, on its own clock. The
node cannot know when that was, but it was after the message was first sent; so it stops spending at ``ttl``
less a margin after that, on its own clock. The margin allows for a clock that runs slower than the store's.
Tokens that are too old to be spent are kept all the same: the next message reports them, and its answer says
by the store's clock whether the lease was still alive then, which revives them, or not, which voids them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.counters import Standing
    from headgate.engine.renew_flight import RenewFlight
    from headgate.engine.requests import Request

__all__ = ["Lease", "margin_of", "most_leased"]

_TAU_NS: Final = 200_000_000.0
_LEAST_SAMPLE_NS: Final = 1_000_000
_MOST_DEMAND: Final = 1e12
_NS: Final = 1e9
_MARGIN_PART: Final = 20
_LEAST_MARGIN_NS: Final = 1_000_000
_LEAST_RETRY_NS: Final = 1_000_000
"""While the next answer is on its way."""


def most_leased(capacity: i64, share: float) -> int:
    """What all nodes together may hold unspent of one key: the share of its capacity, one at least."""
    return max(1, int(float(capacity) * share))


def margin_of(ttl_ns: i64) -> int:
    """How long before the store ends a lease its node stops spending it."""
    return max(_LEAST_MARGIN_NS, ttl_ns // _MARGIN_PART)


@final
class Lease:
    """What a node has of one key, and what it last heard of it.

    Attributes:
        left: tokens that may be spent until ``usable_until``.
        pinned: tokens that requests hold which wait for other limits; they may come back.
        usable_until: on the node's clock.
        expires_us: when the store ends the lease, on the store's clock.
        low: with so many left, it is time to ask for more.
        asked: tokens asked for since demand was last looked at.
        demand: tokens per second.
        dry_until: until when a cost of ``dry_cost`` or more is denied at once; 0 when it is not.
        renew_at: when tokens ahead are to be asked for that were not to be had; 0 for not at all.
        is_scarce: the last answer gave all that there was: when that is spent, and more is asked for already,
            nobody waits for what cannot be much.
        retry_at: when callers are told to come back, while it is dry.
        heard_at: when the store last told how the key stands; -1 for never.
        spare: the largest cost that passed in the store then.
        reset_at: when, by then, its whole allowance would be back.
        limit: in force.
        window_ns: likewise.
        outstanding: what all nodes held of this key then.
        flight: the message on its way; None when there is none.
        waiters: requests that wait for tokens, the first come first.
        look_at: when it is to be looked at next; 0 for never.
        last_look_at: the last moment for which it is in the agenda; 0 for none.
        is_forgotten: it is no longer kept.
    """

    def __init__(self, key: str, now: i64) -> None:
        self.key = key
        self.left: i64 = 0
        self.pinned: i64 = 0
        self.usable_until: i64 = 0
        self.expires_us: i64 = 0
        self.low: i64 = 0
        self.asked: i64 = 0
        self.asked_since: i64 = now
        self.demand = 0.0
        self.dry_until: i64 = 0
        self.dry_cost: i64 = 1
        self.retry_at: i64 = 0
        self.renew_at: i64 = 0
        self.is_scarce = False
        self.heard_at: i64 = -1
        self.spare: i64 = 0
        self.reset_at: i64 = 0
        self.limit: i64 = 0
        self.window_ns: i64 = 0
        self.outstanding: i64 = 0
        self.flight: RenewFlight | None = None
        self.waiters: list[Request] = []
        self.look_at: i64 = 0
        self.last_look_at: i64 = 0
        self.quiet_since: i64 = now
        self.is_forgotten = False

    def has(self, cost: i64, now: i64) -> bool:
        """Whether so much can be spent without asking."""
        return self.left >= cost and now < self.usable_until

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of all that there was."""
        return self.is_scarce and self.left == 0

    def is_dry(self, cost: i64) -> bool:
        """Whether it is known that so much cannot be had."""
        return self.dry_until != 0 and cost >= self.dry_cost

    def retry_after(self, now: i64) -> i64:
        """What to tell a caller while it is dry: when it can be had, and is not denied anyway."""
        wait = max(self.retry_at, self.dry_until) - now
        return wait if wait > 0 else _LEAST_RETRY_NS

    def may_be_forgotten(self, now: i64) -> bool:
        """Whether nothing is lost with it: it has nothing, and is not being limited."""
        if self.flight is not None or len(self.waiters) > 0 or self.left + self.pinned > 0:
            return False
        return self.dry_until <= now and self.retry_at <= now

    def measure(self, now: i64) -> None:
        """Work out demand anew, if enough time has passed to tell."""
        since = now - self.asked_since
        if since < _LEAST_SAMPLE_NS:
            return
        rate = min(_MOST_DEMAND, float(self.asked) * _NS / float(since))
        part = float(since) / (float(since) + _TAU_NS)
        self.demand = rate if self.demand == 0.0 else self.demand + part * (rate - self.demand)
        if self.demand < 1e-3:
            self.demand = 0.0
        if self.asked > 0:
            self.quiet_since = now
        self.asked = 0
        self.asked_since = now

    def wanted(self, horizon_ns: i64, bound: i64) -> i64:
        """How many tokens it would be good to have, beyond those that requests wait for."""
        good = self.demand * float(horizon_ns) / _NS
        if good <= 0.0:
            return 0
        if good >= float(bound):
            return bound
        return 1 + int(good)

    def renewed(self, kept: i64, at_us: i64, since_us: i64, sent_at: i64, ttl_ns: i64) -> None:
        """Take over what the store granted to keep.

        Args:
            kept: tokens that the store counts as leased.
            at_us: when it answered, on its clock.
            since_us: from when on the lease lasts on its clock, or an earlier moment if that is not known.
            sent_at: when the message was first sent, on the node's clock.
            ttl_ns: how long a lease lasts.
        """
        if at_us >= self.expires_us:
            self.left = 0  # the store had ended the lease before, and counts these as gone
        self.left += kept
        self.expires_us = since_us + ttl_ns // 1000
        self.usable_until = sent_at + ttl_ns - margin_of(ttl_ns)
        self.low = self.left // 2

    def hear(self, standing: Standing, now: i64) -> None:
        """Remember how the key stands in the store."""
        self.heard_at = now
        self.spare = standing.remaining
        self.reset_at = now + standing.reset_ns
        self.limit = standing.limit
        self.window_ns = standing.window_ns

    def dry_up(self, cost: i64, pause_ns: i64, retry_ns: i64, now: i64) -> None:
        """Deny this cost for a while.

        Args:
            cost: the least that cannot be had.
            pause_ns: before it is worth while to ask again.
            retry_ns: what to tell callers; `NEVER` is told as the pause.
            now: on the node's clock.
        """
        self.dry_until = now + pause_ns
        self.dry_cost = cost
        self.retry_at = now + (pause_ns if retry_ns == NEVER else max(retry_ns, 1))
        self.asked = 0
        self.asked_since = now

    def end_drought(self) -> None:
        """Deny nothing at once any more."""
        self.dry_until = 0
        self.is_scarce = False
