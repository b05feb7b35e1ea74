"""Twenty clients and one server, in virtual time and live: the setting of experiments 4 and 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.clients import Clients, VirtualBackend
from headgate.lab.live.load import LiveTime, Remote, cores, pinned
from headgate.lab.live.process import server_process
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Tally, constant, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.manners import Manner
    from headgate.lab.protections import Protection, Setting

    Change = tuple[float, float]

__all__ = ["CLIENTS", "ClientRun", "Kind", "Outcome"]

CLIENTS: Final = 20
_USERS: Final = 10_000
_VIRTUAL_SEATS: Final = 4
_VIRTUAL_SERVICE_NS: Final = 4 * NS_PER_MS
_LIVE_SERVICE_NS: Final = NS_PER_MS
_TRIES: Final = 3
_UNDISTURBED: Final = 0.97


@dataclass(frozen=True)
class Kind:
    """A server's protection, and how its clients behave.

    Attributes:
        label: in tables.
        protect: makes the protection.
        protection: its import path, for the live rig.
        manner: makes a client's manner, from the run and the client's number.
    """

    label: str
    protect: Callable[[Setting], Protection]
    protection: str
    manner: Callable[[Simulation, int], Manner]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        asked: what became of the users' requests.
        seen: what the server saw of it, attempts and all.
        withheld: requests that clients did not send at all, over the whole run.
        capacity: of the server, requests per second.
    """

    asked: Tally
    seen: Tally
    withheld: int
    capacity: float

    @property
    def goodput(self) -> float:
        """As a share of the capacity."""
        return self.asked.goodput / self.capacity

    @property
    def load_seen(self) -> float:
        """What the server saw, as a multiple of its capacity."""
        return sum(self.seen.offered) / self.seen.seconds / self.capacity


@dataclass(frozen=True)
class ClientRun:
    """A load on a server through its clients.

    Attributes:
        load: what users ask for, as a multiple of the capacity.
        settle: seconds that are not measured.
        seconds: that are.
        timeout_ns: of an attempt.
        patience_ns: of a user.
        rejection_share: what a rejection costs in virtual time, as a share of a service.
        speeds: the server's speed from a second of the run on: (second, speed), in order.
        bin_ns: the grain of the timelines.
    """

    load: float
    settle: float
    seconds: float
    timeout_ns: int = NS_PER_SECOND // 2
    patience_ns: int = NS_PER_SECOND // 2
    rejection_share: float = 0.02
    speeds: tuple[Change, ...] = ()
    bin_ns: int = NS_PER_SECOND

    @property
    def conditions(self) -> dict[str, str]:
        """For a report, besides those of the server."""
        return {
            "load": f"open loop (Poisson), from {_USERS:,} users through {CLIENTS} clients; an attempt is "
            f"given up after {self.timeout_ns / 1e6:g} ms, a user after {self.patience_ns / 1e6:g} ms",
            "measured": f"{self.seconds:g} s, after {self.settle:g} s to settle",
        }

    def virtual_conditions(self) -> dict[str, str]:
        """Those of the simulated server."""
        capacity = _VIRTUAL_SEATS * NS_PER_SECOND / _VIRTUAL_SERVICE_NS
        return {
            "server": f"{_VIRTUAL_SEATS} seats, service times exponential with mean "
            f"{_VIRTUAL_SERVICE_NS / 1e6:g} ms, so C = {capacity:,.0f}/s; 1 ms away; a rejection costs "
            f"{self.rejection_share:.1%} of a service",
            **self.conditions,
        }

    def live_conditions(self, capacity: float) -> dict[str, str]:
        """Those of the server process."""
        return {
            "server": f"one process that burns {_LIVE_SERVICE_NS / 1e6:g} ms of processor time for each "
            f"request; measured C = {capacity:,.0f}/s (closed loop)",
            **self.conditions,
            "again": f"up to {_TRIES} times, where others took more than {1 - _UNDISTURBED:.0%} of its core",
        }

    def virtual(self, seed: int, kind: Kind) -> Outcome:
        """Run it in virtual time."""
        time = Simulation(seed)
        asked, seen = self._tallies()
        clients = self._clients(time, kind, asked)
        backend = VirtualBackend(
            time,
            kind.protect(time),
            clients.answered,
            seen,
            seats=_VIRTUAL_SEATS,
            rejection_ns=round(_VIRTUAL_SERVICE_NS * self.rejection_share),
        )
        clients.backend = backend
        capacity = _VIRTUAL_SEATS * NS_PER_SECOND / _VIRTUAL_SERVICE_NS
        self._arrivals(time, clients, capacity, exponential(_VIRTUAL_SERVICE_NS))
        for second, speed in self.speeds:
            time.at(round(second * NS_PER_SECOND), setattr, backend.server, "speed", speed)
        time.run(asked.end_ns + self.patience_ns)
        return Outcome(asked, seen, clients.withheld, capacity)

    def live(self, kind: Kind, capacity: float) -> Outcome:
        """Run it against a server process; again where its core was taken from it."""
        tries = [self._live(kind, capacity)]
        while tries[-1][1] < _UNDISTURBED and len(tries) < _TRIES:
            tries.append(self._live(kind, capacity))
        return max(tries, key=lambda one: one[1])[0]

    def _live(self, kind: Kind, capacity: float) -> tuple[Outcome, float]:
        """The outcome, and the share of its core that the server got while it had enough to do for it."""
        time = LiveTime()
        asked, seen = self._tallies()
        clients = self._clients(time, kind, asked)
        with (
            server_process(kind.protection, core=cores()[1]) as server,
            pinned(cores()[0]),
            Remote(time, server.port, seen, clients.answered) as remote,
        ):
            clients.backend = remote
            before, before_ns = remote.usage(), time.real_now()
            self._arrivals(time, clients, capacity, constant(_LIVE_SERVICE_NS))
            for second, speed in self.speeds:
                time.at(round(second * NS_PER_SECOND), remote.set_speed, speed)
            time.run(asked.end_ns)
            after, after_ns = remote.usage(), time.real_now()
            time.run(asked.end_ns + self.patience_ns)
        share = (after.processor - before.processor) * NS_PER_SECOND / (after_ns - before_ns)
        return Outcome(asked, seen, clients.withheld, capacity), share / min(self.load, 1.0)

    def _tallies(self) -> tuple[Tally, Tally]:
        begin = round(self.settle * NS_PER_SECOND)
        end = begin + round(self.seconds * NS_PER_SECOND)
        return Tally(begin, end, self.bin_ns), Tally(begin, end, self.bin_ns)

    def _clients(self, time: Simulation, kind: Kind, asked: Tally) -> Clients:
        manners = [kind.manner(time, number) for number in range(CLIENTS)]
        return Clients(time, manners, asked, self.timeout_ns)

    def _arrivals(
        self,
        time: Simulation,
        clients: Clients,
        capacity: float,
        service: Callable[..., int],
    ) -> None:
        Arrivals(
            time,
            self.load * capacity,
            clients.ask,
            service=service,
            timeout_ns=self.patience_ns,
            flow=lambda rng: f"user:{rng.randrange(_USERS)}",
            until_ns=round((self.settle + self.seconds) * NS_PER_SECOND),
        )
