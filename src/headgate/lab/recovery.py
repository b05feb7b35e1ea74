"""A callee that comes back cold, and 200 callers in several processes who wait for it: experiment 8.

The callee fails for a while. When it is back it can take only a few calls at a time, and more as it warms
up; as soon as there are too many it falls over again. Who is refused comes back when the refusal says
that a call may pass, so all callers are there at the very moment at which a circuit becomes half-open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from headgate.clock import NS_PER_MS, NS_PER_SECOND, seconds_to_ns
from headgate.engine.circuits import CircuitAnswer, CircuitQuestion, Circuits
from headgate.errors import CircuitOpen
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.lab.virtual_loop import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from headgate.backpressure.breaker_rule import BreakerRule
    from headgate.clock import Clock

__all__ = ["GUARDS", "HERD", "OURS", "OURS_ALONE", "Recovery", "Scene", "run_scene"]

HERD: Final = "half-open admits all who come"
OURS_ALONE: Final = "Headgate, each process alone"
OURS: Final = "Headgate, shared"

_SERVICE_S: Final = 0.1
_FAILURE_S: Final = 0.05
_THINK_S: Final = 1.0
_SILENCE_NS: Final = NS_PER_SECOND
_COLD_SEATS: Final = 20
_SEATS_PER_SECOND: Final = 2.0
_FALLEN_NS: Final = 5 * NS_PER_SECOND
_ROUND_TRIP_S: Final = 0.0005


@dataclass(frozen=True)
class Scene:
    """What happens.

    Attributes:
        processes, callers: how many there are in all.
        broken_s: how long the callee fails at first.
        seconds: the length of it all.
    """

    processes: int = 4
    callers: int = 200
    broken_s: float = 10.0
    seconds: float = 90.0

    @property
    def offered(self) -> float:
        """Calls per second, when all goes well."""
        return self.callers / (_THINK_S + _SERVICE_S)

    @property
    def conditions(self) -> dict[str, str]:
        """For the report."""
        return {
            "callers": f"{self.callers} in {self.processes} processes; each calls {_THINK_S:g} s after "
            "its last answer, and when a refusal says so",
            "callee": f"fails for {self.broken_s:g} s; then takes {_COLD_SEATS} calls at a time, and "
            f"{_SEATS_PER_SECOND:g} more with each second; above that it falls over for "
            f"{_FALLEN_NS / 1e9:g} s. A call takes {_SERVICE_S * 1e3:g} ms",
            "breakers": "open after 5 failures in a row, for 5 s at first; their store is "
            f"{_ROUND_TRIP_S * 1e3:g} ms away",
        }


@final
@dataclass
class Recovery:
    """What became of it.

    Attributes:
        waves: the calls that began after each silence of a second, before the first of them ended. The
            first wave is the beginning.
        most: calls in flight at a time, at most.
        falls: how often the callee fell over again.
        failed: calls that failed after it was back first.
        good: the moments of calls that went well.
    """

    waves: list[int] = field(default_factory=list)
    most: int = 0
    falls: int = 0
    failed: int = 0
    good: list[int] = field(default_factory=list)

    @property
    def widest(self) -> int:
        """The most calls that were admitted when a circuit became half-open."""
        return max(self.waves[1:], default=0)

    def per_second(self, seconds: float) -> list[float]:
        """Calls that went well, by the second."""
        counts = [0.0] * int(seconds)
        for moment in self.good:
            counts[min(moment // NS_PER_SECOND, len(counts) - 1)] += 1
        return counts

    def recovered_s(self, scene: Scene, share: float = 0.8) -> float:
        """Seconds from the callee's return to the first second from which 80 % go well; inf: never."""
        rates = self.per_second(scene.seconds)
        for second in range(int(scene.broken_s), len(rates)):
            if all(rate >= share * scene.offered for rate in rates[second:]):
                return second - scene.broken_s
        return float("inf")


