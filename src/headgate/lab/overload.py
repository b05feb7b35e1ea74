"""One server, one load, one protection: the setting of experiments 1 to 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.servers import Server
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Tally, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.protections import Protection
    from headgate.lab.workload import Request

__all__ = ["Overload"]

_USERS: Final = 10_000
_SETTLING: Final = 4.0


@dataclass(frozen=True)
class Overload:
    """A load on a server. Arrivals depend on the seed alone, so all protections see the same.

    Attributes:
        load: arrivals, as a multiple of the capacity.
        shares: of the tiers among them.
        rejection_share: what a rejection costs, as a share of a service.
        seconds: that are measured, after 4 in which everything settles.
        seats: that work.
        service_ns: the mean service time; it is exponentially distributed.
        timeout_ns: after which a caller has given up.
    """

    load: float
    shares: tuple[float, ...] = (0.0, 0.0, 1.0)
    rejection_share: float = 0.005
    seconds: float = 10.0
    seats: int = 8
    service_ns: int = 4 * NS_PER_MS
    timeout_ns: int = NS_PER_SECOND // 2
    _bin_ns: int = field(default=NS_PER_SECOND // 2, repr=False)

    @property
    def capacity(self) -> float:
        """Requests per second that the seats can do."""
        return self.seats * NS_PER_SECOND / self.service_ns

    @property
    def conditions(self) -> dict[str, str]:
        """For a report."""
        return {
            "server": f"{self.seats} seats, service times exponential with mean "
            f"{self.service_ns / 1e6:g} ms, so C = {self.capacity:,.0f}/s",
            "load": f"open loop (Poisson), from {_USERS:,} users; a caller gives up after "
            f"{self.timeout_ns / 1e6:g} ms",
            "a rejection costs": f"{self.rejection_share:.2%} of a service",
            "measured": f"{self.seconds:g} s, after {_SETTLING:g} s to settle",
        }

    def run(self, seed: int, protect: Callable[[Simulation], Protection]) -> Tally:
        """Run it.

        Args:
            seed: of the arrivals and of what the protection draws.
            protect: makes the protection.
        """
        simulation = Simulation(seed)
        protection = protect(simulation)
        begin_ns = round(_SETTLING * NS_PER_SECOND)
        end_ns = begin_ns + round(self.seconds * NS_PER_SECOND)
        tally = Tally(begin_ns, end_ns, self._bin_ns)
        self._wire(simulation, protection, tally)
        simulation.run(end_ns)
        return tally

    def _wire(self, simulation: Simulation, protection: Protection, tally: Tally) -> None:
        """Put arrivals, protection, server and tally together."""

        def started(request: Request) -> bool:
            protection.started(request, simulation.now)
            return True

        def done(request: Request) -> None:
            protection.done(request, simulation.now)
            tally.done(request, simulation.now)

        server = Server(
            simulation,
            done,
            seats=self.seats,
            rejection_ns=round(self.service_ns * self.rejection_share),
            started=started,
        )

        def arrive(request: Request) -> None:
            tally.offer(request)
            if protection.admit(request, len(server.line), simulation.now):
                server.submit(request)
            else:
                server.reject()
                tally.reject(request, simulation.now)

        Arrivals(
            simulation,
            self.load * self.capacity,
            arrive,
            service=exponential(self.service_ns),
            timeout_ns=self.timeout_ns,
            shares=self.shares,
            flow=lambda rng: f"user:{rng.randrange(_USERS)}",
        )
        simulation.every(100 * NS_PER_MS, lambda: protection.tick(len(server.line), simulation.now))
