"""One elephant among mice: what flows that share a server ask for, and what each of them gets."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.lab.workload import Arrivals, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from headgate.lab.simulation import Simulation
    from headgate.lab.workload import Request

__all__ = ["ELEPHANT", "MICE", "Herd", "RoundRobinLine", "herds", "jain"]

MICE: Final = 20
ELEPHANT: Final = "elephant"
_TIMES: Final = 100


def jain(values: Iterable[float]) -> float:
    """Jain's index of fairness: 1 when all get the same, 1/n when one gets all; NaN of nothing.

    >>> jain([5, 5, 5, 5]), jain([8, 0, 0, 0])
    (1.0, 0.25)
    """
    gotten = list(values)
    squares = sum(value * value for value in gotten)
    return sum(gotten) ** 2 / (len(gotten) * squares) if squares else float("nan")


@dataclass
class Herd:
    """A load of 20 mice and, unless they are alone, an elephant that asks for 100 times as much as one.

    Attributes:
        mouse: what one mouse asks for, as a multiple of its fair share of the capacity.
        has_elephant: whether it is there.
        begin_ns, end_ns: what is measured.
        tally: of the mice.
        served: requests done in time, by flow.
    """

    mouse: float
    has_elephant: bool
    begin_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        self.tally = Tally(self.begin_ns, self.end_ns)
        self.served = dict.fromkeys([ELEPHANT, *(f"mouse {n}" for n in range(MICE))], 0)

    @property
    def load(self) -> float:
        """Of all together, as a multiple of the capacity."""
        return self.mouse * (MICE + self.has_elephant * _TIMES) / (MICE + 1)

    @property
    def goodput(self) -> float:
        """Requests of all flows done in time, per second."""
        return sum(self.served.values()) / self.tally.seconds

    @property
    def fairness(self) -> float:
        """Jain's index of what the flows got."""
        return jain(self.served.values())

    def run(
        self,
        simulation: Simulation,
        capacity: float,
        send: Callable[[Request], object],
        service: Callable[[Random], int],
        timeout_ns: int,
    ) -> None:
        """Let requests arrive until the end. The mice's are the same with and without the elephant."""
        share = capacity * self.mouse / (MICE + 1)
        loads = [("mice", share * MICE, lambda rng: f"mouse {rng.randrange(MICE)}")]
        if self.has_elephant:
            loads.append((ELEPHANT, share * _TIMES, lambda _: ELEPHANT))
        for name, rate, flow in loads:
            Arrivals(
                simulation,
                rate,
                send,
                service=service,
                timeout_ns=timeout_ns,
                flow=flow,
                name=name,
                until_ns=self.end_ns,
            )

    def offer(self, request: Request) -> None:
        """It arrived."""
        if request.flow != ELEPHANT:
            self.tally.offer(request)

    def reject(self, request: Request, now: int) -> None:
        """It was refused."""
        if request.flow != ELEPHANT:
            self.tally.reject(request, now)

    def done(self, request: Request, now: int) -> None:
        """It was answered."""
        if request.flow != ELEPHANT:
            self.tally.done(request, now)
        if self.begin_ns <= now < self.end_ns and now <= request.deadline:
            self.served[request.flow] += 1


@final
class RoundRobinLine:
    """A line for each flow, served in turn, as fair queues of routers are (fq_codel less its CoDel).

    Without room the longest line loses its last.

    Args:
        dropped: told of each request that loses its place.
        most: how many may wait in all lines together.
    """

    def __init__(self, dropped: Callable[[Request], object], most: int) -> None:
        self._dropped = dropped
        self._most = most
        self._lines: dict[str, deque[Request]] = {}
        self._turns: deque[str] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, request: Request, now: int) -> None:
        line = self._lines.setdefault(request.flow, deque())
        if not line:
            self._turns.append(request.flow)
        line.append(request)
        self._size += 1
        if self._size > self._most:
            longest = max(self._lines.values(), key=len)
            self._size -= 1
            self._dropped(longest.pop())

    def pop(self, now: int) -> Request | None:
        while self._turns:
            flow = self._turns.popleft()
            line = self._lines[flow]
            if line:
                self._size -= 1
                request = line.popleft()
                if line:
                    self._turns.append(flow)
                return request
        return None


_HERDS: Final = {
    "mice alone": (0.5, False),
    "mice at half their share": (0.5, True),
    "all above their share": (1.5, True),
}
"""(what a mouse asks for, whether the elephant is there), by name."""


def herds(begin: float, seconds: float) -> dict[str, Herd]:
    """One of each kind, measured for so many seconds after so many."""
    begin_ns = round(begin * NS_PER_SECOND)
    end_ns = begin_ns + round(seconds * NS_PER_SECOND)
    return {
        name: Herd(mouse, has_elephant, begin_ns, end_ns)
        for name, (mouse, has_elephant) in _HERDS.items()
    }
