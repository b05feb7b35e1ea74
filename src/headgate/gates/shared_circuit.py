"""A circuit that several breakers share, in one process or in many.

The circuit lives in a store. Here is a mirror of it: the calculator of `CircuitCore`, put into the state
that the store told last. What the mirror can decide alone, it does:

    closed, ramp    calls pass, or their share does; outcomes are gathered, and told with the next question,
                    which is due 100 ms after the last one, or 10 ms after it when a call failed
    open            calls are refused
    half-open       each call asks for a lease, and each end of a probe is told at once

So only probes wait for a round trip, and of other calls one in 100 ms. When the store does not answer in
time the mirror becomes an ordinary breaker, from where it stands, and a call asks again after a second.
What was counted meanwhile stays here; when the store is back, its word counts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.breaker import ANY_CALL, IGNORED, NO_LEASE, REFUSED
from headgate.backpressure.breaker_rule import HALF_OPEN
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.engine.circuits import CircuitAnswer, CircuitQuestion, CircuitStore
from headgate.errors import StoreUnavailable
from headgate.gates.circuit_core import HERE

if TYPE_CHECKING:
    from headgate.gates.circuit_core import CircuitCore, CircuitPermit
    from headgate.gates.circuit_events import CircuitReport

__all__ = ["SharedCircuit"]

_log = logging.getLogger("headgate.breaker")
_REFRESH_NS: Final = 100 * NS_PER_MS
_HURRY_NS: Final = 10 * NS_PER_MS
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
        self._lost = False
        self._known = False
        self._asking = 0
        self._asked_at = core.now() - _REFRESH_NS
        self._retry_at = 0
        self._full_until = 0
        self._outcomes: list[str] = []
        self._told_ns = 0
        self._last: CircuitAnswer | None = None

    @property
    def is_up(self) -> bool:
        """Whether the store answered when it was asked last."""
        return not self._lost

    def before(self) -> tuple[int, int]:
        """A call asks: its lease and the epoch of that, or `HERE` when the mirror may decide."""
        question = self._before()
        if not isinstance(question, CircuitQuestion):
            return question, ANY_CALL
        return self._granted(question, self._ask(question))

    async def before_async(self) -> tuple[int, int]:
        """The twin of `before`."""
        question = self._before()
        if not isinstance(question, CircuitQuestion):
            return question, ANY_CALL
        return self._granted(question, await self._ask_async(question))

    def end(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        """A call ended; whether that was heard."""
        question = self._end(permit, outcome, told_ns)
        if not isinstance(question, CircuitQuestion):
            return self._end_here(permit, outcome, told_ns) if question is None else question
        return self._ask(question) is not None

    async def end_async(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        """The twin of `end`."""
        question = self._end(permit, outcome, told_ns)
        if not isinstance(question, CircuitQuestion):
            return self._end_here(permit, outcome, told_ns) if question is None else question
        return await self._ask_async(question) is not None

    def force(self, state: int) -> bool:
        """Put the circuit into a state by hand; False when the store was not there to hear it."""
        if self._lost and self._core.now() < self._retry_at:
            return False
        with self._core.lock:
            self._asking += 1
        return self._ask(CircuitQuestion(force=state)) is not None

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

    def _before(self) -> CircuitQuestion | int:
        """What to ask before a call; else `HERE` or `REFUSED`."""
        core = self._core
        with core.lock:
            now = core.now()
            if self._lost and now < self._retry_at <= now + _RETRY_NS:
                return HERE
            half_open = core.breaker.state_at(now) == HALF_OPEN and not self._lost
            if half_open and now < self._full_until <= now + _REFRESH_NS:
                return REFUSED
            if not half_open and (self._asking or not self._is_due(now, _REFRESH_NS)):
                return HERE
            return self._question(probes=half_open)

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
            epoch = core.breaker.epoch
            if permit.epoch not in {epoch, ANY_CALL} or permit.world != core.world:
                return False
            if permit.lease > 0:
                self._told_ns = max(self._told_ns, told_ns)
                return self._question(lease=permit.lease, ended=outcome)
            if outcome == IGNORED:
                return False
            if len(self._outcomes) < _MOST_OUTCOMES:
                self._outcomes.append(str(outcome))
            self._told_ns = max(self._told_ns, told_ns)
            pause = _HURRY_NS if outcome else _REFRESH_NS
            if self._asking or not self._is_due(core.now(), pause):
                return True
            return self._question()

    def _end_here(self, permit: CircuitPermit, outcome: int, told_ns: int) -> bool:
        return self._core.hear(permit, outcome, self._core.now(), told_ns)

    def _is_due(self, now: int, pause_ns: int) -> bool:
        return not 0 <= now - self._asked_at < pause_ns

    def _question(
        self, *, lease: int = NO_LEASE, ended: int = 0, probes: bool = False
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
            probes=probes,
        )
        self._outcomes.clear()
        self._told_ns = 0
        self._asking += 1
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
            self._adopt(found)
        return found

    async def _ask_async(self, question: CircuitQuestion) -> CircuitAnswer | None:
        core = self._core
        found = None
        try:
            found = await self._store.ask_async(core.name, core.rule, question)
        except StoreUnavailable as error:
            self._lose(error)
        finally:
            self._adopt(found)
        return found

    def _granted(self, question: CircuitQuestion, found: CircuitAnswer | None) -> tuple[int, int]:
        if found is None or not question.probes or found.lease == NO_LEASE:
            return HERE, ANY_CALL
        return found.lease, found.epoch

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

    def _adopt(self, found: CircuitAnswer | None) -> None:
        """Put the mirror where the store says, unless a later answer has come in before."""
        core = self._core
        with core.lock:
            self._asking -= 1
            if found is None:
                return
            back, self._lost = self._lost, False
            if back:
                core.world += 1
            now = core.now()
            before = core.breaker.state
            if back or not self._known or found.epoch >= core.breaker.epoch:
                self._mirror(found, now)
            changed = core.noted(before, now)
        if back:
            _log.warning("circuit %r is shared again", core.name)
        if changed:
            core.tell()

    def _mirror(self, found: CircuitAnswer, now: int) -> None:
        breaker = self._core.breaker
        new = not self._known or (found.epoch, found.step, found.state) != (
            breaker.epoch,
            breaker.step,
            breaker.state,
        )
        if new:
            breaker.resume(found.state, found.wait_ns, found.openings, found.step, now)
            breaker.epoch = found.epoch
            self._outcomes.clear()
        self._known = True
        self._last = found
        self._full_until = now + _REFRESH_NS if found.lease == REFUSED else 0
        breaker.in_row = found.in_row
        breaker.tripped_calls = found.tripped_calls
        breaker.tripped_failures = found.tripped_failures
        breaker.tripped_slow = found.tripped_slow
