"""Queues before a live server: what its applications are, and how a load is run against them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_SECOND
from headgate.gates.admission_queue import AdmissionQueue
from headgate.lab import heavy
from headgate.lab.codel import CoDelLine
from headgate.lab.flows import ELEPHANT
from headgate.lab.live.frames import Status
from headgate.lab.live.load import LiveTime, Remote, cores, pinned
from headgate.lab.live.process import server_process
from headgate.lab.protections import Unprotected
from headgate.lab.workload import Arrivals, Request, Tally, constant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from random import Random

    from headgate.lab.flows import Herd
    from headgate.lab.live.server import Host

__all__ = [
    "FAIR_QUEUES",
    "QUEUES",
    "codel",
    "controlled",
    "fair",
    "measured_capacity",
    "run_heavy_live",
    "run_herd_live",
    "run_live",
    "semaphore",
]

_OUTSTANDING: Final = 4
_CALIBRATING_NS: Final = 3 * NS_PER_SECOND


def semaphore(host: Host) -> Callable[[Request], Awaitable[None]]:
    """One at a time by asyncio's semaphore: first come, first served, without bound."""
    one = asyncio.Semaphore(1)

    async def serve(request: Request) -> None:
        async with one:
            host.burn(request)

    return serve


def controlled(host: Host) -> Callable[[Request], Awaitable[None]]:
    """One at a time by an `AdmissionQueue` with controlled delay."""
    queue = AdmissionQueue(1, discipline="codel", clock=host.clock)

    async def serve(request: Request) -> None:
        async with queue.admit():
            host.burn(request)

    return serve


def fair(host: Host) -> Callable[[Request], Awaitable[None]]:
    """One at a time by an `AdmissionQueue` that shares fairly among flows."""
    queue = AdmissionQueue(1, discipline="fair", max_waiting=300, clock=host.clock)

    async def serve(request: Request) -> None:
        async with queue.admit(flow=request.flow):
            host.burn(request)

    return serve


class _CoDel(Unprotected):
    label = "CoDel (RFC 8289)"

    def __init__(self, host: Host) -> None:
        self.line = CoDelLine(host.drop)


def codel(host: Host) -> Unprotected:
    """One line, dropped from as routers do."""
    return _CoDel(host)


QUEUES: Final = {
    "unprotected": f"{__name__}:semaphore",
    "CoDel (RFC 8289)": f"{__name__}:codel",
    "Headgate, controlled delay": f"{__name__}:controlled",
}
"""Import paths by label."""

FAIR_QUEUES: Final = {
    "unprotected": f"{__name__}:semaphore",
    "Headgate, weighted fair queue": f"{__name__}:fair",
}


def measured_capacity(service_ns: int) -> float:
    """Requests per second that the server does with our queue, a few of them outstanding all the time."""
    time = LiveTime()
    tally = Tally(0, _CALIBRATING_NS)
    with server_process(QUEUES["Headgate, controlled delay"], core=cores()[1]) as server:

        def again(request: Request, _status: Status, _pressure: float, now: int) -> None:
            if now < _CALIBRATING_NS:
                remote.submit(_request(request.number + _OUTSTANDING, now, service_ns))

        with pinned(cores()[0]), Remote(time, server.port, tally, again) as remote:
            for number in range(_OUTSTANDING):
                remote.submit(_request(number, time.now, service_ns))
            time.run(_CALIBRATING_NS + NS_PER_SECOND // 2)
    # The best second: others who use the machine only ever take away.
    return max(tally.timeline_goodput()[1])


def _request(number: int, now: int, service_ns: int) -> Request:
    return Request(number, now, now + NS_PER_SECOND, service_ns)


@contextlib.contextmanager
def _connected(
    what: str, time: LiveTime, tally: Tally, served: Callable[[Request, int], object]
) -> Iterator[Remote]:
    """A server of its own on the other core; ``served`` hears of each request that was, and when."""

    def hear(request: Request, status: Status, _pressure: float, now: int) -> None:
        if status is Status.DONE:
            served(request, now)

    with (
        server_process(what, core=cores()[1]) as server,
        pinned(cores()[0]),
        Remote(time, server.port, tally, hear) as remote,
    ):
        yield remote


def run_live(
    what: str,
    tally: Tally,
    rate: Callable[[int], float],
    service_ns: int,
    timeout_ns: int,
    end_ns: int,
    served: Callable[[Request, int], object],
) -> None:
    """Run a load whose rate changes with time.

    Args:
        what: the import path of the server's application or protection.
        tally: counts.
        rate: arrivals per second at a moment.
        service_ns: what each takes.
        timeout_ns: after which a caller has given up.
        end_ns: when the run ends.
        served: told of each request that was served, and when.
    """
    time = LiveTime()
    with _connected(what, time, tally, served) as remote:
        Arrivals(
            time,
            rate,
            remote.submit,
            service=constant(service_ns),
            timeout_ns=timeout_ns,
            until_ns=end_ns,
        )
        time.run(end_ns)


def run_herd_live(
    what: str, herd: Herd, capacity: float, service: Callable[[Random], int], timeout_ns: int
) -> None:
    """Run an elephant and mice."""
    time = LiveTime()
    all_of_them = Tally(herd.begin_ns, herd.end_ns)
    with _connected(what, time, all_of_them, herd.done) as remote:

        def send(request: Request) -> None:
            herd.offer(request)
            # The streams of the mice and of the elephant count from 0 each; on the wire numbers differ.
            request.number = 2 * request.number + (request.flow == ELEPHANT)
            remote.submit(request)

        herd.run(time, capacity, send, service, timeout_ns)
        time.run(herd.end_ns)


def run_heavy_live(what: str, seconds: float) -> heavy.Heavies:
    """Run heavy requests among light ones."""
    time = LiveTime()
    heavies = heavy.Heavies(seconds=seconds)
    end_ns = round(seconds * NS_PER_SECOND)
    last_ns = end_ns + round(heavy.MAX_WAIT * NS_PER_SECOND) + 2 * heavy.WORK_NS

    def served(request: Request, now: int) -> None:
        if request.cost > 1 or now <= end_ns:
            heavies.done(request, now - request.arrived)

    with _connected(what, time, Tally(0, end_ns), served) as remote:
        for request in heavy.requests(time.stream("heavy"), seconds):
            heavies.offer(request)
            time.at(request.arrived, remote.submit, request)
        time.run(last_ns)
    return heavies
