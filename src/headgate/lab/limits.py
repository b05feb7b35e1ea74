"""What limits the calls in flight in experiment 7: nothing, a number, ours, and what others use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final

from headgate.errors import Overloaded
from headgate.gates.adaptive_limiter import AdaptiveLimiter
from headgate.lab.workload import quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.gates.permits import Permit
    from headgate.lab.simulation import Simulation
    from headgate.lab.workload import Request

__all__ = ["LIMITS", "OURS", "Gate", "Gradient2", "Limited", "NoLimit", "Ours"]

OURS: Final = "Headgate, gated gradient"


class Gate(Protocol):
    """Lets requests in, and hears of their ends. The time is nanoseconds of the simulation."""

    @property
    def limit(self) -> float:
        """Requests that may be in flight; 0 when nothing limits them."""

    def enter(self, request: Request, now: int) -> bool:
        """Whether it may."""

    def leave(self, request: Request, now: int) -> None:
        """It was answered."""


@final
class NoLimit:
    """Lets everything in."""

    limit = 0.0

    def enter(self, request: Request, now: int) -> bool:
        return True

    def leave(self, request: Request, now: int) -> None:
        """Nothing to learn."""


@final
class Ours:
    """Headgate's `AdaptiveLimiter`, as users have it."""

    def __init__(self, limiter: AdaptiveLimiter) -> None:
        self._limiter = limiter
        self._permits: dict[int, Permit] = {}

    @property
    def limit(self) -> float:
        return float(self._limiter.limit)

    def enter(self, request: Request, now: int) -> bool:
        try:
            self._permits[request.number] = self._limiter.acquire_nowait()
        except Overloaded:
            return False
        return True

    def leave(self, request: Request, now: int) -> None:
        self._permits.pop(request.number).succeeded()


class Limited:
    """A limit that the rule in `observe` may move."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.in_flight = 0

    def enter(self, request: Request, now: int) -> bool:
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        return True

    def leave(self, request: Request, now: int) -> None:
        self.observe(now - request.arrived, now)
        self.in_flight -= 1

    def observe(self, latency_ns: int, now: int) -> None:
        """Hear of a latency; this one does not care."""


@final
class Gradient2(Limited):
    """Netflix's ``Gradient2Limit``, as its source has it, with its windows of 1 s and medians.

    ``long`` is an exponential average over 600 windows of all samples: what makes it creep up. (It falls by
    5 % when it is more than twice the sample, and the limit holds while less than half of it is in use.)
    """

    def __init__(self, initial: int, least: int = 4, most: int = 1_000) -> None:
        super().__init__(float(initial))
        self._least = float(least)
        self._most = float(most)
        self._long = 0.0
        self._windows = 0
        self._samples: list[int] = []
        self._peak = 0
        self._ends_ns = 10**9

    def observe(self, latency_ns: int, now: int) -> None:
        self._samples.append(latency_ns)
        self._peak = max(self._peak, self.in_flight)
        if now < self._ends_ns or len(self._samples) < 10:
            return
        short = float(quantile(self._samples, 0.5))
        self._learn(short)
        if self._peak >= self.limit / 2:
            gradient = max(0.5, min(1.0, 1.5 * self._long / short))
            wanted = self.limit * gradient + 4.0
            self.limit = min(max(0.8 * self.limit + 0.2 * wanted, self._least), self._most)
        self._samples = []
        self._peak = 0
        self._ends_ns = now + 10**9

    def _learn(self, short: float) -> None:
        self._windows += 1
        if self._windows <= 10:
            self._long += (short - self._long) / self._windows
        else:
            self._long += (short - self._long) * 2.0 / 601.0
        if self._long / short > 2.0:
            self._long *= 0.95


LIMITS: Final[dict[str, Callable[[Simulation, int], Gate]]] = {
    "unprotected": lambda _simulation, _seats: NoLimit(),
    "limit of 1.5 times the seats": lambda _simulation, seats: Limited(1.5 * seats),
    "Gradient2 (Netflix)": lambda _simulation, seats: Gradient2(seats),
    OURS: lambda simulation, seats: Ours(
        AdaptiveLimiter("gradient", initial=seats, clock=simulation.clock)
    ),
    "Headgate, Vegas": lambda simulation, seats: Ours(
        AdaptiveLimiter("vegas", initial=seats, clock=simulation.clock)
    ),
}
"""What is compared: from the simulation and the number of seats to a gate."""
