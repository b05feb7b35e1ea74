"""Who holds how many tokens of one key ahead of need: the store's side of leases (D1, D3).

What a node is granted is debited from the key at once, so the sum over all nodes never exceeds the limit. Of
that, ``need`` is spent on arrival, and ``ahead`` is *held*: the node spends it without asking. The ledger
remembers per node what it holds, until when, and how much it is being asked for.

Fair shares (only while the nodes together are asked for more than the rate): with demands ``d_i``, the share
is ``s_i = min(d_i, L)`` and the level ``L`` such that the shares add up to the rate (max-min). A node earns
credit, and pays with it for all that it is granted::

    credit_i  grows by L per second, up to max(1, s_i * 0.2 s); a new node starts with 1
    credit_i  falls by what is granted, down to -max(1, s_i * window)
    node i may take   max(credit_i, remaining - reserve),   reserve = sum of the others' credits above 0

A node that is asked for less than ``L`` earns faster than it spends, so that its requests may come unevenly.
One that took what nobody claimed is in debt, and cannot claim what is kept for others. For windows that end
for all at once, the reserve also holds what the others will ask for before the end, or be entitled to within
2 s when that is less. It is never more than half the capacity, or one token. So a node that asks little
finds its share whenever it comes, and what nobody claims is anybody's.

``coordination/lua/ledger.lua`` is the same in the store's language, operation by operation; a property test
holds the two to the same numbers. Sums are taken in one order for that reason.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm
    from headgate.engine.counters import LeaseRequest

__all__ = ["Grant", "LeaseEntry", "LeaseLedger", "LeaseTerms"]

_NS_PER_US: Final = 1_000
_US_PER_SECOND: Final = 1_000_000
_CREDIT_SECONDS: Final = 0.2
_KEPT_SECONDS: Final = 2.0
_MOST_DEMAND: Final = 1e15
_LONGEST_FAIR_WAIT_US: Final = 3_600 * _US_PER_SECOND


@final
class Grant:
    """What a node gets.

    Attributes:
        granted: tokens in all.
        held: those of them that are held ahead of need.
        again_ns: when it is worth asking again, if that was less than was asked for.
    """

    __slots__ = ("again_ns", "granted", "held")

    def __init__(self, granted: int, held: int, again_ns: int) -> None:
        self.granted = granted
        self.held = held
        self.again_ns = again_ns


@final
class LeaseTerms:
    """What leases on one kind of limit have to know of it.

    Args:
        name: of the algorithm.
        algorithm: decides.

    Attributes:
        may_be_leased: a permit or a place in a queue is not to be had ahead of need.
        repays_itself: a bucket fills while a lease runs out; a window gets nothing back.
        ends_at_once: for all that was spent in it, as a fixed window does.
        rate: tokens per second.
        window_seconds: the window.
    """

    __slots__ = (
        "algorithm",
        "ends_at_once",
        "may_be_leased",
        "rate",
        "repays_itself",
        "window_seconds",
    )

    def __init__(self, name: str, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.may_be_leased = name not in {"concurrency", "leaky_bucket_queue"}
        self.repays_itself = name in {"token_bucket", "leaky_bucket"}
        self.ends_at_once = name == "fixed_window"
        # In these steps on both sides, so that they agree to the last bit.
        whole_us, rest_ns = divmod(int(algorithm.window_ns), _NS_PER_US)
        window_us = whole_us + rest_ns / _NS_PER_US
        self.rate = int(algorithm.limit) / window_us * _US_PER_SECOND
        self.window_seconds = window_us / _US_PER_SECOND


@final
class LeaseEntry:
    """One node's lease on the key."""

    __slots__ = ("credit", "demand", "expires_us", "granted_at_us", "held", "last", "node", "seq")

    def __init__(self, node: str) -> None:
        self.node = node
        self.seq = 0
        self.held = 0
        self.granted_at_us = 0
        self.expires_us = 0
        self.demand = 0.0
        self.credit = 1.0
        self.last = Grant(0, 0, 0)


