"""A circuit breaker around calls to something that may fail (B3).

The numbers are `headgate.backpressure.breaker`'s, the state and the lock `headgate.gates.circuit_core`'s;
here are the ways in.
"""

from __future__ import annotations

import random
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex, TypeVar, final

from headgate.backpressure.breaker import IGNORED
from headgate.backpressure.breaker_rule import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    METRICS_ONLY,
    OPEN,
    CircuitState,
)
from headgate.backpressure.outcome_window import SUCCEEDED
from headgate.clock import SystemClock, seconds_to_ns
from headgate.errors import CircuitOpen, InvalidInput
from headgate.gates.circuit_blocks import CallGuard, pop, push
from headgate.gates.circuit_core import AS_MEASURED, CircuitCore, CircuitPermit
from headgate.gates.circuit_events import CircuitEvent, CircuitReport, Listeners
from headgate.gates.circuit_outcomes import Outcomes
from headgate.gates.circuit_settings import failure_types, listed_calls, read_rule
from headgate.gates.numbers import valid_call, valid_plain_call, valid_seconds
from headgate.inputs import valid_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from headgate.clock import Clock
    from headgate.inputs import Text

__all__ = ["CallGuard", "CircuitBreaker", "CircuitPermit"]

_F = TypeVar("_F", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]")
_NAMELESS: Final = "circuit"
_YEAR: Final = 366 * 86_400.0
_WELL: Final = (SUCCEEDED, 0)


