"""``@limit``: a limit around a function."""

from __future__ import annotations

import functools
import inspect
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import InvalidInput, RateLimited
from headgate.gates.arguments import by_name
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.limiter import Limiter
from headgate.gates.waiting import AsyncTurn, Turn, valid_timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from headgate.clock import Clock
    from headgate.rate import Rate

__all__ = ["limit"]

_F = TypeVar("_F", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]")


def limit(  # noqa: PLR0913 - the keywords are the interface
    rate: str | Rate | Sequence[Rate] | None = None,
    *,
    key: str | Callable[..., str] | None = None,
    cost: int | Callable[..., int] = 1,
    exempt_when: Callable[..., object] | None = None,
    algorithm: str | None = None,
    burst: int | None = None,
    limiter: Limiter | AsyncLimiter | None = None,
    wait: bool | float = False,
    name: str | None = None,
    clock: Clock | None = None,
    enabled: bool = True,
) -> Callable[[_F], _F]:
    """Limit how often a function may be called.

    >>> @limit("5/second", key=lambda user, **_: user)
    ... def send(user: str, text: str) -> None: ...
    >>> send("ann", "hello")
    >>> send.limiter.peek("ann").remaining
    4

    The function keeps its type. At run time it has the limiter as ``.limiter``; a type checker that
    should know it too is given a limiter of your own: ``@limit(limiter=mine)``.

    For functions, coroutine functions, generators and asynchronous generators; methods, static and
    class methods too. A generator is charged when it starts to run, as its body is. A function under
    ``algorithm="concurrency"`` holds its permit until it returns.

    ``key``, ``cost`` and ``exempt_when`` may be callables; each is given, by name, those arguments of
    the call that it asks for, or all of them when it has a ``**kwargs``.

    Args:
        rate: ``"5/second"`` and the like; left out when a ``limiter`` is given.
        key: who is limited. A string is a constant. Left out, all callers share one limit.
        cost: tokens per call.
        exempt_when: true for calls that are not limited.
        algorithm: see `Limiter`.
        burst: see `Limiter`.
        limiter: one that exists, to be shared; functions without a ``key`` then share one allowance.
        wait: False raises at once; True waits for a turn; a number waits so many seconds at most.
        name: stands in decisions as the policy; the function's qualified name when left out.
        clock: see `Limiter`.
        enabled: see `Limiter`.

    Raises:
        RateLimited: by the function, when a call is refused.
        InvalidInput: when decorating, if the arguments make no sense together.
    """
    timeout = _timeout(wait)
    shared = _shared(limiter, rate, (algorithm, burst, name, clock))

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(decorate(function.__func__))
        _require_function(function)
        core = shared
        if core is None:
            core = Limiter(
                rate or (),
                burst=burst,
                algorithm=algorithm,
                clock=clock,
                enabled=enabled,
                name=name or str(getattr(function, "__qualname__", type(function).__qualname__)),
            )
        gate = _Gate(core, timeout)
        gate.read_arguments(function, key, cost, exempt_when)
        wrapper: Any = functools.wraps(function)(_wrapper(function, gate))
        wrapper.limiter = core
        return wrapper

    return decorate


def _shared(
    limiter: Limiter | AsyncLimiter | None, rate: object, settings: tuple[object, ...]
) -> Limiter | None:
    """The limiter that was given, if there is one and nothing contradicts it."""
    if callable(rate) or (limiter is None and rate is None):
        raise InvalidInput("limit needs a rate or a limiter; write @limit('5/second')")
    if limiter is None:
        return None
    if rate is not None or any(setting is not None for setting in settings):
        raise InvalidInput(
            "a limiter has its rate and its settings; give limit either the limiter or those"
        )
    return limiter.sync if isinstance(limiter, AsyncLimiter) else limiter


def _timeout(
    wait: bool | float,  # noqa: FBT001 - one keyword says all three
) -> float | Literal[False] | None:
    """Seconds to wait at most, None for as long as it takes, False for not at all."""
    if wait is False:
        return False
    return None if wait is True else valid_timeout(wait)


def _require_function(function: object) -> None:
    if inspect.isclass(function) or not callable(function):
        raise InvalidInput(
            f"limit decorates functions, got {type(function).__name__}; "
            "for a class, decorate its __init__"
        )


