"""Limits how many calls are in flight, and learns from how they go what the limit should be.

What is learnt, and how, is `headgate.backpressure.gradient_limit`, ``vegas_limit`` and ``aimd_limit``.
Here are the permits, their leases, and the line of those that wait for one.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex, TypeVar, final

from headgate.clock import NS_PER_MS, SystemClock
from headgate.decision import Decision
from headgate.errors import LineFull, Overloaded
from headgate.gates.adaptive_settings import LimiterStats, drop_types, make_rule
from headgate.gates.limiter_guard import LimiterGuard
from headgate.gates.numbers import valid_call, valid_seconds
from headgate.gates.permit_line import PermitLine, Place, deadline_after
from headgate.gates.permits import DROPPED, IGNORED, Permit, PermitsOut
from headgate.inputs import valid_count, valid_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.backpressure.concurrency_limit import ConcurrencyLimit
    from headgate.clock import Clock
    from headgate.inputs import Text

__all__ = ["AdaptiveLimiter"]

_F = TypeVar("_F", bound="Callable[..., Any]")

DEFAULT_LEASE: Final = 60.0
_RETRY_NS: Final = 100 * NS_PER_MS


@final
class AdaptiveLimiter:
    """Lets so many calls be in flight as the callee can do without making them wait.

    >>> limiter = AdaptiveLimiter(initial=8)
    >>> with limiter.guard():
    ...     pass  # call the callee; how long it takes is learnt from
    >>> limiter.limit, limiter.in_flight
    (8, 0)

    Choose by what the callee gives away:

    - ``gradient``: it becomes slower when it has too much to do. Right for most.
    - ``vegas``: the same, with a shorter queue.
    - ``aimd``: it says when it has too much to do, or does not answer in time.
    - ``fixed``: the limit is known.

    Thread-safe, and safe across asyncio tasks; only `acquire` blocks. Nothing is locked while a call is
    in flight.

    Args:
        algorithm: one of those names, or a rule made by hand, such as ``AimdLimit(10, timeout_ns=...)``.
        initial: the limit at the start: what the callee can surely do at once, such as its workers; 16.
        min: the limit never falls below; 4, or ``initial`` when that is less.
        max: the limit never rises above; 1000, or ``initial`` when that is more.
        lease: seconds after which a permit that nobody ended comes back by itself.
        max_waiting: callers that may wait for a permit.
        drops: exceptions inside of a guard that mean that the callee has too much to do.
        clock: gives the time; the system's when left out.
        name: stands in refusals as the policy.
        uniform: gives random numbers in [0, 1).

    Raises:
        InvalidInput: a setting makes no sense.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        algorithm: object = "gradient",
        *,
        initial: SupportsIndex | None = None,
        min: SupportsIndex | None = None,  # noqa: A002 - what everybody calls it
        max: SupportsIndex | None = None,  # noqa: A002 - likewise
        lease: object = DEFAULT_LEASE,
        max_waiting: SupportsIndex = 1_000,
        drops: object = TimeoutError,
        clock: Clock | None = None,
        name: Text = "concurrency",
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.name = valid_key(name)
        self.drops: tuple[type[BaseException], ...] = drop_types(drops)
        self._now = self.clock.now_ns
        valid_call("uniform", uniform)
        self._uniform = uniform
        self._rule: ConcurrencyLimit = make_rule(algorithm, initial, min, max)
        self._lease_ns: i64 = valid_seconds("lease", lease)
        self._lock = threading.RLock()
        self._out = PermitsOut()
        self._line = PermitLine(valid_count("max_waiting", max_waiting, 1_000_000))
        self._admitted: i64 = 0
        self._refused: i64 = 0
        self._dropped: i64 = 0
        self._expired: i64 = 0

    @property
    def limit(self) -> int:
        """Calls that may be in flight at once, now."""
        return self._rule.limit

    @property
    def in_flight(self) -> int:
        """Calls that are; those whose lease is over are not counted."""
        with self._lock:
            self._expire(self._now())
            return self._out.count

    def stats(self) -> LimiterStats:
        """How things stand."""
        with self._lock:
            self._expire(self._now())
            return LimiterStats(
                self._rule.limit,
                self._out.count,
                len(self._line),
                self._admitted,
                self._refused,
                self._dropped,
                self._expired,
                float(self._rule.baseline_ns()) / 1e9,
            )

    def acquire_nowait(self) -> Permit:
        """A permit now.

        Raises:
            Overloaded: as many calls are in flight as may be.
        """
        # Made before anything is looked at: to make it may run the garbage collector, and thereby anything.
        permit = Permit(self)
        with self._lock:
            now: i64 = self._now()
            if not self._has_room(now):
                self._refused += 1
                raise Overloaded(self._refusal(), self.name)
            self._admit(permit, now)
        return permit

    def acquire(self, timeout: SupportsFloat | None = None) -> Permit:
        """A permit, waiting for it in this thread: first come, first served.

        Args:
            timeout: seconds to wait at most; for ever when left out.

        Raises:
            Overloaded: none was to be had in time.
            LineFull: too many wait already.
        """
        from headgate.gates.lines import ThreadWaiter  # noqa: PLC0415 - loads when it is used

        place = self._ask(timeout, ThreadWaiter)
        permit = place.permit
        while permit is None:
            try:
                place.pause(self.clock, self._patience(place))
            except BaseException:
                self._leave(place)
                raise
            permit = place.permit
        return permit

    async def acquire_async(self, timeout: SupportsFloat | None = None) -> Permit:
        """The twin of `acquire` for tasks; a task that is cancelled leaves the line."""
        from headgate.gates.lines import TaskWaiter  # noqa: PLC0415 - loads when it is used

        place = self._ask(timeout, TaskWaiter)
        permit = place.permit
        while permit is None:
            try:
                await place.pause_async(self.clock, self._patience(place))
            except BaseException:
                self._leave(place)
                raise
            permit = place.permit
        return permit

    def guard(self, timeout: SupportsFloat | None = 0.0) -> LimiterGuard:
        """One call, as ``with limiter.guard():`` or ``async with limiter.guard():``.

        Entering gives the `Permit`; leaving ends it, see there.

        Args:
            timeout: seconds to wait for a permit; not at all when left out, None for ever.

        Raises:
            Overloaded: on entering, when there is no permit.
        """
        return LimiterGuard(self, timeout)

    def __call__(self, function: _F) -> _F:
        """The function, each call of which takes a permit: ``@limiter``. It does not wait for one.

        For functions, coroutine functions and generators; a generator holds its permit from its first value
        to its end. Use ``@limiter.guard(timeout=1.0)`` to wait.
        """
        return self.guard()(function)

    def end(self, permit: Permit, outcome: int) -> bool:
        """Take a permit back and learn from it; for `Permit`."""
        with self._lock:
            if not permit.held:
                return False
            now: i64 = self._now()
            self._out.remove(permit)
            if outcome != IGNORED:
                if outcome == DROPPED:
                    self._dropped += 1
                self._rule.observe(
                    now, now - permit.started_ns, permit.in_flight, outcome == DROPPED
                )
            if len(self._line) > 0:
                self._hand_over(now)
        return True

    def _admit(self, permit: Permit, now: i64) -> None:
        self._out.add(permit, now)
        self._admitted += 1

    def _has_room(self, now: i64) -> bool:
        if self._out.count < self._rule.limit:
            return True
        self._expire(now)
        return self._out.count < self._rule.limit

    def _expire(self, now: i64) -> None:
        """Take back what nobody ended in time."""
        oldest = self._out.oldest
        if oldest is not None and oldest.started_ns > now:
            self._out.rebase(now)
        while oldest is not None and now - oldest.started_ns >= self._lease_ns:
            self._out.remove(oldest)
            self._expired += 1
            oldest = self._out.oldest
        if len(self._line) > 0:
            self._hand_over(now)

    # Those that wait -----------------------------------------------------------------------------

    def _ask(self, timeout: SupportsFloat | None, waiter: Callable[[int], Any]) -> Place:
        """A permit at once, or a place in the line."""
        patience = deadline_after(timeout)
        place = Place(waiter(1))
        permit = Permit(self)
        with self._lock:
            now: i64 = self._now()
            place.wait_until(now, patience)
            if self._has_room(now):
                self._admit(permit, now)
                place.permit = permit
            elif patience == 0:
                self._refused += 1
                raise Overloaded(self._refusal(), self.name)
            elif not self._line.join(place):
                self._refused += 1
                raise LineFull(self._refusal(), self.name)
        return place

    def _patience(self, place: Place) -> float | None:
        """Seconds to wait before looking again; None until woken, which who was served is already.

        Raises:
            Overloaded: the time is up.
        """
        with self._lock:
            now: i64 = self._now()
            self._expire(now)
            if place.permit is not None:
                return None
            left = place.left(now)
            if left is not None and left <= 0:
                raise Overloaded(self._refusal(), self.name)
            oldest = self._out.oldest
            if oldest is not None:
                # Nobody else may come to take back what is never ended.
                lease_left: i64 = oldest.started_ns + self._lease_ns - now
                if left is None or lease_left < left:
                    left = lease_left
            return None if left is None else float(left) / 1e9

    def _leave(self, place: Place) -> None:
        """Step out of the line; a permit that came meanwhile goes to the next."""
        with self._lock:
            self._refused += 1
            permit = place.permit
            if permit is None:
                self._line.leave(place)
            else:
                self.end(permit, IGNORED)

    def _hand_over(self, now: i64) -> None:
        """Give those at the head of the line what is free."""
        while self._out.count < self._rule.limit:
            permit = Permit(self)
            place = self._line.next()
            if place is None:
                return
            self._admit(permit, now)
            place.permit = permit
            place.wake()

    def _refusal(self) -> Decision:
        # A call's own time is when the next permit is likely to be free; those refused together should
        # not come back together.
        wait = float(max(self._rule.baseline_ns(), _RETRY_NS)) * (0.5 + self._uniform())
        wait_ns = int(wait)
        return Decision(False, self._rule.limit, 0, wait_ns, wait_ns, 0, self.name, self._lease_ns)
