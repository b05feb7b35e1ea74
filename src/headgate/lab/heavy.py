"""A few heavy requests among many light ones: do they ever get their turn?

Written for asyncio as users write it, and run in virtual time and in a live server alike.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.errors import RateLimited
from headgate.gates.admission_queue import AdmissionQueue
from headgate.lab.virtual_loop import VirtualLoop
from headgate.lab.workload import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from headgate.clock import Clock

__all__ = [
    "HEAVY",
    "LIMITERS",
    "MAX_WAIT",
    "SEATS",
    "WORK_NS",
    "Heavies",
    "aiolimiter",
    "ours",
    "requests",
    "run_virtually",
]

SEATS: Final = 50
HEAVY: Final = 50
MAX_WAIT: Final = 2.0
WORK_NS: Final = 100 * NS_PER_MS
LIGHT_LOAD: Final = 1.2
_FLOWS: Final = 10
_EVERY_NS: Final = 2 * NS_PER_SECOND


class Place(Protocol):
    """What it needs of a live server's host, or of virtual time."""

    @property
    def clock(self) -> Clock:
        """The time."""

    async def hold(self, request: Request) -> None:
        """Let the service time pass."""


def ours(place: Place) -> Callable[[Request], Awaitable[None]]:
    """50 seats, given out fairly by an `AdmissionQueue`."""
    queue = AdmissionQueue(SEATS, discipline="fair", max_wait=MAX_WAIT, clock=place.clock)

    async def serve(request: Request) -> None:
        async with queue.admit(cost=request.cost, flow=request.flow):
            await place.hold(request)

    return serve


def aiolimiter(place: Place) -> Callable[[Request], Awaitable[None]]:
    """As much per second by aiolimiter, with the same patience."""
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(SEATS, WORK_NS / NS_PER_SECOND)

    async def serve(request: Request) -> None:
        async with asyncio.timeout(MAX_WAIT):
            await limiter.acquire(request.cost)
        await place.hold(request)

    return serve


LIMITERS: Final = {
    "aiolimiter": f"{__name__}:aiolimiter",
    "Headgate, AdmissionQueue": f"{__name__}:ours",
}
"""Import paths by label."""


@dataclass
class Heavies:
    """What became of them.

    Attributes:
        offered, served: heavy ones.
        longest_ns: that one of those which were served waited.
        light_offered, light_served: light ones.
        seconds: of the run.
    """

    offered: int = 0
    served: int = 0
    longest_ns: int = 0
    light_offered: int = 0
    light_served: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of the heavy ones that were served within the longest wait."""
        return self.served / self.offered if self.offered else float("nan")

    @property
    def used(self) -> float:
        """Of the capacity, by both."""
        work = (self.light_served + HEAVY * self.served) * WORK_NS / NS_PER_SECOND
        return work / (SEATS * self.seconds)

    def offer(self, request: Request) -> None:
        """One arrived."""
        if request.cost > 1:
            self.offered += 1
        else:
            self.light_offered += 1

    def done(self, request: Request, latency_ns: int) -> None:
        """One was served."""
        wait_ns = latency_ns - request.service_ns
        if request.cost > 1:
            self.served += wait_ns <= MAX_WAIT * NS_PER_SECOND
            self.longest_ns = max(self.longest_ns, wait_ns)
        else:
            self.light_served += 1


def requests(rng: Random, seconds: float) -> list[Request]:
    """All of a run, in order: light ones at 1.2 times the capacity in ten flows, and heavy ones."""
    rate = LIGHT_LOAD * SEATS / WORK_NS
    end_ns = round(seconds * NS_PER_SECOND)
    found: list[tuple[int, int, str]] = []
    now = 0.0
    while (now := now + rng.expovariate(rate)) < end_ns:
        found.append((int(now), 1, f"light {rng.randrange(_FLOWS)}"))
    found += [(moment, HEAVY, "heavy") for moment in range(NS_PER_SECOND, end_ns, _EVERY_NS)]
    found.sort()
    deadline_ns = round(MAX_WAIT * NS_PER_SECOND) + 2 * WORK_NS
    return [
        Request(number, now, now + deadline_ns, WORK_NS, flow=flow, cost=cost)
        for number, (now, cost, flow) in enumerate(found)
    ]


class _VirtualPlace:
    """Virtual time, as a place to work."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def hold(self, request: Request) -> None:
        await self.clock.sleep_async(request.service_ns / NS_PER_SECOND)


class _MovingLoop(VirtualLoop):  # type: ignore[misc] # final: but its time must not stand still here
    """Virtual time that moves on by a tenth of a nanosecond whenever it is asked for.

    aiolimiter sets timers for less than a float of seconds can tell from now, and asks again when they are
    due; in time that stands still it would do so for ever.
    """

    def __init__(self) -> None:
        self._asked = 0
        super().__init__()

    def time(self) -> float:
        self._asked += 1
        return super().time() + self._asked * 1e-10


def run_virtually(
    factory: Callable[[Place], Callable[[Request], Awaitable[None]]], rng: Random, seconds: float
) -> Heavies:
    """A run in virtual time."""
    loop = _MovingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_run(loop.clock, factory, rng, seconds))


async def _run(
    clock: Clock,
    factory: Callable[[Place], Callable[[Request], Awaitable[None]]],
    rng: Random,
    seconds: float,
) -> Heavies:
    """Let all arrive, each as a task of its own, and wait for the last."""
    heavies = Heavies(seconds=seconds)
    serve = factory(_VirtualPlace(clock))

    async def visit(request: Request) -> None:
        try:
            await serve(request)
        except (RateLimited, TimeoutError):
            return
        if request.cost > 1 or clock.now_ns() <= seconds * NS_PER_SECOND:
            heavies.done(request, clock.now_ns() - request.arrived)

    tasks = []
    for request in requests(rng, seconds):
        await clock.sleep_async((request.arrived - clock.now_ns()) / NS_PER_SECOND)
        heavies.offer(request)
        tasks.append(asyncio.create_task(visit(request)))
    await asyncio.gather(*tasks)
    return heavies