@final
class Callee:
    """See the module."""

    def __init__(self, clock: Clock, scene: Scene, found: Recovery) -> None:
        self._clock = clock
        self._found = found
        self._back_at = seconds_to_ns(scene.broken_s)
        self._first_back_at = self._back_at
        self._in_flight = 0
        self._last_start = -_SILENCE_NS
        self._in_wave = False

    async def call(self) -> None:
        """One call.

        Raises:
            ConnectionError: it failed.
        """
        clock, found = self._clock, self._found
        now = clock.now_ns()
        if now - self._last_start >= _SILENCE_NS:
            found.waves.append(0)
            self._in_wave = True
        self._last_start = now
        found.waves[-1] += self._in_wave
        self._in_flight += 1
        found.most = max(found.most, self._in_flight)
        try:
            await self._serve(now)
        except ConnectionError:
            found.failed += now >= self._first_back_at
            raise
        finally:
            self._in_flight -= 1
            self._in_wave = False
        found.good.append(clock.now_ns())

    async def _serve(self, now: int) -> None:
        if now >= self._back_at:
            seats = _COLD_SEATS + _SEATS_PER_SECOND * (now - self._back_at) / NS_PER_SECOND
            if self._in_flight > seats:
                self._found.falls += 1
                self._back_at = now + _FALLEN_NS
            else:
                await self._clock.sleep_async(_SERVICE_S)
                if self._clock.now_ns() >= self._back_at:
                    return
                raise ConnectionError
        await self._clock.sleep_async(_FAILURE_S)
        raise ConnectionError


class Guard(Protocol):
    """What a process calls through."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *outcome: object) -> object: ...


@final
class _Open(Exception):
    """Refused, until ``retry_after`` seconds are over."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@final
class HerdBreaker:
    """A breaker as four Python libraries have it: the first success closes it, but until then all pass.

    Five failures in a row open it for five seconds. Read off pybreaker, aiobreaker, circuitbreaker and
    purgatory; the live half runs two of them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until: int | None = None

    async def __aenter__(self) -> None:
        if self._open_until is not None and self._clock.now_ns() < self._open_until:
            raise _Open((self._open_until - self._clock.now_ns()) / NS_PER_SECOND)

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._failures, self._open_until = 0, None
            return
        self._failures += 1
        if self._failures >= 5 or self._open_until is not None:
            self._open_until = self._clock.now_ns() + 5 * NS_PER_SECOND


@final
class _Far:
    """A store of circuits that is some way off."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._store = Circuits(clock)

    def ask(self, name: str, rule: BreakerRule, question: CircuitQuestion) -> CircuitAnswer:
        return self._store.ask(name, rule, question)

    async def ask_async(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> CircuitAnswer:
        await self._clock.sleep_async(_ROUND_TRIP_S / 2)
        found = self.ask(name, rule, question)
        await self._clock.sleep_async(_ROUND_TRIP_S / 2)
        return found

    def close(self) -> None:
        """There is nothing to let go of."""

    async def close_async(self) -> None:
        """There is nothing to let go of."""


def _herd(clock: Clock, processes: int, _rng: Random) -> list[Any]:
    return [HerdBreaker(clock) for _ in range(processes)]


def _ours(clock: Clock, processes: int, rng: Random, store: object = None) -> list[Any]:
    return [
        CircuitBreaker("callee", failure_threshold=5, clock=clock, uniform=rng.random, shared=store)
        for _ in range(processes)
    ]


def _ours_shared(clock: Clock, processes: int, rng: Random) -> list[Any]:
    return _ours(clock, processes, rng, _Far(clock))


GUARDS: Final[dict[str, Callable[[Any, int, Any], list[Any]]]] = {
    HERD: _herd,
    OURS_ALONE: _ours,
    OURS: _ours_shared,
}
"""By name: from a clock, a number of processes and randomness to what each process calls through."""


def run_scene(scene: Scene, guard: str, rng: Random) -> Recovery:
    """Run it in virtual time."""
    found = Recovery()

    async def main(clock: Clock) -> None:
        callee = Callee(clock, scene, found)
        guards = GUARDS[guard](clock, scene.processes, rng)
        callers = [
            asyncio.ensure_future(
                _caller(clock, guards[number % scene.processes], callee, rng.random() * _THINK_S)
            )
            for number in range(scene.callers)
        ]
        await clock.sleep_async(scene.seconds)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    run_virtual(main)
    return found


async def _caller(clock: Clock, guard: Guard, callee: Callee, first_s: float) -> None:
    await clock.sleep_async(first_s)
    while True:
        pause = _THINK_S
        try:
            async with guard:
                await callee.call()
        except ConnectionError:
            pass
        except CircuitOpen as refusal:
            pause = max(refusal.decision.retry_after, NS_PER_MS / NS_PER_SECOND)
        except _Open as refusal:
            pause = refusal.retry_after
        await clock.sleep_async(pause)
