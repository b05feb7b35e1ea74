"""Transports for httpx that spare an upstream while it is overloaded, and retry within a budget.

::

    client = httpx.Client(transport=BackpressureTransport())
    client.get("https://search.internal/find", extensions={"priority": "low", "deadline": 2.0})

They read every answer's status, ``Retry-After``, ``RateLimit`` fields and ``X-Pressure``. A request that the
upstream would refuse is not sent: `Overloaded` is raised, or `RateLimited` when a limit of ours there is used
up. What fails is tried again while there are attempts, time and budget left, if that is safe:

* 503, 529 and 429 were refused, and connections that could not be made carried nothing: any method;
* 502, 504 and connections that broke or timed out: the idempotent methods (RFC 9110, 9.2.2) alone;
* never when the body is a stream that cannot be read twice.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex

import httpx

from headgate.errors import InvalidInput
from headgate.gates.answers import LIMITED_STATUS, OVERLOADED_STATUSES, read_answer
from headgate.gates.numbers import valid_call, valid_seconds
from headgate.gates.retry import RetryRules
from headgate.gates.upstream import is_retryable, is_well
from headgate.inputs import valid_key
from headgate.priority import tier_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.client_throttle import ClientThrottle
    from headgate.gates.retry import Attempts, RetryBudget

__all__ = ["AsyncBackpressureTransport", "BackpressureTransport", "by_origin"]

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout)
_MAYBE_SENT: Final = (
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
)
_SMALL_BODY: Final = 65_536


def by_origin(request: httpx.Request) -> str:
    """The upstream of a request: scheme, host and port of its address."""
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"


class _Manners:
    """What both transports have in common: everything but sending and waiting.

    Args:
        upstream: names the upstream of a request; `by_origin` unless told otherwise.
        priority: of requests that do not say (``extensions={"priority": ...}``).
        timeout: seconds after which a request may not be tried again, for those that do not say
            (``extensions={"deadline": ...}``); of those that do, the timeouts of each attempt are shortened
            to what is left.
        attempts, throttle, budget, first_backoff, max_backoff, clock, uniform: see `Upstream`.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        *,
        upstream: Callable[[httpx.Request], str] = by_origin,
        priority: object = "normal",
        attempts: SupportsIndex = 3,
        timeout: SupportsFloat | None = 30.0,
        throttle: ClientThrottle | None = None,
        budget: RetryBudget | None = None,
        first_backoff: SupportsFloat = 0.1,
        max_backoff: SupportsFloat = 5.0,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random,
    ) -> None:
        valid_call("upstream", upstream)
        self._upstream = upstream
        self._tier = tier_of(priority)
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

    def begin(self, request: httpx.Request) -> Attempts:
        """A request's first attempt, or the refusal of it."""
        said = request.extensions
        tier = tier_of(said["priority"]) if "priority" in said else self._tier
        timeout_ns = valid_seconds("deadline", said["deadline"]) if "deadline" in said else None
        # Before anything is sent: what comes of it will be noted under this name.
        name = valid_key(self._upstream(request))
        attempts = self.rules.begin(name, tier, timeout_ns)
        attempts.enter()
        return attempts

    def after_response(
        self, attempts: Attempts, request: httpx.Request, response: httpx.Response
    ) -> float | None:
        """Seconds to wait before another attempt; None when there is to be none."""
        clock = self.rules.clock
        answer = read_answer(response.status_code, response.headers.get, clock.wall_ns())
        refused = answer.status in OVERLOADED_STATUSES or answer.status == LIMITED_STATUS
        safe = refused or request.method in _IDEMPOTENT
        retryable = is_retryable(answer) and safe and _can_be_sent_again(request)
        return attempts.ended(answer, well=is_well(answer), retryable=retryable)

    def after_error(
        self, attempts: Attempts, request: httpx.Request, error: httpx.TransportError
    ) -> float | None:
        """The same after a request that got no answer."""
        safe = isinstance(error, _NEVER_SENT) or (
            isinstance(error, _MAYBE_SENT) and request.method in _IDEMPOTENT
        )
        return attempts.ended(None, well=False, retryable=safe and _can_be_sent_again(request))


