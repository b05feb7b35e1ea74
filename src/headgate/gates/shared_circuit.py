"""A circuit that several breakers share, in one process or in many.

The circuit lives in a store. Here is a mirror of it: the calculator of `CircuitCore`, put into the state
that the store told last. What the mirror can decide alone, it does:

    closed, ramp    calls pass, or their share does; outcomes are gathered, and told with the next question,
                    which is due 100 ms after the last one, or 10 ms after it when a call failed
    open            calls are refused
    half-open       a call asks for a lease, and each end of a probe is told at once

So only probes wait for a round trip, and of other calls one in 100 ms. After a silence, when a question
brings the news that the mirror lacks, the calls beside it wait for that answer too.

When the store does not answer in time the mirror becomes an ordinary breaker, from where it stands, and
a call asks again after a second. What was counted meanwhile stays here; when the store is back, its word
counts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar, final

from headgate.backpressure.breaker import ANY_CALL, IGNORED, NO_LEASE, REFUSED
from headgate.backpressure.breaker_rule import HALF_OPEN
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.engine.circuits import KEEP, CircuitAnswer, CircuitQuestion, CircuitStore
from headgate.errors import StoreUnavailable
from headgate.gates.circuit_core import HERE
from headgate.gates.lines import TaskWaiter, ThreadWaiter, Waiter

if TYPE_CHECKING:
    from headgate.gates.circuit_core import CircuitCore, CircuitPermit
    from headgate.gates.circuit_events import CircuitReport

__all__ = ["SharedCircuit"]

_W = TypeVar("_W", bound=Waiter)
_log = logging.getLogger("headgate.breaker")
_REFRESH_NS: Final = 100 * NS_PER_MS
_HURRY_NS: Final = 10 * NS_PER_MS
_STALE_NS: Final = 300 * NS_PER_MS
_RETRY_NS: Final = NS_PER_SECOND
_MOST_OUTCOMES: Final = 1_000


@final
class SharedCircuit:
    """The part of a breaker that speaks with the store.

    Args:
        core: the circuit here.
        store: where the circuit is shared, or what `headgate.wiring.circuits` opens.
        timeout_ns: how long a call waits for the store.
    """

    def __init__(self, core: CircuitCore, store: object, timeout_ns: int) -> None:
        if not isinstance(store, CircuitStore):
            from headgate.wiring.circuits import open_circuits  # noqa: PLC0415 - drivers load lazily

            store = open_circuits(store, timeout_ns)
        self._core = core
        self._store: CircuitStore = store
        self._timeout = timeout_ns / NS_PER_SECOND
        self._lost = False
        self._last: CircuitAnswer | None = None
        self._asking = 0
        self._probing = 0
        self._asked_at = core.now() - _REFRESH_NS
        self._heard_at = core.now() - _STALE_NS
        self._retry_at = 0
        self._full_until = 0
        self._outcomes: list[str] = []
        self._told_ns = 0
        self._hurry = False
        self._waiters: list[Waiter] = []

    @property
    def is_up(self) -> bool:
        """Whether the store answered when it was asked last."""
        return not self._lost

    def before(self) -> tuple[int, int]:
        """A call asks: its lease and the epoch of that, or `HERE` when the mirror may decide."""
        found = self._before(ThreadWaiter)
        if isinstance(found, ThreadWaiter):
            found.pause(self._core.clock, self._timeout)
            found = self._before(None)
        if not isinstance(found, CircuitQuestion):
            return int(found), ANY_CALL
        return _granted(found, self._ask(found))

    async def before_async(self) -> tuple[int, int]:
        """The twin of `before`."""
        found = self._before(TaskWaiter)
        if isinstance(found, TaskWaiter):
            await found.pause(self._core.clock, self._timeout)
            found = self._before(None)
        if not isinstance(found, CircuitQuestion):
            return int(found), ANY_CALL
        return _granted(found, await self._ask_async(found))

    def end(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        """A call ended; whether that was heard."""
        found = self._end(permit, outcome, told_ns)
        if not isinstance(found, CircuitQuestion):
            return self._end_here(permit, outcome, told_ns) if found is None else found
        return self._ask(found) is not None and outcome != IGNORED

    async def end_async(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        """The twin of `end`."""
        found = self._end(permit, outcome, told_ns)
        if not isinstance(found, CircuitQuestion):
            return self._end_here(permit, outcome, told_ns) if found is None else found
        return await self._ask_async(found) is not None and outcome != IGNORED

    def force(self, state: int) -> bool:
        """Put the circuit into a state by hand; False when the store was not there to hear it."""
        with self._core.lock:
            if self._lost and self._core.now() < self._retry_at:
                return False
            question = self._question(force=state)
        return self._ask(question) is not None

    def close(self) -> None:
        """Let go of what was opened for the store."""
        self._store.close()

    async def close_async(self) -> None:
        """The twin of `close`, for what was opened by tasks of this event loop."""
        await self._store.close_async()

    def reported(self, found: CircuitReport) -> CircuitReport:
        """The report with the counts of all who share the circuit, if they are known."""
        last = self._last
        if self._lost or last is None:
            return replace(found, scope="store_lost" if self._lost else "shared")
        return replace(
            found,
            scope="shared",
            calls=last.calls,
            failures=last.failures,
            slow=last.slow,
            probes=last.probes,
        )

    def _before(self, kind: type[_W] | None) -> CircuitQuestion | int | _W:
        """What to ask before a call, or who waits for another's answer; else `HERE` or `REFUSED`."""
        core = self._core
        with core.lock:
            now = core.now()
            if self._lost and now < self._retry_at <= now + _RETRY_NS:
                return HERE
            if core.breaker.state_at(now) == HALF_OPEN and not self._lost:
                # No more leases are granted than these ask for, so no more need to ask at a time.
                if now < self._full_until <= now + _REFRESH_NS or self._probing >= core.rule.probes:
                    return REFUSED
                return self._question(probes=True)
            if not self._asking:
                return self._question() if self._is_due(now) else HERE
            if kind is None or self._lost or 0 <= now - self._heard_at < _STALE_NS:
                return HERE
            waiter = kind(0)
            self._waiters.append(waiter)
            return waiter

    def _end(
        self, permit: CircuitPermit, outcome: int, told_ns: int
    ) -> CircuitQuestion | bool | None:
        """What to tell after a call; else whether it was heard. None: count it here."""
        core = self._core
        with core.lock:
            if self._lost:
                return None
            if permit.ended or not permit.admitted:
                return False
            permit.ended = True
            if permit.epoch not in {core.breaker.epoch, ANY_CALL} or permit.world != core.world:
                return False
            if permit.lease > 0:
                self._told_ns = max(self._told_ns, told_ns)
                return self._question(lease=permit.lease, ended=outcome)
            if outcome == IGNORED:
                return False
            if len(self._outcomes) < _MOST_OUTCOMES:
                self._outcomes.append(str(outcome))
            self._told_ns = max(self._told_ns, told_ns)
            self._hurry = self._hurry or outcome > 0
            if self._asking or not self._is_due(core.now()):
                return True
            return self._question()

    def _end_here(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        return self._core.hear(permit, outcome, self._core.now(), told_ns)

    def _is_due(self, now: int) -> bool:
        pause = _HURRY_NS if self._hurry else _REFRESH_NS
        return not 0 <= now - self._asked_at < pause

    def _question(
        self, *, lease: int = NO_LEASE, ended: int = 0, probes: bool = False, force: int = KEEP
    ) -> CircuitQuestion:
        """Everything there is to tell. Under the lock; whoever gets it asks it, once."""
        core = self._core
        question = CircuitQuestion(
            epoch=core.breaker.epoch,
            outcomes="".join(self._outcomes),
            lease=lease,
            ended=ended,
            told_ns=self._told_ns,
            uniform=core.draw,
            force=force,
            probes=probes,
        )
        self._outcomes.clear()
        self._told_ns = 0
        self._hurry = False
        self._asking += 1
        self._probing += probes
        self._asked_at = core.now()
        return question

    def _ask(self, question: CircuitQuestion) -> CircuitAnswer | None:
        core = self._core
        found = None
        try:
            found = self._store.ask(core.name, core.rule, question)
        except StoreUnavailable as error:
            self._lose(error)
        finally:
            self._adopt(question, found)
        return found

    async def _ask_async(self, question: CircuitQuestion) -> CircuitAnswer | None:
        core = self._core
        found = None
        try:
            found = await self._store.ask_async(core.name, core.rule, question)
        except StoreUnavailable as error:
            self._lose(error)
        finally:
            self._adopt(question, found)
        return found

    def _lose(self, error: StoreUnavailable) -> None:
        core = self._core
        with core.lock:
            first = not self._lost
            self._retry_at = core.now() + _RETRY_NS
            if first:
                self._lost = True
                core.world += 1
                self._outcomes.clear()
        if first:
            _log.warning("circuit %r goes on by itself: %s", core.name, error.message)

    def _adopt(self, question: CircuitQuestion, found: CircuitAnswer | None) -> None:
        """Put the mirror where the store says, unless a later answer has come in before."""
        core = self._core
        back = changed = False
        with core.lock:
            self._asking -= 1
            self._probing -= question.probes
            waiters, self._waiters = self._waiters, []
            if found is not None:
                back, self._lost = self._lost, False
                core.world += back
                now = self._heard_at = core.now()
                before = core.breaker.state
                if back or self._last is None or found.epoch >= core.breaker.epoch:
                    self._mirror(found, now)
                changed = core.noted(before, now)
        for waiter in waiters:
            waiter.wake()
        if back:
            _log.warning("circuit %r is shared again", core.name)
        if changed:
            core.tell()

    def _mirror(self, found: CircuitAnswer, now: int) -> None:
        breaker = self._core.breaker
        there = (found.epoch, found.step, found.state)
        if self._last is None or there != (breaker.epoch, breaker.step, breaker.state):
            breaker.resume(found.state, found.wait_ns, found.openings, found.step, now)
            breaker.epoch = found.epoch
            self._outcomes.clear()
        self._last = found
        self._full_until = now + _REFRESH_NS if found.lease == REFUSED else 0
        breaker.in_row = found.in_row
        breaker.tripped_calls = found.tripped_calls
        breaker.tripped_failures = found.tripped_failures
        breaker.tripped_slow = found.tripped_slow


def _granted(question: CircuitQuestion, found: CircuitAnswer | None) -> tuple[int, int]:
    if found is None or not question.probes or found.lease == NO_LEASE:
        return HERE, ANY_CALL
    return found.lease, found.epoch
