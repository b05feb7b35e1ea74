"""What the orders of an admission queue have in common: those who wait, and who of them is next.

An order keeps the candidates that wait and answers two questions: who takes the next seat, and who gives
way when there is no more room to wait. It neither counts seats nor reads a clock; that is
`headgate.backpressure.seating`.

Work is measured in seat-nanoseconds: seats taken times how long. What a candidate will take is not known
before it is done, so it is charged an estimate (its seats times the mean service time), which is put
right afterwards.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from headgate.backpressure.flow_book import Flow

__all__ = ["Candidate", "Ranking", "ServiceTime", "Standing", "WaitingOrder"]

FIRST_ESTIMATE_NS: Final = 10_000_000.0
_SMOOTHING: Final = 0.1


class Standing(StrEnum):
    """What has become of a candidate."""

    NEW = "new"
    WAITING = "waiting"
    SEATED = "seated"
    REFUSED = "refused"  # there was no room to wait, and nobody gave way
    LATE = "late"  # it would have waited in vain
    EVICTED = "evicted"  # gave way to one that is more urgent
    EXPIRED = "expired"  # waited as long as it may
    LEFT = "left"  # is done, or gave up


@final
class Candidate:
    """One that wants seats.

    Attributes:
        tier: how important it is; 0 most of all.
        flow: whose it is.
        cost: the seats that it takes, >= 1.
        patience_ns: how long it waits at most; the order may allow less.
        group: the number of its service class, where there are classes.
        owner: room for whoever waits.
        standing: what has become of it.
        arrived, expires, ended: when it came, may wait until, was seated or sent away: on the time of its
            `Seating`.
        seats: what it holds.
        level: the tier in which it stands: its own, or one better after it has aged.
        number: in the order of joining.
        charge: the work that it was charged, in seat-nanoseconds.
        start, finish: its virtual times; see `headgate.backpressure.fair_queue`.
        paid: how much of a claim of its tier it used up; see `headgate.backpressure.priority_queue`.
        record: the account of its flow.
    """

    __slots__ = (
        "arrived",
        "charge",
        "cost",
        "ended",
        "expires",
        "finish",
        "flow",
        "group",
        "level",
        "number",
        "owner",
        "paid",
        "patience_ns",
        "record",
        "seats",
        "standing",
        "start",
        "tier",
    )

    def __init__(
        self,
        *,
        tier: int = 2,
        flow: str = "",
        cost: int = 1,
        patience_ns: int = 10**18,
        group: int = 0,
        owner: object = None,
    ) -> None:
        self.tier = tier
        self.flow = flow
        self.cost = cost
        self.patience_ns = patience_ns
        self.group = group
        self.owner = owner
        self.standing = Standing.NEW
        self.arrived = 0
        self.expires = 0
        self.ended = 0
        self.seats = 0
        self.level = tier
        self.number = 0
        self.charge = 0.0
        self.paid = 0.0
        self.start = 0.0
        self.finish = 0.0
        self.record: Flow | None = None


@final
class Ranking:
    """Candidates in the order of a number, and of joining where that is the same.

    A sorted list: the first, the last and any in between are found and removed in logarithmic time (and a
    move of pointers), and nothing stale stays behind.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Candidate]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, rank: float, candidate: Candidate) -> None:
        # Found without looking at the candidate, which does not compare.
        at = bisect_left(self._entries, (rank, candidate.number))
        self._entries.insert(at, (rank, candidate.number, candidate))

    def remove(self, rank: float, candidate: Candidate) -> None:
        at = bisect_left(self._entries, (rank, candidate.number))
        del self._entries[at]

    def first(self) -> Candidate | None:
        return self._entries[0][2] if self._entries else None

    def last(self) -> Candidate | None:
        return self._entries[-1][2] if self._entries else None


@final
class ServiceTime:
    """The mean time that a seat is taken, as an exponential average of what was seen.

    Attributes:
        mean_ns: the estimate; 10 ms before anything was seen.
    """

    def __init__(self) -> None:
        self.mean_ns = FIRST_ESTIMATE_NS
        self._seen = False

    def observe(self, served_ns: int) -> None:
        served = float(max(served_ns, 1))
        self.mean_ns = self.mean_ns + _SMOOTHING * (served - self.mean_ns) if self._seen else served
        self._seen = True


class WaitingOrder:
    """An order. ``now`` is nanoseconds on a time that never goes back.

    A candidate is prepared, then either added or forgotten. One that was added is removed once, seated or
    not, and if it was seated, `finished` follows.
    """

    def resize(self, seats: int) -> None:
        """There are so many seats from now on."""

    def prepare(self, candidate: Candidate, now: int) -> None:
        """Work out where the candidate would stand. Changes nothing but the candidate."""
        raise NotImplementedError

    def is_hopeless(self, candidate: Candidate, now: int) -> bool:
        """Whether a prepared one, if it has to wait, would wait in vain. Changes nothing."""
        return False

    def patience(self, candidate: Candidate, now: int) -> int:
        """The most nanoseconds that a prepared one may wait. Changes nothing."""
        raise NotImplementedError

    def add(self, candidate: Candidate, now: int) -> None:
        """A prepared one waits; ``number`` has been given to it."""
        raise NotImplementedError

    def first(self, now: int) -> Candidate | None:
        """Who takes the next seat. The same one until it is removed or a more urgent one comes."""
        raise NotImplementedError

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        """Who gives way to a prepared one when there is no room; None when the newcomer does."""
        raise NotImplementedError

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        """One that waited takes its seat, or is gone."""
        raise NotImplementedError

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        """One that was seated gives its seats back."""
        raise NotImplementedError
