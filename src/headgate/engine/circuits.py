"""What breakers that share a circuit ask of its store, as types, and what such a question means.

One question carries everything: outcomes to count, a probe's end, a change by hand, the wish to probe. So
one round trip does. The answer is how the circuit stands after that. `Circuits` is a store in this
process; the script of `headgate.coordination` says the same on a Redis or Valkey.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final, runtime_checkable

from headgate.backpressure.breaker import NO_LEASE, Breaker
from headgate.backpressure.breaker_rule import HALF_OPEN, OPEN

if TYPE_CHECKING:
    from headgate.backpressure.breaker_rule import BreakerRule
    from headgate.clock import Clock

__all__ = [
    "KEEP",
    "CircuitAnswer",
    "CircuitQuestion",
    "CircuitStore",
    "Circuits",
    "answer",
    "first_epoch",
]

KEEP: Final = -1
"""In the place of a state: leave it as it is."""


@final
@dataclass(frozen=True, slots=True)
class CircuitQuestion:
    """What a breaker tells and asks.

    Attributes:
        epoch: of the outcomes.
        outcomes: of calls in the order of their ends, each a digit: a sum of ``FAILED`` and ``SLOW``.
        lease: of the probe that ended; 0: none did.
        ended: the outcome of that probe, or ``IGNORED``.
        told_ns: for how long the callee asked to be left alone.
        uniform: varies how long the circuit opens, should it do so.
        force: the state to put it into by hand; `KEEP`: none.
        probes: whether a lease is wanted, if the circuit is half-open or due to be.
    """

    epoch: int = 0
    outcomes: str = ""
    lease: int = NO_LEASE
    ended: int = 0
    told_ns: int = 0
    uniform: float = 0.5
    force: int = KEEP
    probes: bool = False


@final
@dataclass(frozen=True, slots=True)
class CircuitAnswer:
    """How the circuit stands.

    Attributes:
        state, epoch: see `Breaker`.
        wait_ns: until the next call passes, as far as is known.
        openings: without a clean time in between.
        step: of the ramp.
        lease: > 0 when one was granted, -1 when it was wanted and refused, else 0.
        calls, failures, slow, in_row: counted at present.
        probes: under way.
        tripped_calls, tripped_failures, tripped_slow: counted when it last opened.
    """

    state: int
    epoch: int
    wait_ns: int
    openings: int
    step: int
    lease: int
    calls: int
    failures: int
    slow: int
    in_row: int
    probes: int
    tripped_calls: int
    tripped_failures: int
    tripped_slow: int


@runtime_checkable
class CircuitStore(Protocol):
    """Keeps circuits where several breakers see them. Its clock is the only one that counts.

    Both ways to ask raise `StoreUnavailable` when there is no answer in time.
    """

    def ask(self, name: str, rule: BreakerRule, question: CircuitQuestion) -> CircuitAnswer:
        """Do what the question says to the circuit of this name."""

    async def ask_async(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> CircuitAnswer:
        """The twin of `ask`."""

    def close(self) -> None:
        """Let go of what was opened for it; what was opened for tasks needs `close_async`."""

    async def close_async(self) -> None:
        """Let go of what was opened for the tasks of this event loop."""


def first_epoch(now: int) -> int:
    """The epoch that a new circuit begins with.

    By the clock, so that a store which has lost everything goes on with higher epochs than it gave out.
    """
    return now // 1_000_000


def answer(breaker: Breaker, question: CircuitQuestion, now: int) -> CircuitAnswer:
    """Do what the question says."""
    told = question.told_ns
    if question.lease > 0:
        breaker.record(question.epoch, question.lease, question.ended, now, question.uniform, told)
    for outcome in question.outcomes:
        breaker.record(question.epoch, NO_LEASE, int(outcome), now, question.uniform, told)
    if question.force != KEEP:
        breaker.force(question.force, now)
    lease = NO_LEASE
    if question.probes and breaker.state in {OPEN, HALF_OPEN}:
        lease = breaker.admit(now, 1.0)
    breaker.window.roll(now)
    return CircuitAnswer(
        breaker.state,
        breaker.epoch,
        breaker.wait(now),
        breaker.openings,
        breaker.step,
        lease,
        breaker.window.calls,
        breaker.window.failures,
        breaker.window.slow,
        breaker.in_row,
        breaker.probes(now),
        breaker.tripped_calls,
        breaker.tripped_failures,
        breaker.tripped_slow,
    )


@final
class Circuits:
    """A store in this process, for tests and for simulations of clusters.

    Args:
        clock: gives the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now_ns
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def ask(self, name: str, rule: BreakerRule, question: CircuitQuestion) -> CircuitAnswer:
        with self._lock:
            now = self._now()
            breaker = self._breakers.get(name)
            if breaker is None:
                breaker = self._breakers[name] = Breaker(rule)
                breaker.epoch = first_epoch(now)
            return answer(breaker, question, now)

    async def ask_async(
        self, name: str, rule: BreakerRule, question: CircuitQuestion
    ) -> CircuitAnswer:
        return self.ask(name, rule, question)

    def close(self) -> None:
        """There is nothing to let go of."""

    async def close_async(self) -> None:
        """There is nothing to let go of."""