@final
class _Gate:
    """The limit of one function: from the arguments of a call to a decision."""

    __slots__ = (
        "_check",
        "_cost",
        "_cost_of",
        "_exempt",
        "_key",
        "_key_of",
        "_patience",
        "holds",
        "limiter",
    )

    def __init__(self, limiter: Limiter, timeout: float | Literal[False] | None) -> None:
        self.limiter = limiter
        # Whether a call waits for its turn, or has something to give back at its end.
        self.holds = timeout is not False or limiter.holds_permits
        self._patience = 0.0 if timeout is False else timeout
        self._check = limiter.check
        self._key = limiter.name
        self._key_of: Callable[..., str] | None = None
        self._cost = 1
        self._cost_of: Callable[..., int] | None = None
        self._exempt: Callable[..., object] | None = None

    def read_arguments(
        self,
        function: Callable[..., Any],
        key: str | Callable[..., str] | None,
        cost: int | Callable[..., int],
        exempt_when: Callable[..., object] | None,
    ) -> None:
        """Work out, once, how each of these comes from the arguments of a call."""
        if callable(key):
            self._key_of = by_name(function, key, "key")
        elif key is not None:
            self._key = _constant_key(function, key)
        if callable(cost):
            self._cost_of = by_name(function, cost, "cost")
        else:
            self._cost = cost
        self.limiter.peek(self._key, self._cost)  # refuses a key or a cost that no call may have
        if exempt_when is not None:
            self._exempt = by_name(function, exempt_when, "exempt_when")

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """The nanoseconds to hold back, which only a queueing limit asks for.

        Raises:
            RateLimited: the call is refused.
        """
        if self._exempt is not None and self._exempt(*args, **kwargs):
            return 0
        key = self._key if self._key_of is None else self._key_of(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        decision = self._check(key, cost)
        if not decision.allowed:
            raise RateLimited(decision, key)
        return decision.delay_ns

    def turn(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[object]:
        """What a call goes through, and stays inside of until it is over."""
        if not self.holds:
            return _Admission(self, args, kwargs)
        asked = self._ask(args, kwargs)
        return nullcontext() if asked is None else Turn(self.limiter, *asked, self._patience)

    def async_turn(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AbstractAsyncContextManager[object]:
        """The twin of `turn`."""
        if not self.holds:
            return _Admission(self, args, kwargs)
        asked = self._ask(args, kwargs)
        return nullcontext() if asked is None else AsyncTurn(self.limiter, *asked, self._patience)

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, int] | None:
        if self._exempt is not None and self._exempt(*args, **kwargs):
            return None
        key = self._key if self._key_of is None else self._key_of(*args, **kwargs)
        cost = self._cost if self._cost_of is None else self._cost_of(*args, **kwargs)
        return key, cost


@final
class _Admission:
    """A turn that never waits in line and has nothing to give back."""

    __slots__ = ("_args", "_gate", "_kwargs")

    def __init__(self, gate: _Gate, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._gate = gate
        self._args = args
        self._kwargs = kwargs

    def __enter__(self) -> None:
        delay = self._gate.admit(self._args, self._kwargs)
        if delay:
            self._gate.limiter.clock.sleep(delay / NS_PER_SECOND)

    def __exit__(self, *outcome: object) -> None:
        return

    async def __aenter__(self) -> None:
        delay = self._gate.admit(self._args, self._kwargs)
        if delay:
            await self._gate.limiter.clock.sleep_async(delay / NS_PER_SECOND)

    async def __aexit__(self, *outcome: object) -> None:
        return


def _wrapper(function: Callable[..., Any], gate: _Gate) -> Callable[..., Any]:
    """A function of the same kind, so that whoever asks what it is gets the same answer."""
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, gate)
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, gate)
    if inspect.iscoroutinefunction(function):
        return _wrap_coroutine(function, gate)
    return _wrap_plain(function, gate)


def _wrap_plain(function: Callable[..., Any], gate: _Gate) -> Callable[..., Any]:
    admit = gate.admit
    sleep = gate.limiter.clock.sleep

    def checked(*args: Any, **kwargs: Any) -> Any:
        delay = admit(args, kwargs)
        if delay:
            sleep(delay / NS_PER_SECOND)
        return function(*args, **kwargs)

    def in_turn(*args: Any, **kwargs: Any) -> Any:
        with gate.turn(args, kwargs):
            return function(*args, **kwargs)

    return in_turn if gate.holds else checked


def _wrap_coroutine(function: Callable[..., Any], gate: _Gate) -> Callable[..., Any]:
    admit = gate.admit
    sleep = gate.limiter.clock.sleep_async

    async def checked(*args: Any, **kwargs: Any) -> Any:
        delay = admit(args, kwargs)
        if delay:
            await sleep(delay / NS_PER_SECOND)
        return await function(*args, **kwargs)

    async def in_turn(*args: Any, **kwargs: Any) -> Any:
        async with gate.async_turn(args, kwargs):
            return await function(*args, **kwargs)

    return in_turn if gate.holds else checked


def _wrap_generator(function: Callable[..., Any], gate: _Gate) -> Callable[..., Any]:
    def in_turn(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with gate.turn(args, kwargs):
            return (yield from function(*args, **kwargs))

    return in_turn


def _wrap_async_generator(function: Callable[..., Any], gate: _Gate) -> Callable[..., Any]:
    async def in_turn(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with gate.async_turn(args, kwargs), aclosing(function(*args, **kwargs)) as inner:
            # What ``yield from`` does, which asynchronous generators lack.
            try:
                value = await anext(inner)
                while True:
                    try:
                        sent = yield value
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 - the inner one decides about it
                        value = await inner.athrow(error)
                    else:
                        value = await inner.asend(sent)
            except StopAsyncIteration:
                return

    return in_turn


def _constant_key(function: Callable[..., Any], key: str) -> str:
    if key in inspect.signature(function).parameters:
        raise InvalidInput(
            f"key={key!r} is a constant, so all callers would share one limit, but the function has "
            f"an argument of that name; write key=lambda {key}: {key}, or choose another constant"
        )
    return key
