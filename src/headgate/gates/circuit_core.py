"""A circuit in use: the calculator with its lock, its clock and those who are told of its changes."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.breaker import ANY_CALL, NO_LEASE, REFUSED, SOON_NS, Breaker
from headgate.backpressure.breaker_rule import CLOSED, HALF_OPEN, OPEN, STATES, BreakerRule
from headgate.backpressure.outcome_window import SLOW, SUCCEEDED
from headgate.clock import NS_PER_SECOND
from headgate.decision import Decision
from headgate.gates.build import is_atomic_build
from headgate.gates.circuit_events import CircuitEvent, CircuitReport, Listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.gates.circuit_outcomes import Outcomes
    from headgate.gates.shared_circuit import SharedCircuit

__all__ = ["AS_MEASURED", "HERE", "CircuitCore", "CircuitPermit"]

AS_MEASURED: Final = -1
HERE: Final = -2
"""In the place of a lease: no store was asked, so decide here."""

_REASONS: Final = {
    "open to half_open": "its time is over, calls may probe",
    "half_open to open": "a probe failed",
    "half_open to ramp": "the probes succeeded",
    "half_open to closed": "the probes succeeded",
    "ramp to closed": "the ramp is over",
}


@final
class CircuitPermit:
    """One call's leave to go ahead, or not: ``bool(permit)``.

    It ends once. What is told after that is not heard, and does no harm.

    Attributes:
        admitted: whether the call may go ahead.
        retry_after_ns: when it may not, the wait after which one may, as far as is known.
        lease: of a probe; 0 for all other calls.
        started_ns: when it was admitted; 0 when nobody looks at how long calls take.
        ended: whether its outcome was told.
        around: the permit of the block around this one's, where a ``with`` block is entered.
    """

    __slots__ = (
        "admitted",
        "around",
        "ended",
        "epoch",
        "lease",
        "owner",
        "retry_after_ns",
        "started_ns",
        "timed",
        "world",
    )

    def __init__(self, owner: CircuitCore, epoch: i64, lease: i64, started_ns: i64) -> None:
        self.owner = owner
        self.admitted = lease != REFUSED
        self.ended = False
        self.timed = True
        self.around: CircuitPermit | None = None
        self.epoch: i64 = epoch
        self.world: i64 = owner.world
        self.lease: i64 = lease
        self.started_ns: i64 = started_ns
        self.retry_after_ns: i64 = 0

    def __bool__(self) -> bool:
        return self.admitted

    @property
    def decision(self) -> Decision:
        """The answer in the form that every gate gives; the breaker's name is the policy."""
        wait = self.retry_after_ns
        return Decision(self.admitted, 0, 0, wait, wait, 0, self.owner.name, 0)


