"""The limit of one function: from the arguments of a call to a decision."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import InvalidInput, RateLimited
from headgate.gates.arguments import by_name
from headgate.gates.dynamic import Limiters
from headgate.gates.waiting import AsyncTurn, Turn
from headgate.inputs import valid_cost, valid_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from headgate.gates.limiter import Limiter
    from headgate.rate import Rate

    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]

__all__ = ["CallGate"]


@final
class CallGate:
    """Decides about the calls of one function.

    Args:
        limiter: decides; `Limiters` when the rate is worked out per call.
        key: who is limited when `read` says nothing else.
        timeout: seconds that a call waits for its turn, None for ever, False for not at all.

    Attributes:
        clock: the limiter's.
        holds: whether a call waits for its turn, or has something to give back at its end.
    """

    __slots__ = (
        "_check",
        "_cost",
        "_cost_of",
        "_exempt",
        "_key",
        "_key_of",
        "_limiter",
        "_limiters",
        "_patience",
        "_rate_of",
        "clock",
        "holds",
    )

    def __init__(
        self, limiter: Limiter | Limiters, key: str, timeout: float | Literal[False] | None
    ) -> None:
        self.clock = limiter.clock
        self.holds = timeout is not False or limiter.holds_permits
        self._patience = 0.0 if timeout is False else timeout
        self._limiters = limiter if isinstance(limiter, Limiters) else None
        self._limiter = None if isinstance(limiter, Limiters) else limiter
        self._check = None if self._limiter is None else self._limiter.check
        self._rate_of: Callable[..., str | Rate] | None = None
        self._key = key
        self._key_of: Callable[..., str] | None = None
        self._cost = 1
        self._cost_of: Callable[..., int] | None = None
        self._exempt: Callable[..., object] | None = None

    def read(
        self,
        function: Callable[..., Any],
        *,
        rate: object,
        key: str | Callable[..., str] | None,
        cost: int | Callable[..., int],
        exempt_when: Callable[..., object] | None,
    ) -> None:
        """Work out, once, how each of these comes from the arguments of a call."""
        if callable(rate):
            self._rate_of = by_name(function, rate, "rate")
        if callable(key):
            self._key_of = by_name(function, key, "key")
        elif key is not None:
            self._key = _constant_key(function, valid_key(key))
        if callable(cost):
            self._cost_of = by_name(function, cost, "cost")
        else:
            self._cost = valid_cost(cost)
        if exempt_when is not None:
            self._exempt = by_name(function, exempt_when, "exempt_when")

    def admit(self, args: Arguments, kwargs: Keywords) -> int:
        """The nanoseconds to hold back, which only a queueing limit asks for.

        Raises:
            RateLimited: the call is refused.
        """
        if self._exempt is not None and self._exempt(*args, **kwargs):
            return 0
        key = self._key if self._key_of is None else self._key_of(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        check = self._check or self._limiter_for(args, kwargs).check
        decision = check(key, cost)
        if not decision.allowed:
            raise RateLimited(decision, key)
        return decision.delay_ns

    def turn(self, args: Arguments, kwargs: Keywords) -> AbstractContextManager[object]:
        """What a call goes through, and stays inside of until it is over."""
        if not self.holds:
            return _Admission(self, args, kwargs)
        asked = self._ask(args, kwargs)
        return nullcontext() if asked is None else Turn(*asked, self._patience)

    def async_turn(self, args: Arguments, kwargs: Keywords) -> AbstractAsyncContextManager[object]:
        """The twin of `turn`."""
        if not self.holds:
            return _Admission(self, args, kwargs)
        asked = self._ask(args, kwargs)
        return nullcontext() if asked is None else AsyncTurn(*asked, self._patience)

    def _ask(self, args: Arguments, kwargs: Keywords) -> tuple[Limiter, str, int] | None:
        if self._exempt is not None and self._exempt(*args, **kwargs):
            return None
        key = self._key if self._key_of is None else self._key_of(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        return self._limiter_for(args, kwargs), valid_key(key), valid_cost(cost)

    def _limiter_for(self, args: Arguments, kwargs: Keywords) -> Limiter:
        if self._limiter is not None:
            return self._limiter
        assert self._limiters is not None  # noqa: S101 - it is one or the other
        assert self._rate_of is not None  # noqa: S101 - likewise
        return self._limiters.of(self._rate_of(*args, **kwargs))


@final
class _Admission:
    """A turn that never waits in line and has nothing to give back."""

    __slots__ = ("_args", "_gate", "_kwargs")

    def __init__(self, gate: CallGate, args: Arguments, kwargs: Keywords) -> None:
        self._gate = gate
        self._args = args
        self._kwargs = kwargs

    def __enter__(self) -> None:
        delay = self._gate.admit(self._args, self._kwargs)
        if delay:
            self._gate.clock.sleep(delay / NS_PER_SECOND)

    def __exit__(self, *outcome: object) -> None:
        return

    async def __aenter__(self) -> None:
        delay = self._gate.admit(self._args, self._kwargs)
        if delay:
            await self._gate.clock.sleep_async(delay / NS_PER_SECOND)

    async def __aexit__(self, *outcome: object) -> None:
        return


def _constant_key(function: Callable[..., Any], key: str) -> str:
    if key in inspect.signature(function).parameters:
        raise InvalidInput(
            f"key={key!r} is a constant, so all callers would share one limit, but the function has "
            f"an argument of that name; write key=lambda {key}: {key}, or choose another constant"
        )
    return key
