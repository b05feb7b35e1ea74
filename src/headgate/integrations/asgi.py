"""Middleware for any ASGI framework: Starlette, FastAPI, Litestar, Quart, Django.

It needs none of them. It passes on what it does not limit without touching it, buffers nothing, and
copies no scope.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.errors import HeadgateError, MissingKey, RateLimited
from headgate.headers import (
    DEFAULT_STYLES,
    PROBLEM_JSON,
    HeaderWriter,
    error_problem,
    problem,
    retry_after_seconds,
)
from headgate.integrations.requests import DECISIONS, RequestGate, limiter_for, together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence

    from headgate.clock import Clock
    from headgate.decision import Decision
    from headgate.gates.async_limiter import AsyncLimiter
    from headgate.gates.limiter import Limiter
    from headgate.integrations.attributes import KeyFunction
    from headgate.integrations.requests import Limit, Missing

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]
    OnDenied = Callable[[Scope, Receive, Send, Decision], Awaitable[None]]
    Fields = list[tuple[bytes, bytes]]

__all__ = ["RateLimitHeaders", "RateLimitMiddleware"]

_POLICY_VIOLATION: Final = 1008
_MAX_REASON: Final = 120
_STARTS: Final = frozenset(
    {"http.response.start", "websocket.accept", "websocket.http.response.start"}
)


@final
class RateLimitMiddleware:
    """Limits the requests and websockets of an app, and tells each response how much is left.

    ::

        app.add_middleware(RateLimitMiddleware, limit="100/minute")
        app = RateLimitMiddleware(app, "100/minute", key=by_header("X-API-Key"), missing="exempt")

    A refused request is answered with 429 as problem details (RFC 9457). A refused websocket is
    answered with 429 too where the server can, and else closed with 1008 before it is accepted, which
    the client sees as 403. Lifespan is not touched.

    Args:
        app: the ASGI app.
        limit: ``"100/minute"`` and the like, or a callable that chooses one of a few for each scope;
            left out when a ``limiter`` is given.
        key: reads from the scope who is limited (see `headgate.integrations.attributes`); the client's
            address when left out.
        missing: what becomes of a request without a key: ``"error"`` answers 400, ``"exempt"`` lets it
            pass, ``"anonymous"`` has all such share one limit, and another key is asked instead.
        cost: tokens per request, or a callable that reads them from the scope.
        exempt: true for scopes that are not limited.
        trusted_proxies: whose X-Forwarded-For to believe; see `headgate.key.ClientAddresses`.
        limiter: one that exists, to be shared.
        headers: styles of the response headers; see `headgate.headers`. Empty for none.
        on_denied: answers in place of the 429: ``async def on_denied(scope, receive, send, decision)``.
        burst: see `Limiter`; as are ``algorithm``, ``name``, ``clock`` and ``enabled``.
    """

    def __init__(  # noqa: PLR0913 - the keywords are the interface
        self,
        app: App,
        limit: Limit | None = None,
        *,
        key: KeyFunction | None = None,
        missing: Missing = "error",
        cost: int | Callable[[Scope], int] = 1,
        exempt: Callable[[Scope], object] | None = None,
        trusted_proxies: Iterable[str] = (),
        limiter: Limiter | AsyncLimiter | None = None,
        headers: Sequence[str] = DEFAULT_STYLES,
        on_denied: OnDenied | None = None,
        burst: int | None = None,
        algorithm: str | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        enabled: bool | None = None,
    ) -> None:
        self._app = app
        self.limiter = limiter_for(
            limit,
            limiter,
            burst=burst,
            algorithm=algorithm,
            name=name,
            clock=clock,
            enabled=enabled,
        )
        self._gate = RequestGate(
            self.limiter,
            limit=limit,
            key=key,
            missing=missing,
            cost=cost,
            exempt=exempt,
            trusted_proxies=trusted_proxies,
        )
        self._writer = HeaderWriter(headers)
        self._on_denied = on_denied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self._app(scope, receive, send)
            return
        gate = self._gate
        try:
            asked = gate.ask(scope)
        except MissingKey as error:
            await refuse(scope, send, error, error_problem(error), [])
            return
        if asked is None:
            await self._app(scope, receive, send)
            return
        limiter = gate.limiter_of(scope)
        decision = limiter.check(*asked)
        if not decision.allowed:
            await self._deny(scope, receive, send, decision)
            return
        granted_at = gate.clock.now_ns() if gate.holds_permits else 0
        try:
            if decision.delay_ns > 0:
                await gate.clock.sleep_async(decision.delay_ns / NS_PER_SECOND)
            await self._app(scope, receive, noting(scope, send, decision, self._writer))
        finally:
            if gate.holds_permits:
                limiter.refund(*asked, granted_at)

    async def _deny(self, scope: Scope, receive: Receive, send: Send, decision: Decision) -> None:
        fields = [] if note(scope, decision) else self._writer.raw(decision)
        if self._on_denied is not None:
            await self._on_denied(scope, receive, adding(send, fields), decision)
            return
        error = RateLimited(decision)
        fields += retry_after(decision)
        await refuse(scope, send, error, problem(decision), fields)


@final
class RateLimitHeaders:
    """Writes the headers of limits that are decided further in, such as FastAPI dependencies.

    Those can set headers only on responses that FastAPI makes for them: not on a ``Response`` that an
    endpoint returns, and not on errors. This middleware sees all responses. It limits nothing.
    `RateLimitMiddleware` does the same besides.
    """

    def __init__(self, app: App, *, headers: Sequence[str] = DEFAULT_STYLES) -> None:
        self._app = app
        self._writer = HeaderWriter(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["type"] == "http" or scope["type"] == "websocket") and DECISIONS not in scope:
            send = noting(scope, send, None, self._writer)
        await self._app(scope, receive, send)


def note(scope: Scope, decision: Decision) -> bool:
    """Tell a middleware further out about a decision, for its headers; False when there is none."""
    decisions: list[Decision] | None = scope.get(DECISIONS)
    if decisions is None:
        return False
    decisions.append(decision)
    return True


def noting(scope: Scope, send: Send, decision: Decision | None, writer: HeaderWriter) -> Send:
    """A ``send`` that adds the headers of all that is decided about this request.

    Only the outermost middleware does; the others tell it what they decided.
    """
    if decision is not None and note(scope, decision):
        return send
    decisions = [] if decision is None else [decision]
    scope[DECISIONS] = decisions

    def send_with_fields(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS and decisions:
            one = decisions[0] if len(decisions) == 1 else together(decisions)
            message = _with_fields(message, writer.raw(one))
        return send(message)

    return send_with_fields


def adding(send: Send, fields: Fields) -> Send:
    """A ``send`` that adds these headers."""

    def send_with_fields(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS and fields:
            message = _with_fields(message, fields)
        return send(message)

    return send_with_fields


def retry_after(decision: Decision) -> Fields:
    """The Retry-After header, unless no wait is long enough."""
    seconds = retry_after_seconds(decision)
    return [] if seconds is None else [(b"retry-after", b"%d" % seconds)]


async def refuse(
    scope: Scope, send: Send, error: HeadgateError, members: dict[str, object], fields: Fields
) -> None:
    """Answer a request with problem details, and a websocket too if the server can do that."""
    prefix = ""
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            reason = error.message[:_MAX_REASON]
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
            return
        prefix = "websocket."
    body = json.dumps(members).encode()
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        *fields,
    ]
    await send({"type": f"{prefix}http.response.start", "status": error.status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": body})


def _with_fields(message: Message, fields: Fields) -> Message:
    """The message with more headers. A new one: the app may use its own again."""
    return {**message, "headers": [*message.get("headers", ()), *fields]}
