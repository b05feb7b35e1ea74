"""The limit of requests, whatever the framework: by what, how much, and what if that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, final

from headgate.engine.together import combine
from headgate.errors import InvalidInput, MissingKey
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.dynamic import Limiters
from headgate.gates.limiter import Limiter
from headgate.inputs import valid_cost
from headgate.integrations.attributes import by_client_address, describe
from headgate.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.decision import Decision
    from headgate.integrations.attributes import KeyFunction

    Limit = str | Rate | Sequence[Rate] | Callable[[Any], str | Rate]
    Missing = Literal["error", "exempt", "anonymous"] | KeyFunction

__all__ = ["DECISIONS", "RequestGate", "limiter_for", "together"]

DECISIONS: Final = "headgate.decisions"
"""Where in a scope the decisions about a request are, in the order in which they were made."""

_CHOICES: Final = ("error", "exempt", "anonymous")


@final
class RequestGate:
    """From a request to the question that is asked about it, and to whom it goes.

    Attributes:
        clock: the limiter's.
        holds_permits: whether a permit is to be given back when the request is over.
    """

    __slots__ = (
        "_cost",
        "_cost_of",
        "_exempt",
        "_key",
        "_limit_of",
        "_limiter",
        "_missing",
        "_tagged",
        "clock",
        "holds_permits",
    )

    def __init__(
        self,
        limiter: Limiter | Limiters,
        *,
        limit: Limit | None,
        key: KeyFunction | None,
        missing: Missing,
        cost: int | Callable[[Any], int],
        exempt: Callable[[Any], object] | None,
        trusted_proxies: Iterable[str],
    ) -> None:
        if not callable(missing) and missing not in _CHOICES:
            raise InvalidInput(
                f"missing must be one of {', '.join(_CHOICES)} or another key, got {missing!r:.60}"
            )
        self.clock = limiter.clock
        self.holds_permits = limiter.holds_permits
        self._limiter = limiter
        self._limit_of = limit if callable(limit) else None
        self._key = _key(key, tuple(trusted_proxies))
        self._missing = missing
        # Keys from two sources are told apart, so that nobody can send a key that is another's address.
        self._tagged = callable(missing) or missing == "anonymous"
        self._exempt = exempt
        self._cost = 1
        self._cost_of: Callable[[Any], int] | None = None
        if callable(cost):
            self._cost_of = cost
        else:
            self._cost = valid_cost(cost)

    def ask(self, source: Any) -> tuple[str, int] | None:
        """The key and the cost of a request; None when it is exempt.

        Raises:
            MissingKey: the request lacks the attribute, and the choice was not to let that pass.
        """
        if self._exempt is not None and self._exempt(source):
            return None
        key = self._key(source)
        if not key:
            key = self._without_key(source)
            if key is None:
                return None
        elif self._tagged:
            key = f"key:{key}"
        return key, self._cost if self._cost_of is None else self._cost_of(source)

    def limiter_of(self, source: Any) -> Limiter:
        """Who decides about a request."""
        limiter = self._limiter
        if isinstance(limiter, Limiters):
            assert self._limit_of is not None  # noqa: S101 - that is when there are several
            return limiter.of(self._limit_of(source))
        return limiter

    def _without_key(self, source: Any) -> str | None:
        missing = self._missing
        if missing == "exempt":
            return None
        if missing == "anonymous":
            return "anonymous"
        if callable(missing):
            other = missing(source)
            if other:
                return f"missing:{other}"
        what = describe(self._key)
        raise MissingKey(f"requests are limited by {what}, and this one lacks it", attribute=what)


def _key(key: KeyFunction | None, trusted_proxies: tuple[str, ...]) -> KeyFunction:
    if key is None:
        return by_client_address(trusted_proxies)
    if trusted_proxies:
        raise InvalidInput(
            "trusted_proxies is about client addresses; with a key, give them to it: "
            "key=by_client_address(trusted_proxies=[...])"
        )
    if not callable(key):
        raise InvalidInput(
            f"key must be a callable such as by_header('X-API-Key'), got {type(key).__name__}; "
            "a constant would make all callers share one limit"
        )
    return key


def limiter_for(
    limit: Limit | None, limiter: Limiter | AsyncLimiter | None, **settings: Any
) -> Limiter | Limiters:
    """The limiter that was given, or what decides about the limit that was.

    Raises:
        InvalidInput: neither was, or both were.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if limiter is None:
        if limit is None:
            raise InvalidInput("a limit is needed: limit='100/minute', or limiter=...")
        if callable(limit):
            return Limiters(**given)
        # Several limits may stand in one response's headers, so they need names that differ.
        given.setdefault("name", str(limit) if isinstance(limit, str | Rate) else "default")
        return Limiter(limit, **given)
    if limit is not None or given:
        names = ", ".join(["limit", *given] if limit is not None else given)
        raise InvalidInput(f"a limiter has its own {names}; give either the limiter or those")
    return limiter.sync if isinstance(limiter, AsyncLimiter) else limiter


def together(decisions: list[Decision]) -> Decision:
    """One answer for all that was decided about a request."""
    return combine([level for one in decisions for level in one.levels or (one,)])
