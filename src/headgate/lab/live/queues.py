"""Queues before a live server: what its applications are, and how a load is run against them.

A handler gives way to others once while it has its turn, as one does that awaits something. One that never
did would hold its seat for no time at all, as asyncio sees it, and its callers would wait in the event loop
instead of in the queue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

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
    from collections.abc import Awaitable, Callable
    from random import Random

    from headgate.lab.flows import Herd
    from headgate.lab.live.server import Host

__all__ = [
    "FAIR_QUEUES",
    "QUEUES",
    "ROOM",
    "SEATS",
    "codel",
    "controlled",
    "fair",
    "measured_capacity",
    "run_heavy_live",
    "run_herd_live",
    "run_live",
    "semaphore",
    "semaphore_of_eight",
    "undisturbed",
]

SEATS: Final = 8
ROOM: Final = 75
"""Of the applications whose work is done elsewhere; a flow's place is reached before its callers give up."""

_OUTSTANDING: Final = 4
_CALIBRATING_NS: Final = 3 * NS_PER_SECOND
_TRIES: Final = 3
_UNDISTURBED: Final = 0.98
_T = TypeVar("_T")


async def _work(host: Host, request: Request) -> None:
    await host.clock.sleep_async(0.0)
    host.burn(request)


def semaphore(host: Host) -> Callable[[Request], Awaitable[None]]:
    """One at a time by asyncio's semaphore: first come, first served, without bound."""
    one = asyncio.Semaphore(1)

    async def serve(request: Request) -> None:
        async with one:
            await _work(host, request)

    return serve


def controlled(host: Host) -> Callable[[Request], Awaitable[None]]:
    """One at a time by an `AdmissionQueue` with controlled delay."""
    queue = AdmissionQueue(1, discipline="codel", clock=host.clock)

    async def serve(request: Request) -> None:
        async with queue.admit():
            await _work(host, request)

    return serve


def fair(host: Host) -> Callable[[Request], Awaitable[None]]:
    """Eight at a time by an `AdmissionQueue` that shares fairly among flows; the work is done elsewhere."""
    queue = AdmissionQueue(SEATS, discipline="fair", max_waiting=ROOM, clock=host.clock)

    async def serve(request: Request) -> None:
        left_ns = max(0, request.deadline - host.clock.now_ns())
        async with queue.admit(flow=request.flow, deadline=left_ns / NS_PER_SECOND):
            await host.hold(request)

    return serve


def semaphore_of_eight(host: Host) -> Callable[[Request], Awaitable[None]]:
    """Eight at a time by asyncio's semaphore; the work is done elsewhere."""
    eight = asyncio.Semaphore(SEATS)

    async def serve(request: Request) -> None:
        async with eight:
            await host.hold(request)

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
    "unprotected": f"{__name__}:semaphore_of_eight",
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


def undisturbed(attempt: Callable[[], tuple[float, _T]]) -> _T:
    """The outcome of a run in which other programs took next to nothing of the server's core.

    Args:
        attempt: runs, up to three times, and answers with the share of its work that the server got done
            and the outcome. The best is taken.
    """
    tries = [attempt()]
    while tries[-1][0] < _UNDISTURBED and len(tries) < _TRIES:
        tries.append(attempt())
    return max(tries, key=lambda one: one[0])[1]


def _run(
    what: str,
    tally: Tally,
    served: Callable[[Request, int], object],
    begin: Callable[[LiveTime, Remote], object],
    end_ns: int,
) -> float:
    """Run a load against a server of its own.

    The server spins for as long as a service takes; what it did not burn of that went to other programs.

    Returns:
        The share of the work for which it had its core.
    """
    time = LiveTime()
    expected_ns = 0

    def hear(request: Request, status: Status, _pressure: float, now: int) -> None:
        nonlocal expected_ns
        if status is Status.DONE:
            expected_ns += request.service_ns
            served(request, now)

    with (
        server_process(what, core=cores()[1]) as server,
        pinned(cores()[0]),
        Remote(time, server.port, tally, hear) as remote,
    ):
        begin(time, remote)
        time.run(end_ns)
        burnt = remote.usage().burnt
    return burnt * NS_PER_SECOND / expected_ns if expected_ns else 0.0


def run_live(
    what: str,
    tally: Tally,
    rate: Callable[[int], float],
    service_ns: int,
    timeout_ns: int,
    end_ns: int,
    served: Callable[[Request, int], object],
) -> float:
    """Run a load whose rate changes with time; answers as `undisturbed` wants it.

    Args:
        what: the import path of the server's application or protection.
        tally: counts.
        rate: arrivals per second at a moment.
        service_ns: what each takes.
        timeout_ns: after which a caller has given up.
        end_ns: when the run ends.
        served: told of each request that was served, and when.
    """

    def begin(time: LiveTime, remote: Remote) -> None:
        Arrivals(
            time,
            rate,
            remote.submit,
            service=constant(service_ns),
            timeout_ns=timeout_ns,
            until_ns=end_ns,
        )

    return _run(what, tally, served, begin, end_ns)


def run_herd_live(
    what: str, herd: Herd, capacity: float, service: Callable[[Random], int], timeout_ns: int
) -> None:
    """Run an elephant and mice. The work is held and not burnt, so others disturb less."""

    def begin(time: LiveTime, remote: Remote) -> None:
        def send(request: Request) -> None:
            herd.offer(request)
            # The streams of the mice and of the elephant count from 0 each; on the wire numbers differ.
            request.number = 2 * request.number + (request.flow == ELEPHANT)
            remote.submit(request)

        herd.run(time, capacity, send, service, timeout_ns)

    _run(what, Tally(herd.begin_ns, herd.end_ns), herd.done, begin, herd.end_ns)


def run_heavy_live(what: str, seconds: float) -> heavy.Heavies:
    """Run heavy requests among light ones, held as well."""
    heavies = heavy.Heavies(seconds=seconds)
    end_ns = round(seconds * NS_PER_SECOND)
    last_ns = end_ns + round(heavy.MAX_WAIT * NS_PER_SECOND) + 2 * heavy.WORK_NS

    def served(request: Request, now: int) -> None:
        if request.cost > 1 or now <= end_ns:
            heavies.done(request, now - request.arrived)

    def begin(time: LiveTime, remote: Remote) -> None:
        for request in heavy.requests(time.stream("heavy"), seconds):
            heavies.offer(request)
            time.at(request.arrived, remote.submit, request)

    _run(what, Tally(0, end_ns), served, begin, last_ns)
    return heavies