@final
class CircuitCore:
    """What all ways into a breaker share.

    No lock is held while the protected code, a listener or anything else of the caller's runs.

    Attributes:
        name, rule, outcomes, clock: see `CircuitBreaker`.
        breaker: the calculator; under ``lock``.
        world: goes up when the store of a shared circuit is lost or comes back. Epochs of two worlds
            have nothing to do with each other.
        shared: where others see the circuit; None when it is ours alone.
        refused: calls, so far.
        draw: a random number for the next opening.
    """

    def __init__(
        self,
        name: str,
        rule: BreakerRule,
        slow_ns: int,
        outcomes: Outcomes,
        listeners: Listeners,
        clock: Clock,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.rule = rule
        self.outcomes = outcomes
        self.listeners = listeners
        self.clock = clock
        self.now: Callable[[], int] = clock.now_ns
        self.uniform = uniform
        self.breaker = Breaker(rule)
        # Reentrant: a signal handler or a finalizer may end a call while this thread holds it.
        self.lock = threading.RLock()
        self.world: i64 = 0
        self.refused: i64 = 0
        self.shared: SharedCircuit | None = None
        self._slow_ns: i64 = slow_ns
        self.draw = float(uniform())
        self._atomic = is_atomic_build()

    def allow(self) -> CircuitPermit:
        """One call asks."""
        breaker = self.breaker
        # The epoch before the state: should it change in between, the permit is a stale one.
        epoch = breaker.epoch
        if self.shared is not None:
            lease, epoch = self.shared.before()
            return self.admit(lease, epoch)
        if breaker.state == CLOSED:
            return CircuitPermit(self, epoch, NO_LEASE, self._moment())
        return self.admit(HERE, ANY_CALL)

    async def allow_async(self) -> CircuitPermit:
        """The twin of `allow`: it awaits the store."""
        if self.shared is None:
            return self.allow()
        lease, epoch = await self.shared.before_async()
        return self.admit(lease, epoch)

    def admit(self, lease: i64, epoch: i64) -> CircuitPermit:
        """Decide under the lock, unless the store has granted a lease, or refused one."""
        draw = float(self.uniform())  # may be anybody's, so it is outside the lock
        now: i64 = self.now()
        with self.lock:
            breaker = self.breaker
            state = breaker.state
            if lease == HERE:
                lease = self._admit_here(now, draw)
            permit = CircuitPermit(self, breaker.epoch if epoch == ANY_CALL else epoch, lease, now)
            if lease == REFUSED:
                self.refused += 1
                # The mirror of a shared circuit does not know the leases of others.
                permit.retry_after_ns = breaker.wait(now) or SOON_NS
            changed = self.noted(state, now)
        if changed:
            self.tell()
        return permit

    def end(self, permit: CircuitPermit, outcome: i64, took_ns: i64, told_ns: i64) -> bool:
        """A call ended; whether that was heard."""
        now: i64 = self.now()
        outcome = self._timed(permit, outcome, took_ns, now)
        if self.shared is not None:
            return self.shared.end(permit, outcome, told_ns)
        return self.hear(permit, outcome, now, told_ns)

    async def end_async(
        self, permit: CircuitPermit, outcome: int, took_ns: int, told_ns: int
    ) -> bool:
        """The twin of `end`: it awaits the store."""
        if self.shared is None:
            return self.end(permit, outcome, took_ns, told_ns)
        timed = self._timed(permit, outcome, took_ns, self.now())
        return await self.shared.end_async(permit, timed, told_ns)

    def hear(self, permit: CircuitPermit, outcome: i64, now: i64, told_ns: i64) -> bool:
        """Count an outcome here."""
        if outcome == SUCCEEDED and self._atomic and self._went_well(permit, now):
            return True
        with self.lock:
            if permit.ended or not permit.admitted:
                return False
            permit.ended = True
            if permit.world != self.world:
                return False
            breaker = self.breaker
            state = breaker.state
            heard = breaker.record(permit.epoch, permit.lease, outcome, now, self.draw, told_ns)
            changed = breaker.state != state and self.noted(state, now)
        if changed:
            self.tell()
        return heard

    def _went_well(self, permit: CircuitPermit, now: i64) -> bool:
        """Count a success where that can change nothing; False when it could.

        As `headgate.engine.table` explains, this needs no lock in a compiled build: from the first look to
        the last change it runs no bytecode, and allocates nothing that could cause any to run.
        """
        breaker = self.breaker
        window = breaker.window
        if (
            breaker.state != CLOSED
            or permit.epoch != breaker.epoch
            or permit.ended
            or permit.world != self.world
            or window.failures + window.slow > 0
        ):
            return False
        permit.ended = True
        breaker.in_row = 0
        window.add(SUCCEEDED, now)
        return True

    def force(self, state: i64) -> None:
        """Put the circuit into a state by hand."""
        if self.shared is not None and self.shared.force(state):
            return
        now: i64 = self.now()
        with self.lock:
            before = self.breaker.state
            self.breaker.force(state, now)
            self.noted(before, now, "by hand")
        self.tell()

    def noted(self, before: i64, now: i64, reason: str = "") -> bool:
        """Whether the state is another than it was; then that is to be told. Under the lock."""
        after = self.breaker.state
        if after == before:
            return False
        was, became = STATES[before], STATES[after]
        if not reason:
            reason = _REASONS.get(f"{was} to {became}") or self._tripped()
        self.listeners.note(CircuitEvent(self.name, was, became, now, reason))
        return True

    def tell(self) -> None:
        """Tell what was noted. Without the lock."""
        self.draw = float(self.uniform())
        self.listeners.tell()

    def report(self) -> CircuitReport:
        """How it stands."""
        with self.lock:
            now: i64 = self.now()
            breaker = self.breaker
            breaker.window.roll(now)
            seen = breaker.window
            found = CircuitReport(
                name=self.name,
                state=STATES[breaker.state_at(now)],
                scope="local",
                calls=seen.calls,
                failures=seen.failures,
                slow=seen.slow,
                failures_in_row=breaker.in_row,
                openings=breaker.openings,
                probes=breaker.probes(now),
                share=breaker.share(),
                refused=self.refused,
                retry_after=breaker.wait(now) / NS_PER_SECOND,
            )
            return found if self.shared is None else self.shared.reported(found)

    def _admit_here(self, now: i64, draw: float) -> i64:
        shared = self.shared
        if shared is not None and shared.is_up and self.breaker.state_at(now) == HALF_OPEN:
            return REFUSED  # only the store grants leases; it became half-open since it was asked
        return self.breaker.admit(now, draw)

    def _moment(self) -> i64:
        return self.now() if self._slow_ns > 0 else 0

    def _timed(self, permit: CircuitPermit, outcome: i64, took_ns: i64, now: i64) -> i64:
        """The outcome, with whether it took too long."""
        if self._slow_ns == 0 or outcome > SLOW:
            return outcome
        if took_ns < 0:
            if not permit.timed:
                return outcome
            took_ns = now - permit.started_ns
        return outcome | SLOW if took_ns > self._slow_ns else outcome

    def _tripped(self) -> str:
        breaker = self.breaker
        if breaker.state != OPEN:
            return "another breaker said so"
        return (
            f"{breaker.tripped_failures} of {breaker.tripped_calls} calls failed, "
            f"{breaker.tripped_slow} were slow"
        )
