"""The limiter for asyncio: the same names as `Limiter`, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.table import DEFAULT_MAX_KEYS
from headgate.gates.limiter import Limiter
from headgate.gates.waiting import AsyncTurn

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType
    from typing import Any, SupportsIndex

    from headgate.clock import Clock
    from headgate.decision import Decision
    from headgate.engine.stats import Usage
    from headgate.engine.table import TableStats
    from headgate.gates.limiter import Reservation
    from headgate.rate import Rate

__all__ = ["AsyncLimiter", "AsyncReservation"]

_DEFAULT_TTL: Final = 60.0


@final
class AsyncLimiter:
    """Limits how often each key may pass, for asyncio programs.

    >>> import asyncio
    >>> async def main():
    ...     limiter = AsyncLimiter("100/minute", burst=20)
    ...     decision = await limiter.check("user:1")
    ...     print(decision.allowed, decision.remaining)
    ...     async with limiter.acquire("job:7", timeout=5):
    ...         print("my turn")
    >>> asyncio.run(main())
    True 19
    my turn

    Safe across tasks, event loops and threads; nothing blocks the loop. Only ``acquire`` ever suspends
    the caller: the other calls are coroutines so that they keep their shape when a limit is shared with
    other nodes.

    The arguments are those of `Limiter`. ``AsyncLimiter.of(limiter)`` shares the counts and the lines of
    one that exists.

    Attributes:
        sync: the limiter underneath.
    """

    def __init__(  # noqa: PLR0913 - the arguments of Limiter
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
        self.sync = Limiter(
            rate,
            burst=burst,
            algorithm=algorithm,
            clock=clock,
            max_keys=max_keys,
            enabled=enabled,
            name=name,
            granularity=granularity,
            max_delay=max_delay,
        )

    @classmethod
    def of(cls, limiter: Limiter) -> AsyncLimiter:
        """The asyncio side of a limiter that threads use too."""
        twin = cls.__new__(cls)
        twin.sync = limiter
        return twin

    @property
    def clock(self) -> Clock:
        """What gives the time."""
        return self.sync.clock

    @property
    def name(self) -> str:
        """Stands in decisions as the policy."""
        return self.sync.name

    async def check(self, key: str, cost: int = 1) -> Decision:
        """Decide, and spend when the answer is yes; see `Limiter.check`."""
        return self.sync.check(key, cost)

    async def peek(self, key: str, cost: int = 1) -> Decision:
        """What `check` would answer; nothing is spent."""
        return self.sync.peek(key, cost)

    async def refund(self, key: str, cost: int = 1, granted_at_ns: int | None = None) -> None:
        """Give back what was spent and not used; see `Limiter.refund`."""
        self.sync.refund(key, cost, granted_at_ns)

    def acquire(self, key: str, cost: int = 1, timeout: float | None = None) -> AsyncTurn:
        """Wait for a turn: ``async with limiter.acquire("job:7", timeout=5): ...``.

        Args:
            key: whose line to stand in; turns come in the order of asking.
            cost: tokens.
            timeout: seconds to wait at most; for ever when left out.

        Raises:
            RateLimited: on entering, when the turn cannot come in time.
        """
        return AsyncTurn(self.sync, key, cost, timeout)

    def reserve(self, key: str, cost: int, ttl: float = _DEFAULT_TTL) -> AsyncReservation:
        """Set cost aside for work whose real cost is known only afterwards.

        Await it, or enter it: ``async with limiter.reserve("user:1", 4_000) as hold: ...``.
        See `Limiter.reserve`.
        """
        return AsyncReservation(self.sync, key, cost, ttl)

    async def usage(self, key: str) -> list[Usage]:
        """What a key has spent and has left, for each limit; nothing is spent."""
        return self.sync.usage(key)

    async def reset(self, key: str) -> None:
        """Hand a key its whole allowance back."""
        self.sync.reset(key)

    def stats(self) -> TableStats:
        """How many keys are kept, and what had to be given up."""
        return self.sync.stats()


@final
class AsyncReservation:
    """A hold of an `AsyncLimiter`; the twin of `Reservation`.

    It is made when it is awaited or entered, not before.
    """

    __slots__ = ("_cost", "_hold", "_key", "_limiter", "_ttl")

    def __init__(self, limiter: Limiter, key: str, cost: int, ttl: float) -> None:
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._ttl = ttl
        self._hold: Reservation | None = None

    def __await__(self) -> Generator[Any, None, AsyncReservation]:
        return self.__aenter__().__await__()

    def __bool__(self) -> bool:
        return self._made().decision.allowed

    @property
    def decision(self) -> Decision:
        """The answer; ``bool(reservation)`` is ``decision.allowed``."""
        return self._made().decision

    async def commit(self, cost: int | None = None) -> None:
        """Settle at the real cost (the reserved one when left out); see `Reservation.commit`."""
        self._made().commit(cost)

    async def release(self) -> None:
        """Give the whole hold back; see `Reservation.release`."""
        self._made().release()

    async def __aenter__(self) -> AsyncReservation:
        if self._hold is None:
            self._hold = self._limiter.reserve(self._key, self._cost, self._ttl)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._made().__exit__(kind, error, trace)

    def _made(self) -> Reservation:
        if self._hold is None:
            raise RuntimeError(
                "a reservation is made by awaiting it: hold = await limiter.reserve(...)"
            )
        return self._hold