class BackpressureTransport(httpx.BaseTransport):
    """For `httpx.Client`: see this module, and `Upstream` for the settings.

    Args:
        transport: sends; a `httpx.HTTPTransport` when left out.
        settings: ``upstream`` names the upstream of a request (`by_origin`); ``priority`` and ``timeout`` are
            those of requests that have none among their extensions; ``attempts``, ``throttle``,
            ``budget``, ``first_backoff``, ``max_backoff``, ``clock`` and ``uniform`` are as for `Upstream`.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None, **settings: Any) -> None:
        self._transport = httpx.HTTPTransport() if transport is None else transport
        if not isinstance(self._transport, httpx.BaseTransport):
            raise InvalidInput(
                f"transport must be a httpx.BaseTransport, got {type(transport).__name__}"
            )
        self._manners = _Manners(**settings)
        self.rules = self._manners.rules

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as often as it takes and as it may."""
        attempts = self._manners.begin(request)
        while True:
            response, failure = None, None
            _hurry(request, attempts)
            try:
                response = self._transport.handle_request(request)
            except httpx.TransportError as error:
                wait = self._manners.after_error(attempts, request, error)
                if wait is None:
                    raise
                failure = error
            else:
                wait = self._manners.after_response(attempts, request, response)
                if wait is None:
                    return response
            self._rest(wait, response)
            if not attempts.resume():
                return _last(response, failure)
            if response is not None:
                response.close()

    def _rest(self, wait: float, response: httpx.Response | None) -> None:
        try:
            if response is not None and _is_small(response):
                response.read()  # so that the connection is free meanwhile
            self.rules.clock.sleep(wait)
        except BaseException:
            if response is not None:
                response.close()
            raise

    def close(self) -> None:
        """Close the transport that sends."""
        self._transport.close()


class AsyncBackpressureTransport(httpx.AsyncBaseTransport):
    """The twin of `BackpressureTransport`, for `httpx.AsyncClient`."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, **settings: Any) -> None:
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        if not isinstance(self._transport, httpx.AsyncBaseTransport):
            raise InvalidInput(
                f"transport must be a httpx.AsyncBaseTransport, got {type(transport).__name__}"
            )
        self._manners = _Manners(**settings)
        self.rules = self._manners.rules

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as often as it takes and as it may."""
        attempts = self._manners.begin(request)
        while True:
            response, failure = None, None
            _hurry(request, attempts)
            try:
                response = await self._transport.handle_async_request(request)
            except httpx.TransportError as error:
                wait = self._manners.after_error(attempts, request, error)
                if wait is None:
                    raise
                failure = error
            else:
                wait = self._manners.after_response(attempts, request, response)
                if wait is None:
                    return response
            await self._rest(wait, response)
            if not attempts.resume():
                return _last(response, failure)
            if response is not None:
                await response.aclose()

    async def _rest(self, wait: float, response: httpx.Response | None) -> None:
        try:
            if response is not None and _is_small(response):
                await response.aread()  # so that the connection is free meanwhile
            await self.rules.clock.sleep_async(wait)
        except BaseException:
            if response is not None:
                await response.aclose()
            raise

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._transport.aclose()


def _can_be_sent_again(request: httpx.Request) -> bool:
    return isinstance(request.stream, httpx.ByteStream)


def _hurry(request: httpx.Request, attempts: Attempts) -> None:
    """Let no step of an attempt take longer than what is left until the deadline that the request set."""
    left = attempts.seconds_left
    if left is None or "deadline" not in request.extensions:
        return
    given = request.extensions.get("timeout") or {}
    steps = {name: given.get(name) for name in ("connect", "read", "write", "pool")}
    request.extensions = {
        **request.extensions,
        "timeout": {
            name: left if value is None else min(value, left) for name, value in steps.items()
        },
    }


def _is_small(response: httpx.Response) -> bool:
    length = response.headers.get("content-length", "")
    return length.isdigit() and int(length) <= _SMALL_BODY


def _last(response: httpx.Response | None, failure: httpx.TransportError | None) -> httpx.Response:
    """What the last attempt came to stands."""
    if response is None:
        assert failure is not None  # noqa: S101 - it is one or the other
        raise failure
    return response
