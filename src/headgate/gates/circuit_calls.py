"""A breaker around functions."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from headgate.errors import InvalidInput
from headgate.gates.wrapping import is_awaited, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.gates.circuit_blocks import CallGuard
    from headgate.gates.circuit_breaker import CircuitBreaker

__all__ = ["protect"]


def protect(breaker: CircuitBreaker, function: Any) -> Any:
    """The function, each call of which goes through the breaker; of the same kind as it was.

    Raises:
        InvalidInput: it is no function.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(protect(breaker, function.__func__))
    if inspect.isclass(function) or not callable(function):
        raise InvalidInput(
            f"a breaker decorates functions, got {type(function).__name__}; "
            "for a class, decorate the methods that call out"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):

        def turn(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> CallGuard:
            # How long a generator takes is up to whoever consumes it.
            return breaker.guard(timed=False)

        return wrap(function, turn, turn)
    make = _coroutine if is_awaited(function) else _plain
    return functools.wraps(function)(make(breaker, function))


def _plain(breaker: CircuitBreaker, function: Callable[..., Any]) -> Callable[..., Any]:
    enter, returned, left = breaker.enter, breaker.returned, breaker.left

    def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = enter()
        try:
            result = function(*args, **kwargs)
            returned(permit, result)
        except BaseException as error:
            # What a judge of results raises gets here too; its permit has ended by then.
            left(permit, error)
            raise
        return result

    return guarded


def _coroutine(breaker: CircuitBreaker, function: Callable[..., Any]) -> Callable[..., Any]:
    if breaker.is_shared:
        return _shared_coroutine(breaker, function)
    enter, returned, left = breaker.enter, breaker.returned, breaker.left

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = enter()
        try:
            result = await function(*args, **kwargs)
            returned(permit, result)
        except BaseException as error:
            left(permit, error)
            raise
        return result

    return guarded


def _shared_coroutine(breaker: CircuitBreaker, function: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        permit = await breaker.enter_async()
        try:
            result = await function(*args, **kwargs)
            await breaker.returned_async(permit, result)
        except BaseException as error:
            await breaker.left_async(permit, error)
            raise
        return result

    return guarded