@final
class CircuitBreaker:
    """Leaves a callee alone that keeps failing, and comes back to it with care.

    >>> breaker = CircuitBreaker("payments", failure_threshold=5, recovery_timeout=30.0)
    >>> with breaker:
    ...     pass  # call; an exception counts as a failure
    >>> @breaker
    ... def charge(amount: int) -> str:
    ...     return "paid"
    >>> charge(3), breaker.state.value
    ('paid', 'closed')

    For threads and asyncio tasks, ``async with`` and functions of every kind. For what is no block and no
    function: ``permit = breaker.allow()``, and then ``breaker.record(permit, ...)``.
    With neither threshold nor rate it opens at half of at least 20 calls in 10 seconds. Given only
    ``failure_threshold``, at so many failures in a row. Given both, at whichever comes first.

    Args:
        name: stands in errors, events and logs; breakers that share a circuit share its name.
        failure_threshold: failures in a row that open it.
        failure_rate: the share of failures that opens it.
        window: seconds that the shares are taken over, in ten slots.
        window_calls: take them over the last so many calls instead.
        min_calls: fewer than so many in the window say nothing.
        slow_call: calls that take longer than so many seconds are slow; left out, none is.
        slow_rate: the share of slow calls that opens it.
        recovery_timeout: seconds that it stays open the first time; twice as long each further time.
        max_recovery_timeout: the longest, before jitter; 60, or ``recovery_timeout`` if that is longer.
        jitter: the share by which that is varied either way.
        max_probes: calls that may probe at a time when it is half-open.
        recovery_threshold: successes of probes that end that.
        call_timeout: seconds after which a probe that hangs loses its place.
        ramp: the shares of calls that pass, step by step, before it is closed again; () for none.
        ramp_step: the least length of a step in seconds.
        ramp_calls: the least number of calls in a step.
        forgive_after: seconds closed after which open times begin afresh.
        failures: the exceptions that count as failures.
        ignore: of those, the ones that do not.
        failed_result: given what a decorated function returned, whether that is a failure.
        retry_after: given a failure, for how many seconds the callee asked to be left alone; left out,
            the failure's attribute ``retry_after`` says so.
        listeners: each is called with a `CircuitEvent` when the state changes.
        shared: where others see the circuit: the address of a Redis or Valkey, or a client of redis-py.
        shared_timeout: seconds that a call waits for the store before it goes on without.
        clock: gives the time; the system's when left out.
        uniform: gives random numbers from 0 to 1.

    Raises:
        InvalidInput: a setting is none, is out of bounds, or contradicts another.
    """

    def __init__(  # noqa: PLR0913 - every setting of a breaker has a place here
        self,
        name: Text = _NAMELESS,
        *,
        failure_threshold: SupportsIndex | None = None,
        failure_rate: SupportsFloat | None = None,
        window: SupportsFloat = 10.0,
        window_calls: SupportsIndex | None = None,
        min_calls: SupportsIndex = 20,
        slow_call: SupportsFloat | None = None,
        slow_rate: SupportsFloat = 0.8,
        recovery_timeout: SupportsFloat = 5.0,
        max_recovery_timeout: SupportsFloat | None = None,
        jitter: SupportsFloat = 0.2,
        max_probes: SupportsIndex = 3,
        recovery_threshold: SupportsIndex = 5,
        call_timeout: SupportsFloat = 30.0,
        ramp: Iterable[float] = (0.1, 0.25, 0.5, 0.75, 1.0),
        ramp_step: SupportsFloat = 5.0,
        ramp_calls: SupportsIndex = 10,
        forgive_after: SupportsFloat = 60.0,
        failures: object = Exception,
        ignore: object = (),
        failed_result: Callable[[Any], object] | None = None,
        retry_after: Callable[[BaseException], float | None] | None = None,
        listeners: Iterable[Callable[[CircuitEvent], object]] = (),
        shared: object = None,
        shared_timeout: SupportsFloat = 0.05,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.name = valid_key(name)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.rule = read_rule(
            failure_threshold=failure_threshold,
            failure_rate=failure_rate,
            slow_call=slow_call,
            slow_rate=slow_rate,
            window=window,
            window_calls=window_calls,
            min_calls=min_calls,
            recovery_timeout=recovery_timeout,
            max_recovery_timeout=max_recovery_timeout,
            jitter=jitter,
            max_probes=max_probes,
            recovery_threshold=recovery_threshold,
            call_timeout=call_timeout,
            ramp=ramp,
            ramp_step=ramp_step,
            ramp_calls=ramp_calls,
            forgive_after=forgive_after,
        )
        valid_call("uniform", uniform)
        if retry_after is not None:
            valid_call("retry_after", retry_after)
        if failed_result is not None:
            valid_call("failed_result", failed_result)
        self._core = CircuitCore(
            self.name,
            self.rule,
            0 if slow_call is None else valid_seconds("slow_call", slow_call),
            Outcomes(
                failure_types("failures", failures),
                failure_types("ignore", ignore),
                retry_after,
                failed_result,
            ),
            Listeners(listed_calls("listeners", listeners)),
            self.clock,
            uniform,
        )
        timeout_ns = valid_seconds("shared_timeout", shared_timeout)
        if shared is not None:
            self._share(shared, timeout_ns)

    def allow(self) -> CircuitPermit:
        """Ask for one call. Tell how it went with `record`; otherwise a probe keeps its place a while."""
        return self._core.allow()

    async def allow_async(self) -> CircuitPermit:
        """The twin of `allow`; it differs only where the circuit is shared: it awaits the store."""
        return await self._core.allow_async()

    def record(
        self,
        permit: object,
        outcome: object = True,  # noqa: FBT002 - that it went well is the ordinary outcome
        duration: object = None,
    ) -> bool:
        """Tell how an admitted call went.

        Args:
            permit: what `allow` answered.
            outcome: True it went well, False it failed, None nothing is known; or the exception that it
                raised, which is judged as it is when it leaves a ``with`` block.
            duration: seconds that it took; measured when left out.

        Returns:
            whether it was heard. It is not when the permit was refused, was told of before, or comes
            from another epoch of the circuit, for then it says nothing about the present.

        Raises:
            InvalidInput: the permit is another breaker's or none, the outcome is none of these, or the
                duration is no length of time.
        """
        mine, took = self._mine(permit), _valid_duration(duration)
        verdict, told = _WELL if outcome is True else self._core.outcomes.judge(outcome)
        return self._core.end(mine, verdict, took, told)

    async def record_async(
        self,
        permit: object,
        outcome: object = True,  # noqa: FBT002 - that it went well is the ordinary outcome
        duration: object = None,
    ) -> bool:
        """The twin of `record`, as `allow_async` is that of `allow`."""
        mine, took = self._mine(permit), _valid_duration(duration)
        verdict, told = _WELL if outcome is True else self._core.outcomes.judge(outcome)
        return await self._core.end_async(mine, verdict, took, told)

    def enter(self) -> CircuitPermit:
        """`allow`, with a refusal as an exception.

        Raises:
            CircuitOpen: the call is refused.
        """
        permit = self._core.allow()
        if not permit.admitted:
            raise CircuitOpen(permit.decision, self.name)
        return permit

    async def enter_async(self) -> CircuitPermit:
        """The twin of `enter`.

        Raises:
            CircuitOpen: the call is refused.
        """
        permit = await self._core.allow_async()
        if not permit.admitted:
            raise CircuitOpen(permit.decision, self.name)
        return permit

    def guard(self, *, timed: bool = True) -> CallGuard:
        """``with breaker.guard(): ...`` (or ``async with``): one call, as ``with breaker:`` is.

        The block may be left in another thread or task, and blocks may overlap, as in generators.

        Args:
            timed: whether how long it takes says something about the callee.
        """
        return CallGuard(self, timed)

    def __enter__(self) -> CircuitPermit:
        permit = self.enter()
        push(permit)
        return permit

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left(pop(self._core), error)

    async def __aenter__(self) -> CircuitPermit:
        permit = await self.enter_async()
        push(permit)
        return permit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.left_async(pop(self._core), error)

    def __call__(self, function: _F) -> _F:
        """The function, each call of which goes through the breaker."""
        from headgate.gates.circuit_calls import protect  # noqa: PLC0415 - only who decorates needs it

        protected: _F = protect(self, function)
        return protected

    @property
    def state(self) -> CircuitState:
        """Where the next call finds the circuit."""
        return self._core.report().state

    @property
    def is_shared(self) -> bool:
        """Whether others share the circuit."""
        return self._core.shared is not None

    def report(self) -> CircuitReport:
        """How the circuit stands, in numbers."""
        return self._core.report()

    def open(self) -> None:
        """Open it by hand, as if the callee had failed; it recovers by itself."""
        self._core.force(OPEN)

    def force_open(self) -> None:
        """Refuse all calls until another state is set."""
        self._core.force(FORCED_OPEN)

    def disable(self) -> None:
        """Admit all calls, and count none, until another state is set."""
        self._core.force(DISABLED)

    def metrics_only(self) -> None:
        """Admit all calls, and count them, until another state is set."""
        self._core.force(METRICS_ONLY)

    def reset(self) -> None:
        """Close it, and forget all that was counted."""
        self._core.force(CLOSED)

    def listen(self, listener: Callable[[CircuitEvent], object]) -> None:
        """Call this one too when the state changes. It is removed when it raises."""
        self._core.listeners.add(valid_plain_call("listener", listener))

    def forget(self, listener: Callable[[CircuitEvent], object]) -> None:
        """Call this one no more; harmless when it was not called."""
        self._core.listeners.remove(listener)

    def close(self) -> None:
        """Close the connections that a shared circuit opened; harmless for others."""
        if self._core.shared is not None:
            self._core.shared.close()

    async def close_async(self) -> None:
        """The twin of `close`, for connections that tasks of this event loop opened."""
        if self._core.shared is not None:
            await self._core.shared.close_async()

    def returned(self, permit: CircuitPermit, result: object) -> None:
        """A decorated call returned this."""
        verdict = SUCCEEDED
        if self._core.outcomes.judges_results:
            verdict = self._verdict_on(permit, result)
        self._core.end(permit, verdict, AS_MEASURED, 0)

    async def returned_async(self, permit: CircuitPermit, result: object) -> None:
        """The twin of `returned`."""
        verdict = self._verdict_on(permit, result)
        await self._core.end_async(permit, verdict, AS_MEASURED, 0)

    def left(self, permit: CircuitPermit, error: BaseException | None) -> None:
        """A block was left, by this exception if by any."""
        verdict, told = _WELL if error is None else self._core.outcomes.judge(error)
        self._core.end(permit, verdict, AS_MEASURED, told)

    async def left_async(self, permit: CircuitPermit, error: BaseException | None) -> None:
        """The twin of `left`."""
        if isinstance(error, GeneratorExit):  # who is being closed may not await
            self._core.hear(permit, IGNORED, self.clock.now_ns(), 0)
            return
        verdict, told = _WELL if error is None else self._core.outcomes.judge(error)
        await self._core.end_async(permit, verdict, AS_MEASURED, told)

    def _share(self, store: object, timeout_ns: int) -> None:
        if self.name == _NAMELESS:
            raise InvalidInput("a shared circuit needs a name that others find it by")
        from headgate.gates.shared_circuit import SharedCircuit  # noqa: PLC0415 - few share

        self._core.shared = SharedCircuit(self._core, store, timeout_ns)

    def _verdict_on(self, permit: CircuitPermit, result: object) -> int:
        try:
            return self._core.outcomes.of_result(result)
        except BaseException:  # of the user's judge, who has said nothing then
            self._core.hear(permit, IGNORED, self.clock.now_ns(), 0)
            raise

    def _mine(self, permit: object) -> CircuitPermit:
        if not isinstance(permit, CircuitPermit):
            raise InvalidInput(f"permit must be what allow() answered, got {type(permit).__name__}")
        if permit.owner is not self._core:
            raise InvalidInput(
                f"the permit is of breaker {permit.owner.name!r:.200}; give it to that one"
            )
        return permit


def _valid_duration(duration: object) -> int:
    """Nanoseconds; `AS_MEASURED` when it was left out."""
    if duration is None:
        return AS_MEASURED
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise InvalidInput(
            f"duration must be a number of seconds, got {type(duration).__name__}; "
            "leave it out to have it measured"
        )
    if not (isfinite(duration) and 0 <= duration <= _YEAR):
        raise InvalidInput(
            f"duration must be 0 to {_YEAR:.0f} seconds, got {duration!r:.50}; "
            "leave it out to have it measured"
        )
    return seconds_to_ns(duration)
