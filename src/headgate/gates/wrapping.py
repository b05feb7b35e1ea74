"""A function of the same kind around a function: whoever asks what it is gets the same answer."""

from __future__ import annotations

import functools
import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    Turn = Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[object]]
    AsyncTurn = Callable[[tuple[Any, ...], dict[str, Any]], AbstractAsyncContextManager[object]]

__all__ = ["is_awaited", "wrap"]


def is_awaited(function: object) -> bool:
    """Whether it is a coroutine function, or an object whose ``__call__`` is one."""
    if inspect.iscoroutinefunction(function):
        return True
    return callable(function) and inspect.iscoroutinefunction(type(function).__call__)


def wrap(function: Any, turn: Turn, async_turn: AsyncTurn) -> Any:
    """The function, each call of which goes through a context manager and stays in it until it is over.

    For functions, coroutine functions, generators and asynchronous generators; the body of a generator
    begins when it is first asked for a value, and so does its turn.

    Args:
        function: what is called.
        turn: from the arguments of a call to what it goes through.
        async_turn: the same for what is awaited.

    Raises:
        InvalidInput: it is no function.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(wrap(function.__func__, turn, async_turn))
    if inspect.isclass(function) or not callable(function):
        raise InvalidInput(
            f"a guarded function must be callable, and no class, got {type(function).__name__}; "
            "for a class, decorate its methods"
        )
    wrapper: Callable[..., Any]
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, async_turn)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, turn)
    elif is_awaited(function):
        wrapper = _coroutine(function, async_turn)
    else:
        wrapper = _plain(function, turn)
    return functools.wraps(function)(wrapper)


def _plain(function: Callable[..., Any], turn: Turn) -> Callable[..., Any]:
    def in_turn(*args: Any, **kwargs: Any) -> Any:
        with turn(args, kwargs):
            return function(*args, **kwargs)

    return in_turn


def _coroutine(function: Callable[..., Any], turn: AsyncTurn) -> Callable[..., Any]:
    async def in_turn(*args: Any, **kwargs: Any) -> Any:
        async with turn(args, kwargs):
            return await function(*args, **kwargs)

    return in_turn


def _generator(function: Callable[..., Any], turn: Turn) -> Callable[..., Any]:
    def in_turn(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with turn(args, kwargs):
            return (yield from function(*args, **kwargs))

    return in_turn


def _async_generator(function: Callable[..., Any], turn: AsyncTurn) -> Callable[..., Any]:
    async def in_turn(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with turn(args, kwargs), aclosing(function(*args, **kwargs)) as inner:
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
