"""How a program calls an upstream: spared while it is overloaded, retried within a budget (B6, B8)."""

from __future__ import annotations

import functools
import inspect
from copy import copy
from random import random
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex, TypeVar, cast, final

from headgate.errors import InvalidInput, RateLimited
from headgate.gates.answers import LIMITED_STATUS, OVERLOADED_STATUSES, Answer, answer_of
from headgate.gates.numbers import valid_call
from headgate.gates.retry import RetryRules
from headgate.gates.wrapping import is_awaited
from headgate.inputs import valid_key
from headgate.priority import tier_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.client_throttle import ClientThrottle
    from headgate.gates.retry import Attempts, RetryBudget

__all__ = ["Upstream", "is_retryable", "is_well"]

_F = TypeVar("_F", bound="Callable[..., Any]")

_BEHIND: Final = frozenset({502, 504})
"""A gateway says so when what is behind it did not answer: the call may have been carried out."""


@final
class Upstream:
    """Decorates the functions that call an upstream.

    >>> search = Upstream("search", timeout=2.0)
    >>> @search
    ... def find(text: str) -> list[str]:
    ...     return [text]  # the call itself
    >>> find("a")
    ['a']

    A call is refused at once with `Overloaded` when the upstream would refuse it, or with `RateLimited` when
    it said that a limit of ours is used up. What fails is tried again while there are attempts, time and
    budget left, after the wait that the upstream asked for and one of our own. If it is not, what it
    raised or returned stands.

    Read are responses (and exceptions that carry one) of httpx, requests, aiohttp and whatever else has a
    ``status_code`` or ``status`` and ``headers``: see `headgate.gates.answers`. Tried again are 429 that
    tells when, 502, 503, 504 and 529, and what raises one of ``retry_on``. So decorate what may be done
    twice, or give ``attempts=1``.

    For functions and coroutine functions. Thread-safe, and safe across asyncio tasks.

    Args:
        name: of the upstream.
        priority: of its calls; `at` gives some another one.
        attempts: of one call, 1 to 100.
        timeout: seconds after the beginning of a call in which its last attempt must begin; None for no
            deadline. An attempt under way is not cut short.
        retry_on: exceptions that are worth another attempt.
        throttle: to be shared with others; one of its own when left out.
        budget: likewise.
        first_backoff: seconds that the first wait takes at most; it doubles with each.
        max_backoff: seconds that no wait of ours is longer than.
        clock: gives the time; the throttle's, or the system's, when left out.
        uniform: draws from [0, 1) for the jitter.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        name: str,
        *,
        priority: object = "normal",
        attempts: SupportsIndex = 3,
        timeout: SupportsFloat | None = 30.0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (ConnectionError, TimeoutError),
        throttle: ClientThrottle | None = None,
        budget: RetryBudget | None = None,
        first_backoff: SupportsFloat = 0.1,
        max_backoff: SupportsFloat = 5.0,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random,
    ) -> None:
        self.name = valid_key(name)
        self.rules = RetryRules(
            attempts=attempts,
            timeout=timeout,
            throttle=throttle,
            budget=budget,
            first_backoff=first_backoff,
            max_backoff=max_backoff,
            clock=clock,
            uniform=uniform,
        )
        self.tier = tier_of(priority)
        self._retry_on = _exceptions(retry_on)

    def at(self, priority: object) -> Upstream:
        """The same upstream, for calls of another priority: ``@search.at("low")``."""
        other = copy(self)
        other.tier = tier_of(priority)
        return other

    @property
    def pressure(self) -> float:
        """What the upstream said about itself, as far as it is still believed. A pressure source."""
        return self.rules.throttle.pressure(self.name)

    def __call__(self, function: _F) -> _F:
        """Decorate a function or a coroutine function.

        Raises:
            InvalidInput: it is neither.
        """
        if isinstance(function, staticmethod | classmethod):
            raise InvalidInput("put an upstream under @staticmethod and @classmethod, not above")
        if inspect.isclass(function):
            raise InvalidInput("an upstream decorates functions, got a class; decorate its methods")
        valid_call("what an upstream decorates", function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidInput(
                "an upstream cannot decorate a generator, which cannot begin twice; decorate what it calls"
            )
        kind = self._coroutine if is_awaited(function) else self._plain
        decorated: Any = functools.wraps(function)(kind(function))
        return cast("_F", decorated)

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            attempts = self.rules.begin(self.name, self.tier)
            attempts.enter()
            while True:
                outcome = _Outcome()
                try:
                    outcome.value = function(*args, **kwargs)
                except RateLimited:
                    raise  # a refusal of our own, within: it says nothing about the upstream
                except Exception as error:  # noqa: BLE001 - it is raised again
                    outcome.error = error
                wait = self._after(attempts, outcome)
                if wait is None:
                    return outcome.give()
                self.rules.clock.sleep(wait)
                if not attempts.resume():
                    return outcome.give()

        return called

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*args: Any, **kwargs: Any) -> Any:
            attempts = self.rules.begin(self.name, self.tier)
            attempts.enter()
            while True:
                outcome = _Outcome()
                try:
                    outcome.value = await function(*args, **kwargs)
                except RateLimited:
                    raise  # as above
                except Exception as error:  # noqa: BLE001 - it is raised again
                    outcome.error = error
                wait = self._after(attempts, outcome)
                if wait is None:
                    return outcome.give()
                await self.rules.clock.sleep_async(wait)
                if not attempts.resume():
                    return outcome.give()

        return called

    def _after(self, attempts: Attempts, outcome: _Outcome) -> float | None:
        """Seconds to wait before another attempt; None when there is to be none."""
        error = outcome.error
        answer = answer_of(outcome.value if error is None else error, self.rules.clock.wall_ns())
        if answer is None:
            return attempts.ended(
                None, well=error is None, retryable=isinstance(error, self._retry_on)
            )
        retryable = is_retryable(answer) or isinstance(error, self._retry_on)
        return attempts.ended(answer, well=is_well(answer), retryable=retryable)


class _Outcome:
    """What an attempt came to: a value, or an exception."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Exception | None = None

    def give(self) -> Any:
        error = self.error
        if error is not None:
            try:
                raise error
            finally:
                self.error = error = None  # an exception that knows its frame keeps all in it alive
        return self.value


def is_well(answer: Answer) -> bool:
    """Whether the upstream did what was asked, or said rightly that it cannot be done."""
    return answer.status < 500 and answer.status != LIMITED_STATUS


def is_retryable(answer: Answer) -> bool:
    """Whether the same call may go well later."""
    status = answer.status
    return status in OVERLOADED_STATUSES or status in _BEHIND or status == LIMITED_STATUS


def _exceptions(given: object) -> tuple[type[Exception], ...]:
    kinds = given if isinstance(given, tuple) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidInput(f"retry_on must be exceptions, got {kind!r:.60}")
    return kinds
