"""``@limit``: a limit around a function."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from headgate.clock import NS_PER_SECOND
from headgate.errors import InvalidInput
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.call_gate import CallGate
from headgate.gates.dynamic import Limiters
from headgate.gates.limiter import Limiter
from headgate.gates.waiting import valid_timeout
from headgate.gates.wrapping import is_awaited, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.clock import Clock
    from headgate.rate import Rate

__all__ = ["limit"]

_F = TypeVar("_F", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]")


def limit(  # noqa: PLR0913 - the keywords are the interface
    rate: str | Rate | Sequence[Rate] | Callable[..., str | Rate] | None = None,
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

    ``rate``, ``key``, ``cost`` and ``exempt_when`` may be callables; each is given, by name, those
    arguments of the call that it asks for, or all of them when it has a ``**kwargs``.

    Args:
        rate: ``"5/second"`` and the like; left out when a ``limiter`` is given. A callable chooses
            among a few rates per call, each of which has its own counts; ``.limiter`` is then the
            `Limiters` of them all.
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
    _require_key_for(rate, key)

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(decorate(function.__func__))
        _require_function(function)
        named = name or str(getattr(function, "__qualname__", type(function).__qualname__))
        own: Limiter | Limiters | None = shared
        if own is None:
            settings = {"algorithm": algorithm, "burst": burst, "enabled": enabled, "name": named}
            own = _own(rate, clock, settings)
        gate = CallGate(own, named if shared is None else shared.name, timeout)
        gate.read(function, rate=rate, key=key, cost=cost, exempt_when=exempt_when)
        wrapper: Any = functools.wraps(function)(_wrapper(function, gate))
        wrapper.limiter = own
        return wrapper

    return decorate


def _shared(
    limiter: Limiter | AsyncLimiter | None, rate: object, settings: tuple[object, ...]
) -> Limiter | None:
    """The limiter that was given, if there is one and nothing contradicts it."""
    if limiter is None:
        if rate is None:
            raise InvalidInput("limit needs a rate or a limiter; write @limit('5/second')")
        return None
    if rate is not None or any(setting is not None for setting in settings):
        raise InvalidInput(
            "a limiter has its rate and its settings; give limit either the limiter or those"
        )
    return limiter.sync if isinstance(limiter, AsyncLimiter) else limiter


def _own(rate: Any, clock: Clock | None, settings: dict[str, Any]) -> Limiter | Limiters:
    if callable(rate):
        return Limiters(clock, **settings)
    return Limiter(rate, clock=clock, **settings)


def _require_key_for(rate: object, key: object) -> None:
    """A bare ``@limit`` gets the function itself as its rate, and must not pass for one."""
    if callable(rate) and key is None:
        raise InvalidInput(
            "limit needs a rate: write @limit('5/second'); a rate that is worked out per call "
            "needs a key besides"
        )


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


def _wrapper(function: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    """What a turn with nothing to wait for and nothing to give back costs is spared where it can be."""
    if gate.holds or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        wrapped: Callable[..., Any] = wrap(function, gate.turn, gate.async_turn)
        return wrapped
    if is_awaited(function):
        return _check_coroutine(function, gate)
    return _check_plain(function, gate)


def _check_plain(function: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    admit = gate.admit
    sleep = gate.clock.sleep

    def checked(*args: Any, **kwargs: Any) -> Any:
        delay = admit(args, kwargs)
        if delay:
            sleep(delay / NS_PER_SECOND)
        return function(*args, **kwargs)

    return checked


def _check_coroutine(function: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    admit = gate.admit
    sleep = gate.clock.sleep_async

    async def checked(*args: Any, **kwargs: Any) -> Any:
        delay = admit(args, kwargs)
        if delay:
            await sleep(delay / NS_PER_SECOND)
        return await function(*args, **kwargs)

    return checked
