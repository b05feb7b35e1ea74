"""Requests, how they arrive, and what became of them.

Arrivals are an open loop: they come at their rate whether or not the server keeps up, as they do from many
users who do not know of each other. (In a closed loop each user waits for an answer before asking again,
so a slow server is spared, and overload cannot be seen.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.clock import NS_PER_SECOND
from headgate.priority import TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from headgate.lab.simulation import Simulation

__all__ = ["Arrivals", "Request", "Tally", "constant", "exponential", "quantile"]


@final
class Request:
    """One request. Times are nanoseconds of its simulation.

    Attributes:
        number: in the order of arrival, from 0.
        tier: 0 is the most important.
        arrived: when it reached the server.
        deadline: when its caller has given up.
        service_ns: how long a seat works on it.
        cost: its weight, where weights are told.
        flow: whose it is.
        attempt: 1 for the first, more for retries.
        started: when a seat took it; -1 before.
        permit: room for what a gate hands out.
    """

    __slots__ = (
        "arrived",
        "attempt",
        "cost",
        "deadline",
        "flow",
        "number",
        "permit",
        "service_ns",
        "started",
        "tier",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a request is has as many parts
        self,
        number: int,
        arrived: int,
        deadline: int,
        service_ns: int,
        tier: int = 2,
        flow: str = "",
        cost: int = 1,
        attempt: int = 1,
    ) -> None:
        self.number = number
        self.arrived = arrived
        self.deadline = deadline
        self.service_ns = service_ns
        self.tier = tier
        self.flow = flow
        self.cost = cost
        self.attempt = attempt
        self.started = -1
        self.permit: object = None


def exponential(mean_ns: int) -> Callable[[Random], int]:
    """Service times that are exponentially distributed, at least 1 ns."""
    rate = 1.0 / mean_ns
    return lambda rng: 1 + int(rng.expovariate(rate))


def constant(service_ns: int) -> Callable[[Random], int]:
    """Service times that are all the same."""
    return lambda _: service_ns


@final
class Arrivals:
    """A Poisson stream of requests.

    All that it draws comes from its own streams of the simulation, so two simulations of one seed get the
    same requests at the same moments, whatever else differs in them.

    Args:
        simulation: whose time it is.
        rate: requests per second, or a function of the moment (ns) that gives it; 0 or less pauses it.
        send: takes each request when it arrives.
        service: draws a service time (ns).
        timeout_ns: from arrival to deadline.
        shares: of the tiers, from tier 0 on; they need not sum to 1. Tiers are dealt from shuffled decks of
            1000, so the shares are exact over a run, and random from one moment to the next.
        flow: draws whose request it is; all are of flow "" when left out.
        name: of its streams; two streams of arrivals in one simulation need two names.
        until_ns: no arrivals from this moment on.
    """

    def __init__(  # noqa: PLR0913 - what a load is has as many parts
        self,
        simulation: Simulation,
        rate: float | Callable[[int], float],
        send: Callable[[Request], object],
        *,
        service: Callable[[Random], int],
        timeout_ns: int,
        shares: Sequence[float] = (0.0, 0.0, 1.0),
        flow: Callable[[Random], str] | None = None,
        name: str = "arrivals",
        until_ns: int | None = None,
    ) -> None:
        self._simulation = simulation
        self._rate: Callable[[int], float] = rate if callable(rate) else lambda _: rate
        self._send = send
        self._service = service
        self._timeout_ns = timeout_ns
        self._tiers = [
            tier
            for tier, share in enumerate(shares)
            for _ in range(round(share * _DECK / sum(shares)))
        ]
        self._deck: list[int] = []
        self._flow = flow
        self._moments = simulation.stream(f"{name}/moments")
        self._makeup = simulation.stream(f"{name}/makeup")
        self._until_ns = until_ns
        self.count = 0
        self._plan()

    def _plan(self) -> None:
        now = self._simulation.now
        rate = self._rate(now)
        if rate <= 0:
            self._simulation.after(_PAUSE_NS, self._plan)
            return
        gap = 1 + int(self._moments.expovariate(rate) * NS_PER_SECOND)
        if gap > _LOOK_NS:
            # Nobody has memory here: looking again at a rate that may have changed bends no statistics.
            self._simulation.after(_LOOK_NS, self._plan)
            return
        if self._until_ns is None or now + gap < self._until_ns:
            self._simulation.after(gap, self._arrive)

    def _arrive(self) -> None:
        now = self._simulation.now
        rng = self._makeup
        request = Request(
            self.count,
            now,
            now + self._timeout_ns,
            self._service(rng),
            self._tier(rng),
            "" if self._flow is None else self._flow(rng),
        )
        self.count += 1
        self._plan()
        self._send(request)

    def _tier(self, rng: Random) -> int:
        if not self._deck:
            self._deck = self._tiers.copy()
            rng.shuffle(self._deck)
        return self._deck.pop()


_PAUSE_NS = NS_PER_SECOND // 100
_LOOK_NS = NS_PER_SECOND // 10
_DECK = 1000


@final
class Tally:
    """What became of the requests: counts, latencies, and both over time.

    A request is good when it was done by its deadline. Shares by tier are of the requests that *arrived* in
    the measured time; goodput is of what was *done* in it.

    Args:
        begin_ns: what was before is warm-up and counts in the timelines alone.
        end_ns: likewise what is after.
        bin_ns: the grain of the timelines.
    """

    def __init__(self, begin_ns: int, end_ns: int, bin_ns: int = NS_PER_SECOND) -> None:
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.bin_ns = bin_ns
        self.offered = [0] * TIERS
        self.good = [0] * TIERS
        self.rejected = [0] * TIERS
        self.late = 0
        self.goods_done = 0
        self.latencies_ns: list[int] = []
        self._bins: dict[int, _Bin] = {}

    def offer(self, request: Request) -> None:
        """It arrived."""
        self._bin(request.arrived).offered += 1
        if self._counts(request.arrived):
            self.offered[request.tier] += 1

    def reject(self, request: Request, now: int) -> None:
        """It was refused, at once or after it had waited."""
        self._bin(now).rejected += 1
        if self._counts(request.arrived):
            self.rejected[request.tier] += 1

    def done(self, request: Request, now: int) -> None:
        """It was answered, in time or not."""
        latency = now - request.arrived
        good = now <= request.deadline
        place = self._bin(now)
        place.latencies_ns.append(latency)
        place.good += good
        if self._counts(now):
            self.goods_done += good
            self.latencies_ns.append(latency)
        if self._counts(request.arrived):
            self.good[request.tier] += good
            self.late += not good

    @property
    def seconds(self) -> float:
        """The measured time."""
        return (self.end_ns - self.begin_ns) / NS_PER_SECOND

    @property
    def goodput(self) -> float:
        """Requests done by their deadline, per second."""
        return self.goods_done / self.seconds

    def success(self, tier: int | None = None) -> float:
        """The share of what arrived that was done in time, of a tier or of all; NaN when none arrived."""
        offered = sum(self.offered) if tier is None else self.offered[tier]
        good = sum(self.good) if tier is None else self.good[tier]
        return good / offered if offered else float("nan")

    def latency(self, share: float) -> float:
        """Seconds within which this share (.99) of the answered was answered; NaN when none was."""
        return quantile(self.latencies_ns, share) / NS_PER_SECOND

    def timeline_goodput(self) -> tuple[list[float], list[float]]:
        """(seconds, good answers per second) by bin."""
        return self._timeline(lambda place: place.good * NS_PER_SECOND / self.bin_ns)

    def timeline_offered(self) -> tuple[list[float], list[float]]:
        """(seconds, arrivals per second) by bin."""
        return self._timeline(lambda place: place.offered * NS_PER_SECOND / self.bin_ns)

    def timeline_latency(self, share: float = 0.99) -> tuple[list[float], list[float]]:
        """(seconds, seconds of latency) by bin; NaN where nothing was answered."""
        return self._timeline(lambda place: quantile(place.latencies_ns, share) / NS_PER_SECOND)

    def _timeline(self, value: Callable[[_Bin], float]) -> tuple[list[float], list[float]]:
        # What comes after the end is the emptying of queues, with nobody asking any more.
        last = min(max(self._bins, default=-1), (self.end_ns - 1) // self.bin_ns)
        empty = _Bin()
        places = [self._bins.get(number, empty) for number in range(last + 1)]
        seconds = [number * self.bin_ns / NS_PER_SECOND for number in range(last + 1)]
        return seconds, [value(place) for place in places]

    def _counts(self, moment: int) -> bool:
        return self.begin_ns <= moment < self.end_ns

    def _bin(self, moment: int) -> _Bin:
        number = moment // self.bin_ns
        place = self._bins.get(number)
        if place is None:
            place = self._bins[number] = _Bin()
        return place


class _Bin:
    """One grain of a timeline."""

    __slots__ = ("good", "latencies_ns", "offered", "rejected")

    def __init__(self) -> None:
        self.offered = 0
        self.rejected = 0
        self.good = 0
        self.latencies_ns: list[int] = []


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of the values does not exceed; NaN when there are none.

    >>> quantile([4, 1, 3, 2], 0.5), quantile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    if not values:
        return float("nan")
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]