@final
class LeaseLedger:
    """The leases on one key.

    Attributes:
        entries: one for each node, in the order in which they came.
        freed: tokens of expired leases that were given back within the present span.
        freed_since_us: when that span began; it lasts one window.
        credited_at_us: when credits were last brought up to date.
    """

    __slots__ = ("credited_at_us", "entries", "freed", "freed_since_us")

    def __init__(self) -> None:
        self.entries: list[LeaseEntry] = []
        self.freed = 0
        self.freed_since_us = 0
        self.credited_at_us = 0

    @property
    def outstanding(self) -> int:
        """What all nodes hold."""
        return sum(entry.held for entry in self.entries)

    def find(self, node: str) -> LeaseEntry | None:
        """The lease of a node, if it has one."""
        for entry in self.entries:
            if entry.node == node:
                return entry
        return None

    def renew(
        self, terms: LeaseTerms, state: object, request: LeaseRequest, at_us: int
    ) -> tuple[object, Grant]:
        """Carry a report and a wish out; the key's state afterwards, and the grant."""
        known = self.find(request.node)
        if known is not None and request.seq <= known.seq:
            if request.seq == known.seq:
                return state, known.last
            return state, Grant(0, 0, 0)
        state = self._drop_expired(terms, state, request.bound, at_us)
        own = self.find(request.node)
        is_new = own is None
        if own is None:
            own = LeaseEntry(request.node)
            self.entries.append(own)
        else:
            state = _report(terms.algorithm, state, own, request, at_us)
        own.demand = _sane(request.demand)
        level = self._water_level(terms.rate)
        self._earn(level, own if is_new else None, at_us)
        state, own.last = self._grant(terms, state, own, request, level, at_us)
        own.seq = request.seq
        own.expires_us = at_us + request.ttl_us
        return state, own.last

    # Inside --------------------------------------------------------------------------------------

    def _drop_expired(self, terms: LeaseTerms, state: object, bound: int, at_us: int) -> object:
        """Forget leases that are over.

        A bucket has repaid them by itself, since leases on it never exceed what flows in while they last.
        A window has not: it gets back what was held, as last reported; but never more than ``bound`` in
        one window, because some of it may have been spent unreported.
        """
        if all(entry.expires_us > at_us for entry in self.entries):
            return state
        algorithm = terms.algorithm
        if at_us - self.freed_since_us >= algorithm.window_ns // _NS_PER_US:
            self.freed = 0
            self.freed_since_us = at_us
        for entry in self.entries:
            if entry.expires_us > at_us or entry.held == 0 or terms.repays_itself:
                continue
            back = min(entry.held, max(0, bound - self.freed))
            if back > 0:
                self.freed += back
                state = _refund(algorithm, state, back, entry.granted_at_us, at_us)
        self.entries = [entry for entry in self.entries if entry.expires_us > at_us]
        return state

    def _water_level(self, rate: float) -> float:
        """The largest share; -1 while there is enough for all demands."""
        demands = sorted([entry.demand for entry in self.entries])
        total = 0.0
        for demand in demands:
            total += demand
        if total <= rate:
            return -1.0
        rest = rate
        left = len(demands)
        for demand in demands:
            if demand * left >= rest:
                break
            rest -= demand
            left -= 1
        return rest / max(1, left)

    def _earn(self, level: float, newcomer: LeaseEntry | None, at_us: int) -> None:
        seconds = max(0, at_us - self.credited_at_us) / _US_PER_SECOND
        self.credited_at_us = at_us
        for entry in self.entries:
            if entry is not newcomer:
                most = max(1.0, _share(entry, level) * _CREDIT_SECONDS)
                earned = level * seconds if level >= 0 else most
                entry.credit = min(most, entry.credit + earned)

    def _grant(
        self,
        terms: LeaseTerms,
        state: object,
        own: LeaseEntry,
        request: LeaseRequest,
        level: float,
        at_us: int,
    ) -> tuple[object, Grant]:
        algorithm = terms.algorithm
        now = at_us * _NS_PER_US
        remaining = algorithm.remaining(state, now)
        allowed = remaining
        reserve = 0
        if level >= 0:
            reserve = self._reserve(terms, state, own, level, now)
            allowed = min(remaining, max(floor(own.credit), remaining - reserve))
        spent = max(0, min(request.need, allowed))
        most = self._most_ahead(terms, own, request, remaining - spent)
        ahead = max(0, min(request.ahead, allowed - spent, most))
        granted: int = spent + ahead
        if granted > 0:
            state = algorithm.consume(state, granted, now)
        if ahead > 0:
            own.held += ahead
            own.granted_at_us = at_us
        if level >= 0:
            least = -max(1.0, _share(own, level) * terms.window_seconds)
            own.credit = max(least, own.credit - granted)
        again_ns = 0
        if granted < request.need + request.ahead and allowed - granted < 1:
            again_ns = _again(algorithm, state, own, level, reserve, now)
        return state, Grant(granted, ahead, again_ns)

    def _reserve(
        self, terms: LeaseTerms, state: object, own: LeaseEntry, level: float, now: int
    ) -> int:
        """What is kept for the other nodes."""
        algorithm = terms.algorithm
        seconds = 0.0
        if terms.ends_at_once:
            ends = algorithm.reset(state, now)
            if ends == 0:
                ends = algorithm.reset(algorithm.consume(None, 1, now), now)
            seconds = (ends // _NS_PER_US) / _US_PER_SECOND
        kept = 0.0
        for entry in self.entries:
            if entry is not own:
                # Nodes that all ask for much go on at the pace of their callers, as on one node: a limit of
                # a day is not to be half kept back until the evening.
                ahead = seconds if entry.demand < level else min(seconds, _KEPT_SECONDS)
                kept += max(0.0, entry.credit) + _share(entry, level) * ahead
        return floor(min(kept, max(1.0, algorithm.capacity / 2)))

    def _most_ahead(
        self, terms: LeaseTerms, own: LeaseEntry, request: LeaseRequest, remaining: int
    ) -> int:
        """How much may be held ahead by this node now, whatever it asks for."""
        if remaining < 1 or not terms.may_be_leased:
            return 0
        nodes = len(self.entries)
        outstanding = self.outstanding
        most = min(
            max(1, remaining // (2 * nodes)),
            request.bound - outstanding,
            max(1, request.bound // nodes) - own.held,
        )
        if terms.repays_itself:
            flows_in = floor(terms.rate * (request.ttl_us / _US_PER_SECOND))
            most = min(most, flows_in - outstanding)
        return most


def _report(
    algorithm: Algorithm, state: object, own: LeaseEntry, request: LeaseRequest, at_us: int
) -> object:
    """What is left of a lease, and what of that is given back."""
    held = max(0, min(request.left, own.held))
    back = max(0, min(request.back, held))
    own.held = held - back
    if back > 0:
        state = _refund(algorithm, state, back, own.granted_at_us, at_us)
    return state


def _refund(
    algorithm: Algorithm, state: object, cost: int, granted_at_us: int, at_us: int
) -> object:
    return algorithm.refund(state, cost, at_us * _NS_PER_US, granted_at_us * _NS_PER_US)


def _again(
    algorithm: Algorithm, state: object, own: LeaseEntry, level: float, reserve: int, now: int
) -> int:
    """When there is a token that this node may take: by its credit, or because nobody claims it."""
    wait = algorithm.wait(state, 1, now)
    if level < 0 or own.credit >= 1:
        return wait
    fair_us: float = _LONGEST_FAIR_WAIT_US
    if level > 0:
        fair_us = min(fair_us, (1 - own.credit) / level * _US_PER_SECOND)
    claimed = max(wait, ceil(fair_us) * _NS_PER_US)
    if reserve + 1 > algorithm.capacity:
        return claimed
    return min(claimed, algorithm.wait(state, reserve + 1, now))


def _share(entry: LeaseEntry, level: float) -> float:
    return entry.demand if level < 0 else min(entry.demand, level)


def _sane(demand: float) -> float:
    if demand > 0:
        return min(demand, _MOST_DEMAND)
    return 0.0  # NaN too: it compares with nothing
