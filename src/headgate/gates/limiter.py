"""The limiter that programs use: one key in, one complete decision out."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex, final

from headgate.clock import SystemClock
from headgate.decision import Decision
from headgate.engine.reservations import ReservationBook
from headgate.engine.stats import Usage
from headgate.engine.table import DEFAULT_MAX_KEYS, MAX_KEYS, KeyedTable, Keyspace, TableStats
from headgate.engine.together import decide
from headgate.gates.build import (
    is_atomic_build,
    keyspaces_for,
    require_pace,
    valid_moment,
    valid_pace,
    valid_ttl,
)
from headgate.inputs import MAX_COST, MAX_KEY_LENGTH, valid_cost, valid_count, valid_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mypy_extensions import i64

    from headgate.algorithms.base import Algorithm
    from headgate.clock import Clock
    from headgate.gates.lines import Lines
    from headgate.gates.waiting import Turn
    from headgate.inputs import Text
    from headgate.rate import Rate

__all__ = ["Limiter", "Reservation"]


@final
class Limiter:
    """Limits how often each key may pass.

    >>> limiter = Limiter("100/minute", burst=20)
    >>> decision = limiter.check("user:1")
    >>> decision.allowed, decision.remaining
    (True, 19)

    Thread-safe, and safe across asyncio tasks (no call blocks but ``acquire``).

    Args:
        rate: ``"100/minute"``, several as ``"5/second;100/minute"`` (all must admit), or `Rate`s.
        burst: the most that may pass at once; the limit when left out.
        algorithm: a name of `headgate.algorithms.ALGORITHMS`; ``token_bucket`` when left out, or
            ``fixed_window`` for a rate with a time zone.
        clock: gives the time; the system's when left out.
        max_keys: how many keys are kept at most (see `headgate.engine.table`).
        enabled: False admits everything, for tests.
        name: stands in decisions as the policy.
        granularity: sub-windows of the sliding-window counter.
        max_delay: seconds that ``leaky_bucket_queue`` may delay; its default when left out.

    Raises:
        InvalidRate: the rate cannot be read, or is outside what can be kept.
    """

    def __init__(  # noqa: PLR0913 - every setting of a limit has a place here
        self,
        rate: str | Rate | Sequence[Rate],
        *,
        burst: int | None = None,
        algorithm: str | None = None,
        clock: Clock | None = None,
        max_keys: SupportsIndex = DEFAULT_MAX_KEYS,
        enabled: bool = True,
        name: str = "default",
        granularity: SupportsIndex = 1,
        max_delay: float | None = None,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.name = name
        self._now = self.clock.now_ns
        most_keys = valid_count("max_keys", max_keys, MAX_KEYS)
        self._table = KeyedTable(most_keys)
        self._spaces: list[Keyspace] = keyspaces_for(
            self._table,
            self.clock,
            rate,
            burst=burst,
            algorithm=algorithm,
            name=name,
            granularity=granularity,
            max_delay=max_delay,
        )
        self._first = self._spaces[0]
        self._book = ReservationBook(most_keys)
        self._lock = threading.RLock()
        # Who waits for a turn; headgate.gates.waiting makes it when somebody first does.
        self.lines: Lines | None = None
        # What a turn of these spends is given back when the turn is over.
        self.holds_permits = self._first.holds_permits
        # See headgate.engine.table on why a compiled check of an atomic algorithm needs no lock.
        self._needs_lock = (
            len(self._spaces) > 1 or not self._first.algorithm.atomic or not is_atomic_build()
        )
        self._enabled = enabled
        self._direct = False
        self._choose_way()

    @property
    def enabled(self) -> bool:
        """Whether it limits at all; while it does not, everything passes and nothing is counted."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        with self._lock:
            self._enabled = value
            self._choose_way()

    def check(self, key: Text, cost: SupportsIndex = 1) -> Decision:
        """Decide, and spend when the answer is yes.

        Args:
            key: who is asking: a string of 1 to 1024 characters.
            cost: tokens, >= 0; 0 only asks.

        Raises:
            InvalidKey: the key is empty, too long or no string.
            InvalidCost: the cost is negative, huge, or no whole number.
        """
        # The ordinary case takes no call; the functions answer what is left over, or refuse it.
        name = key if type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH else valid_key(key)
        tokens = cost if type(cost) is int and 0 <= cost <= MAX_COST else valid_cost(cost)
        if self._direct:
            return self._first.check(name, tokens, self._now())
        with self._lock:
            return self._decide(name, tokens, self._tick(), True)

    def peek(self, key: Text, cost: SupportsIndex = 1) -> Decision:
        """What `check` would answer; nothing is spent."""
        name, tokens = valid_key(key), valid_cost(cost)
        with self._lock:
            return self._decide(name, tokens, self._tick(), False)

    def refund(
        self, key: Text, cost: SupportsIndex = 1, granted_at_ns: SupportsIndex | None = None
    ) -> None:
        """Give back what was spent and not used.

        Args:
            key: who had spent.
            cost: how much comes back; never more than the whole allowance.
            granted_at_ns: when it was spent, on the limiter's clock; now when left out. What was spent
                in a window that is over does not come back.
        """
        name, tokens = valid_key(key), valid_cost(cost)
        with self._lock:
            now = self._tick()
            granted_at: i64 = now if granted_at_ns is None else valid_moment(granted_at_ns)
            for space in self._spaces:
                space.refund(name, tokens, now, granted_at)
        if self.lines is not None:
            self.lines.nudge(name)

    def reserve(self, key: Text, cost: SupportsIndex, ttl: SupportsFloat = 60.0) -> Reservation:
        """Set cost aside for work whose real cost is known only afterwards.

        Args:
            key: who is asking.
            cost: the most that the work may take.
            ttl: seconds, > 0; a hold that is neither committed nor released by then is released.

        Raises:
            InvalidInput: the key, the cost or the ttl is none.
            TooManyReservations: when ``max_keys`` holds are open.
        """
        name, tokens = valid_key(key), valid_cost(cost)
        ttl_ns = valid_ttl(ttl)
        with self._lock:
            now = self._tick()
            self._book.require_room()
            decision = self._decide(name, tokens, now, True)
            if not decision.allowed:
                return Reservation(self, "", decision)
            keys = self._keys(name) if self._enabled else []
            # Open holds have to expire on time, which the direct way does not look after.
            self._direct = False
            return Reservation(self, self._book.open(keys, tokens, now, ttl_ns), decision)

    def acquire(self, key: Text, cost: SupportsIndex = 1, timeout: float | None = None) -> Turn:
        """Wait for a turn: ``with limiter.acquire("job:7", timeout=5): ...``.

        Args:
            key: whose line to stand in; turns come in the order of asking.
            cost: tokens.
            timeout: seconds to wait at most; for ever when left out.

        Raises:
            RateLimited: on entering, when the turn cannot come in time.
        """
        from headgate.gates.waiting import Turn  # noqa: PLC0415 - loads when it is used

        return Turn(self, valid_key(key), valid_cost(cost), timeout)

    def usage(self, key: Text) -> list[Usage]:
        """What a key has spent and has left, for each limit; nothing is spent."""
        name = valid_key(key)
        with self._lock:
            now = self._tick()
            return [Usage(space, name, now) for space in self._spaces]

    def reset(self, key: Text) -> None:
        """Hand a key its whole allowance back."""
        name = valid_key(key)
        with self._lock:
            for space in self._spaces:
                space.clear(name)
        if self.lines is not None:
            self.lines.nudge(name)

    def stats(self) -> TableStats:
        """How many keys are kept, and what had to be given up."""
        return self._table.stats()

    def answered(self) -> tuple[int, int]:
        """Checks admitted and denied so far, over all its limits."""
        return (
            sum([space.admitted for space in self._spaces]),
            sum([space.denied for space in self._spaces]),
        )

    def set_pace(self, factor: SupportsFloat) -> None:
        """Let the limits run at so many times their rate, from now on; for `AdaptiveRate`.

        What a key has spent stays spent, and what it has left it keeps: what changes is how fast
        allowance comes back.

        Args:
            factor: from 0.001 to 2, in thousandths.

        Raises:
            InvalidInput: there is no rate (``concurrency``), or it follows a calendar.
        """
        require_pace(self._spaces)
        pace = valid_pace(factor)
        with self._lock:
            now = self._tick()
            for space in self._spaces:
                space.set_pace(pace, now)
        if self.lines is not None:
            self.lines.nudge_all()

    def limits(self, key: str) -> list[tuple[Algorithm, object]]:
        """Each limit's algorithm with a copy of the key's state; for `headgate.gates.forecast`."""
        with self._lock:
            now = self._tick()
            return [(space.algorithm, deepcopy(space.standing(key, now))) for space in self._spaces]

    def settle(self, reservation_id: str, cost: SupportsIndex | None) -> None:
        """Bring a hold to its real cost; for `Reservation`."""
        actual = None if cost is None else valid_cost(cost)
        with self._lock:
            now = self._tick()
            hold = self._book.close(reservation_id, now)
            hold.settle(actual, now)
            self._choose_way()
        if self.lines is not None:
            for _, key in hold.keys:
                self.lines.nudge(key)

    def _choose_way(self) -> None:
        self._direct = self._enabled and not self._needs_lock and len(self._book) == 0

    def _keys(self, key: str) -> list[tuple[Keyspace, str]]:
        return [(space, key) for space in self._spaces]

    def _tick(self) -> i64:
        """The time, with the holds that are due by now released."""
        now: i64 = self._now()
        if len(self._book) > 0:
            self._book.expire(now)
            self._choose_way()
        return now

    def _decide(self, key: str, cost: i64, now: i64, spend: bool) -> Decision:
        if not self._enabled:
            return self._admit_disabled(key, now)
        if len(self._spaces) > 1:
            return decide(self._table, self._keys(key), cost, now, spend)
        if spend:
            return self._first.check(key, cost, now)
        return self._first.peek(key, cost, now)

    def _admit_disabled(self, key: str, now: i64) -> Decision:
        seen = self._first.peek(key, 0, now)
        return Decision(
            True, seen.limit, seen.remaining, 0, seen.reset_after_ns, 0, self.name, seen.window_ns
        )


@final
class Reservation:
    """A hold of a `Limiter`: commit the real cost, or release it all.

    As a context manager it releases on an exception and commits the whole hold otherwise, unless it
    was settled inside.

    Attributes:
        decision: the answer; ``bool(reservation)`` is ``decision.allowed``.
    """

    def __init__(self, limiter: Limiter, reservation_id: str, decision: Decision) -> None:
        self.decision = decision
        self._limiter = limiter
        self._id = reservation_id
        self._settled = not decision.allowed

    def __bool__(self) -> bool:
        return self.decision.allowed

    def commit(self, cost: SupportsIndex | None = None) -> None:
        """Settle at the real cost (the reserved one when left out).

        What the work took beyond the hold is charged as far as the limit has it.

        Raises:
            UnknownReservation: it was settled before, has expired, or the decision was no.
        """
        self._settled = True
        self._limiter.settle(self._id, cost)

    def release(self) -> None:
        """Give the whole hold back.

        Raises:
            UnknownReservation: it was settled before, has expired, or the decision was no.
        """
        self.commit(0)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._settled:
            self.commit(None if kind is None else 0)
