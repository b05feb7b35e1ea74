"""A budget for a loop that must not run wild (B1): so many iterations per window, and pauses that grow."""

from __future__ import annotations

import threading
from random import random
from typing import TYPE_CHECKING, Final, Literal, SupportsFloat, SupportsIndex, final

from headgate.backpressure.backoff import Backoff
from headgate.backpressure.iteration_window import IterationWindow
from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import InvalidInput
from headgate.gates.build import is_atomic_build
from headgate.gates.numbers import valid_call, valid_number, valid_seconds
from headgate.inputs import valid_count, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.gates.shared_allowance import SharedAllowance

__all__ = ["LoopBudget"]

_MAX_LIMIT: Final = 10**9
_MAX_FACTOR: Final = 1_000.0
_LEAST_SHARE: Final = 1e-9
_MOST_NODES: Final = 1_000_000
_MOST_TIMEOUT: Final = 10.0


@final
class LoopBudget:
    """At most ``limit`` iterations in any window.

    >>> budget = LoopBudget(2)
    >>> budget.consume(), budget.consume(), budget.consume()
    (True, True, False)
    >>> budget.utilization
    1.0

    Thread-safe, and safe across asyncio tasks: only the two ``backoff`` wait, each for its own caller.

    With ``shared`` the limit is that of all processes which give the same name, limit and window.
    Iterations are then drawn from the store in the background, before they are needed, so nothing here waits
    for it; a loop that begins, or comes back after seconds, is told no while its first ones are on their way.
    While the store does not answer, each process goes by its share. ``strict`` admits no more than the limit
    in any window, and about a tenth less when it is all asked for; ``leased`` admits all of it, and may
    admit ``share`` of it more in some window.

    Args:
        limit: iterations per window, 1 to 10^9; 10^6 when shared.
        window: seconds, at most a year.
        first_backoff: seconds that the first pause takes at most.
        backoff_factor: by which pauses grow, 1 to 1000.
        max_backoff: seconds that no pause is longer than.
        clock: gives the time; the system's when left out.
        uniform: draws from [0, 1) for the jitter.
        shared: the address of a Redis or Valkey, or a `headgate.engine.counters.CounterStore`.
        name: of a shared budget.
        consistency: of a shared budget, ``"strict"`` or ``"leased"``.
        share: of the limit, what all processes together may hold ahead, above 0 to 1.
        nodes: how many processes share it at least. Those that were met count in any case.
        cluster: processes of the same one count together.
        shared_timeout: seconds after which a store that does not answer is lost, at most 10.

    Raises:
        InvalidInput: a setting is no number or out of bounds.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        limit: SupportsIndex,
        window: SupportsFloat = 1.0,
        *,
        first_backoff: SupportsFloat = 0.01,
        backoff_factor: SupportsFloat = 1.5,
        max_backoff: SupportsFloat = 1.0,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random,
        shared: object = None,
        name: str = "",
        consistency: Literal["strict", "leased"] = "strict",
        share: SupportsFloat = 0.05,
        nodes: SupportsIndex = 1,
        cluster: str = "default",
        shared_timeout: SupportsFloat = 0.05,
    ) -> None:
        self.limit: int = valid_count("limit", limit, _MAX_LIMIT)
        self.window_ns: int = valid_seconds("window", window)
        first = valid_seconds("first_backoff", first_backoff)
        most = valid_seconds("max_backoff", max_backoff)
        if first > most:
            raise InvalidInput(
                f"first_backoff must be at most max_backoff, got {first_backoff} and {max_backoff}"
            )
        self.clock: Clock = SystemClock() if clock is None else clock
        self._now = self.clock.now_ns
        self._uniform = uniform
        valid_call("uniform", uniform)
        self._window = IterationWindow(self.limit, self.window_ns)
        self._pauses = Backoff(
            first, valid_number("backoff_factor", backoff_factor, 1, _MAX_FACTOR), most
        )
        self._lock = threading.RLock()
        # Compiled, a call runs no bytecode between reading and writing the counts, and needs no lock:
        # see docs/adr/0004 and 0076.
        self._needs_lock = not is_atomic_build()
        self._shared: SharedAllowance | None = None
        if shared is not None:
            from headgate.gates.shared_allowance import SharedAllowance  # noqa: PLC0415 - few share

            self._shared = SharedAllowance(
                name,
                self.limit,
                self.window_ns,
                shared=shared,
                consistency=consistency,
                share=valid_number("share", share, _LEAST_SHARE, 1.0),
                timeout_ns=valid_seconds("shared_timeout", shared_timeout, _MOST_TIMEOUT),
                nodes=valid_count("nodes", nodes, _MOST_NODES),
                memory_ns=2 * most,
                cluster=cluster,
                clock=self.clock,
            )

    @classmethod
    def network(cls, clock: Clock | None = None) -> LoopBudget:
        """1000 a second: a loop that serves the network."""
        return LoopBudget(1_000, clock=clock)

    @classmethod
    def consensus(cls, clock: Clock | None = None) -> LoopBudget:
        """500 a second: rounds and retries of an agreement."""
        return LoopBudget(500, clock=clock)

    @classmethod
    def discovery(cls, clock: Clock | None = None) -> LoopBudget:
        """200 a second: looking for peers."""
        return LoopBudget(200, clock=clock)

    @classmethod
    def maintenance(cls, clock: Clock | None = None) -> LoopBudget:
        """100 a second: cleaning up behind everything else."""
        return LoopBudget(100, clock=clock)

    def can_proceed(self) -> bool:
        """Whether there is room for one iteration; takes nothing.

        For a loop that is alone. Where several share a budget, ask with `consume`: it answers and takes
        in one go.
        """
        if self._shared is not None:
            return self._shared.room() > 0
        now: i64 = self._now()
        if self._needs_lock:
            with self._lock:
                return self._window.room(now) > 0
        return self._window.room(now) > 0

    def consume(self, n: SupportsIndex = 1) -> bool:
        """Take n iterations if there is room for all of them; otherwise take nothing.

        Args:
            n: 1 to the limit; a batch may take several at once.

        Raises:
            InvalidInput: n is no whole number, below 1, or above the limit, so that it could never pass.
        """
        count: i64 = n if type(n) is int and 0 < n <= self.limit else self._valid_batch(n)
        if self._shared is not None:
            return self._shared.take(count)
        now: i64 = self._now()
        if self._needs_lock:
            with self._lock:
                return self._window.take(count, now)
        return self._window.take(count, now)

    @property
    def utilization(self) -> float:
        """The share of the limit that the window holds, 0 to 1. A pressure source."""
        if self._shared is not None:
            return self._shared.utilization()
        now: i64 = self._now()
        with self._lock:
            room: i64 = self._window.room(now)
        return 1.0 - float(room) / float(self.limit)

    def retry_after(self, n: SupportsIndex = 1) -> float:
        """Seconds until there is room for n iterations; 0.0 when there is room now."""
        count: i64 = self._valid_batch(n)
        if self._shared is not None:
            return float(self._shared.wait_ns(count)) / NS_PER_SECOND
        now: i64 = self._now()
        with self._lock:
            wait: i64 = self._window.wait(count, now)
        return float(wait) / NS_PER_SECOND

    async def backoff(self) -> float:
        """Pause this task: 10 ms at first, half as long again each time, up to 1 s, with jitter.

        Returns:
            The seconds that it took.
        """
        seconds = self.next_pause()
        await self.clock.sleep_async(seconds)
        return seconds

    def backoff_sync(self) -> float:
        """Pause this thread; the twin of `backoff`."""
        seconds = self.next_pause()
        self.clock.sleep(seconds)
        return seconds

    def next_pause(self) -> float:
        """Seconds that the next pause takes, for who waits in a way of its own. It counts as taken."""
        uniform = self._uniform()
        with self._lock:
            wait: i64 = self._pauses.next(uniform)
        return float(wait) / NS_PER_SECOND

    def progress(self) -> None:
        """Something was achieved: the next pause is a short one again."""
        with self._lock:
            self._pauses.reset()

    @property
    def is_shared(self) -> bool:
        """Whether the budget is that of all at this moment: it is shared, and the store answers."""
        return self._shared is not None and self._shared.is_up

    def close(self) -> None:
        """Give back what a shared budget drew; waits for the store for twice its time-out at most."""
        if self._shared is not None:
            self._shared.close()

    def _valid_batch(self, n: object) -> int:
        number = whole_number(n)
        if number is None:
            raise InvalidInput(f"n must be a whole number of iterations, got {type(n).__name__}")
        if not 1 <= number <= self.limit:
            shown = str(number) if number.bit_length() <= 64 else "a huge number"
            raise InvalidInput(
                f"n must be 1 to the limit of {self.limit}, got {shown}; split a larger batch"
            )
        return number
