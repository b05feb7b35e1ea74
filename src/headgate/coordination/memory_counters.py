"""Shared counters in this process: for tests, simulations, and several engines in one program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.clock import SystemClock
from headgate.engine.counters import STORE_EPOCH_NS
from headgate.engine.counting import Counting
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.clock import Clock
    from headgate.engine.counters import Answer, Counter, Question

__all__ = ["MemoryCounters"]

_NS_PER_US: Final = 1_000
_QUESTIONS_BETWEEN_SWEEPS: Final = 10_000


@final
class MemoryCounters:
    """A store of counters in memory.

    Args:
        clock: its wall time is the store's.

    Attributes:
        is_down: set it, and the store does not answer.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._counting = Counting()
        self._until_sweep = _QUESTIONS_BETWEEN_SWEEPS
        self.is_down = False

    def now_us(self) -> int:
        """The store's clock: microseconds since `STORE_EPOCH_NS`."""
        return (self._clock.wall_ns() - STORE_EPOCH_NS) // _NS_PER_US

    def ask_now(self, questions: Sequence[Question]) -> list[Answer]:
        """`ask` without an event loop."""
        self._require_up()
        at_us = self.now_us()
        answers = [self._counting.ask(question, at_us) for question in questions]
        self._until_sweep -= len(answers)
        if self._until_sweep <= 0:
            self._counting.forget(at_us)
            self._until_sweep = max(_QUESTIONS_BETWEEN_SWEEPS, len(self._counting))
        return answers

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """See `CounterStore`."""
        return self.ask_now(questions)

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """See `CounterStore`."""
        self._require_up()
        return self._counting.leases(counter, key, self.now_us())

    async def release_expired(self, most: int = 256) -> int:
        """See `CounterStore`."""
        self._require_up()
        return self._counting.release_expired(self.now_us(), most)

    async def ping(self) -> None:
        """See `CounterStore`."""
        self._require_up()

    async def close(self) -> None:
        """See `CounterStore`."""

    def _require_up(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the store of shared counters did not answer: it is down")
