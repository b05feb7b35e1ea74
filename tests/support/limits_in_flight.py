"""A service with so many seats, asked for more than it can do, for rules that limit calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.lab.servers import Server
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Arrivals, Request, exponential

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.backpressure.concurrency_limit import ConcurrencyLimit

SECOND = 1_000_000_000


class Bench:
    """Drives one rule. ``limits`` has the limit at the end of each second, ``done`` the answers in it."""

    def __init__(
        self,
        rule: ConcurrencyLimit,
        *,
        seats: int,
        load: float | Callable[[float], float],
        mean: float = 0.01,
        service: Callable[..., int] | None = None,
    ) -> None:
        self.rule = rule
        self.simulation = Simulation(seed=7)
        self.server = Server(self.simulation, self._done, seats=seats)
        self.in_flight = 0
        self.limits: list[int] = []
        self.done: list[float] = []
        self._begun: dict[int, int] = {}
        self._answers = 0
        capacity = seats / mean
        rate = (lambda now: load(now / SECOND) * capacity) if callable(load) else load * capacity
        Arrivals(
            self.simulation,
            rate,
            self._send,
            service=service or exponential(int(mean * SECOND)),
            timeout_ns=SECOND,
        )
        self._capacity = capacity
        self.simulation.every(SECOND, self._note)

    def run(self, seconds: float) -> Bench:
        self.simulation.run(self.simulation.now + int(seconds * SECOND))
        return self

    def at(self, second: float, do: Callable[[], object]) -> Bench:
        self.simulation.at(int(second * SECOND), do)
        return self

    def _send(self, request: Request) -> None:
        if self.in_flight < self.rule.limit:
            self.in_flight += 1
            self._begun[request.number] = self.in_flight
            self.server.submit(request)

    def _done(self, request: Request) -> None:
        now = self.simulation.now
        self.rule.observe(now, now - request.arrived, self._begun.pop(request.number), False)
        self.in_flight -= 1
        self._answers += 1

    def _note(self) -> None:
        self.limits.append(self.rule.limit)
        self.done.append(self._answers / self._capacity)
        self._answers = 0
