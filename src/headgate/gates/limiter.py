"""The limiter that programs use: one key in, one complete decision out."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import TYPE_CHECKING, Final, final

from headgate.clock import SystemClock, seconds_to_ns
from headgate.decision import Decision
from headgate.engine.engine import combine
from headgate.engine.reservations import Hold, ReservationBook
from headgate.engine.stats import Usage
from headgate.engine.table import DEFAULT_MAX_KEYS, KeyedTable, Keyspace, TableStats, longer_wait
from headgate.errors import InvalidCost, InvalidInput, InvalidKey
from headgate.gates.build import is_atomic_build, keyspaces_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mypy_extensions import i64

    from headgate.algorithms.base import Algorithm
    from headgate.clock import Clock
    from headgate.gates.lines import Lines
    from headgate.gates.waiting import Turn
    from headgate.rate import Rate

__all__ = ["Limiter", "Reservation", "valid_cost", "valid_key"]

MAX_COST: Final = 10**12
MAX_TTL: Final = 366 * 86400.0


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
        max_keys: int = DEFAULT_MAX_KEYS,
        enabled: bool = True,
        name: str = "default",
        granularity: int = 1,
        max_delay: float | None = None,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.name = name
        self.enabled = enabled
        self._now = self.clock.now_ns
        self._table = KeyedTable(max_keys)
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
        self._book = ReservationBook(max_keys)
        self._lock = threading.RLock()
        # Who waits for a turn; headgate.gates.waiting makes it when somebody first does.
        self.lines: Lines | None = None
        # What a turn of these spends is given back when the turn is over.
        self.holds_permits = algorithm == "concurrency"
        # See headgate.engine.table on why a compiled check of an atomic algorithm needs no lock.
        self._may_be_direct = (
            enabled
            and len(self._spaces) == 1
            and self._first.algorithm.atomic
            and is_atomic_build()
        )
        # Open holds have to expire on time, which the direct way does not look after.
        self._direct = self._may_be_direct

    def check(self, key: str, cost: int = 1) -> Decision:
        """Decide, and spend when the answer is yes.

        Args:
            key: who is asking; not empty.
            cost: tokens, >= 0; 0 only asks.

        Raises:
            InvalidKey: the key is empty or no string.
            InvalidCost: the cost is negative, huge, or no whole number.
        """
        if type(key) is not str or not key:
            key = valid_key(key)
        if not 0 <= cost <= MAX_COST:
            raise _invalid_cost(cost)
        if self._direct:
            return self._first.check(key, cost, self._now())
        return self._check(key, valid_cost(cost))

    def peek(self, key: str, cost: int = 1) -> Decision:
        """What `check` would answer; nothing is spent."""
        key = valid_key(key)
        cost = valid_cost(cost)
        with self._lock:
            now = self._tick()
            return combine([space.peek(key, cost, now) for space in self._spaces])

    def refund(self, key: str, cost: int = 1, granted_at_ns: int | None = None) -> None:
        """Give back what was spent and not used.

        Args:
            key: who had spent.
            cost: how much comes back; never more than the whole allowance.
            granted_at_ns: when it was spent, on the limiter's clock; now when left out. What was spent
                in a window that is over does not come back.
        """
        key = valid_key(key)
        cost = valid_cost(cost)
        with self._lock:
            now = self._tick()
            granted_at: i64 = now if granted_at_ns is None else granted_at_ns
            for space in self._spaces:
                space.refund(key, cost, now, granted_at)
        if self.lines is not None:
            self.lines.nudge(key)

    def reserve(self, key: str, cost: int, ttl: float = 60.0) -> Reservation:
        """Set cost aside for work whose real cost is known only afterwards.

        Args:
            key: who is asking.
            cost: the most that the work may take.
            ttl: seconds, > 0; a hold that is neither committed nor released by then is released.

        Raises:
            TooManyReservations: when ``max_keys`` holds are open.
        """
        key = valid_key(key)
        cost = valid_cost(cost)
        if not 0 < ttl <= MAX_TTL:
            message = f"ttl must be above 0 and at most {MAX_TTL:g} seconds, got {ttl!r}"
            raise InvalidInput(message)
        with self._lock:
            self._book.require_room()
            decision = self._check(key, cost)
            if not decision.allowed:
                return Reservation(self, "", decision)
            now: i64 = self._now()
            keys = [(space, key) for space in self._spaces]
            self._direct = False
            hold = Hold(keys, cost, now, now + seconds_to_ns(ttl))
            return Reservation(self, self._book.open(hold), decision)

    def acquire(self, key: str, cost: int = 1, timeout: float | None = None) -> Turn:
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

    def usage(self, key: str) -> list[Usage]:
        """What a key has spent and has left, for each limit; nothing is spent."""
        key = valid_key(key)
        with self._lock:
            now = self._tick()
            return [Usage(space, key, now) for space in self._spaces]

    def reset(self, key: str) -> None:
        """Hand a key its whole allowance back."""
        key = valid_key(key)
        with self._lock:
            for space in self._spaces:
                space.clear(key)
        if self.lines is not None:
            self.lines.nudge(key)

    def stats(self) -> TableStats:
        """How many keys are kept, and what had to be given up."""
        return self._table.stats()

    def limits(self, key: str) -> list[tuple[Algorithm, object]]:
        """Each limit's algorithm with a copy of the key's state; for `headgate.gates.forecast`."""
        with self._lock:
            now = self._tick()
            return [(space.algorithm, deepcopy(space.state_of(key, now))) for space in self._spaces]

    def settle(self, reservation_id: str, cost: int | None) -> None:
        """Bring a hold to its real cost; for `Reservation`."""
        with self._lock:
            now = self._tick()
            hold = self._book.close(reservation_id)
            hold.settle(cost, now)
        if self.lines is not None:
            for _, key in hold.keys:
                self.lines.nudge(key)

    def _tick(self) -> i64:
        """The time, with the holds that are due by now released."""
        now: i64 = self._now()
        if len(self._book) > 0:
            self._book.expire(now)
            self._direct = self._may_be_direct and len(self._book) == 0
        return now

    def _check(self, key: str, cost: i64) -> Decision:
        """The general way: several limits, or algorithms that need the lock."""
        with self._lock:
            now = self._tick()
            if not self.enabled:
                return self._admit_disabled(key, now)
            if len(self._spaces) == 1:
                return self._first.check(key, cost, now)
            longest: i64 = 0
            for space in self._spaces:
                longest = longer_wait(longest, space.wait(key, cost, now))
            decisions = [space.peek(key, cost, now) for space in self._spaces]
            if longest == 0 and cost > 0:
                for place, space in enumerate(self._spaces):
                    delay: i64 = decisions[place].delay_ns
                    space.consume(key, cost, now)
                    decisions[place] = space.describe(key, 0, delay, now)
            return combine(decisions)

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

    def commit(self, cost: int | None = None) -> None:
        """Settle at the real cost (the reserved one when left out).

        What the work took beyond the hold is charged as far as the limit has it.

        Raises:
            UnknownReservation: it was settled before, has expired, or the decision was no.
        """
        self._settled = True
        self._limiter.settle(self._id, None if cost is None else valid_cost(cost))

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


def valid_key(key: object) -> str:
    """A plain string that is not empty.

    Anything else is refused rather than turned into text: an attribute that is None for everybody
    would quietly make all callers share one limit.
    """
    if not isinstance(key, str):
        message = f"key must be a string, got {type(key).__name__}; use f'user:{{id}}' or str(id)"
        raise InvalidKey(message)
    if not key:
        message = "key must not be empty; give callers without a key one of their own choosing"
        raise InvalidKey(message)
    return str(key)


def valid_cost(cost: object) -> int:
    """A whole number from 0 on."""
    if isinstance(cost, bool) or not isinstance(cost, int):
        message = f"cost must be a whole number, got {type(cost).__name__}; round it up"
        raise InvalidCost(message)
    if not 0 <= cost <= MAX_COST:
        raise _invalid_cost(cost)
    return cost


def _invalid_cost(cost: int) -> InvalidCost:
    shown = cost if abs(cost) < 10**20 else "a huge number"
    return InvalidCost(f"cost must be 0 to {MAX_COST}, got {shown}; split larger work")
