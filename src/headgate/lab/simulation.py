"""Virtual time: the next event is always now.

A discrete-event simulation: a heap of moments and of what happens then. Events of one moment happen in the
order in which they were planned. Nothing waits, so an hour takes as long as its events take to compute, and
the same seed gives the same run.

``Simulation.clock`` is a `headgate.clock.Clock`, so the gates that people use run in here as they are, as
long as they do not block: in a simulation there is nobody who could wake them. For gates that asyncio tasks
await, see `headgate.lab.virtual_loop`.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, final

from headgate.clock import Clock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["Event", "Simulation", "SimulationClock"]


@final
class Event:
    """Something planned, which can be called off."""

    __slots__ = ("_action", "_arguments", "_period_ns")

    def __init__(
        self, action: Callable[..., object], arguments: tuple[Any, ...], period_ns: int = 0
    ) -> None:
        self._action: Callable[..., object] | None = action
        self._arguments = arguments
        self._period_ns = period_ns

    @property
    def cancelled(self) -> bool:
        """Whether it was called off."""
        return self._action is None

    def cancel(self) -> None:
        """Call it off; harmless when it has happened, or was called off before."""
        self._action = None
        self._arguments = ()

    def happen(self) -> int:
        """Let it happen; the nanoseconds until it does again, or 0."""
        if self._action is not None:
            self._action(*self._arguments)
        return 0 if self._action is None else self._period_ns


@final
class SimulationClock(Clock):
    """The clock of a simulation; what blocks on it is told that it may not."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(lambda: simulation.now, 0)

    def sleep(self, seconds: float) -> None:
        """Refused: plan an event instead.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a simulation cannot block; plan the rest with Simulation.after")

    def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
        """Refused, unless the signal is there.

        Raises:
            RuntimeError: it is not.
        """
        if not signal.is_set():
            self.sleep(seconds or 0.0)


class Simulation:
    """A run of virtual time.

    >>> simulation = Simulation(seed=1)
    >>> _ = simulation.after(2_000_000_000, print, "two seconds")
    >>> simulation.run(until_ns=3_000_000_000)
    two seconds
    >>> simulation.now
    3000000000

    Args:
        seed: of all randomness in it.

    Attributes:
        now: nanoseconds since its beginning.
        rng: randomness for whoever needs some. For what must be the same whatever else is drawn (the
            arrivals, when two protections are compared on the same input), take a `stream`.
        clock: the same time for gates.
    """

    def __init__(self, seed: int = 1) -> None:
        self.now = 0
        self.rng = Random(seed)
        self.clock = SimulationClock(self)
        self._seed = seed
        self._planned = 0
        self._heap: list[tuple[int, int, Event]] = []

    def stream(self, name: str) -> Random:
        """Randomness of its own for one purpose: the same for the same seed and name."""
        return Random(f"{self._seed}/{name}")

    def at(self, when_ns: int, action: Callable[..., object], *arguments: Any) -> Event:
        """Plan something for a moment; one that is past is now."""
        return self._plan(when_ns, Event(action, arguments))

    def after(self, delay_ns: int, action: Callable[..., object], *arguments: Any) -> Event:
        """Plan something for so many nanoseconds from now."""
        return self._plan(self.now + delay_ns, Event(action, arguments))

    def every(self, period_ns: int, action: Callable[..., object], *arguments: Any) -> Event:
        """Plan something again and again, the first time one period (> 0 ns) from now."""
        if period_ns <= 0:
            raise ValueError(f"period_ns must be > 0, got {period_ns}; time would stand still")
        return self._plan(self.now + period_ns, Event(action, arguments, period_ns))

    @property
    def next_ns(self) -> int | None:
        """The moment of the next event; None when nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def run(self, until_ns: int) -> None:
        """Let everything up to this moment, and at it, happen; then it is that moment."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            self.now, _, event = heappop(heap)
            again_ns = event.happen()
            if again_ns:
                self._plan(self.now + again_ns, event)
        self.now = max(self.now, until_ns)

    def _plan(self, when_ns: int, event: Event) -> Event:
        self._planned += 1
        heappush(self._heap, (max(when_ns, self.now), self._planned, event))
        return event
