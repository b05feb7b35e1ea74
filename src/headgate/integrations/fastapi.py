"""A limit as a FastAPI dependency: on the app, a router or a route, for requests and websockets."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, final

from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import HTTPException, WebSocketException
from fastapi.params import Depends
from fastapi.responses import JSONResponse, Response
from starlette.requests import HTTPConnection, Request

from headgate.clock import NS_PER_SECOND
from headgate.errors import HeadgateError, InvalidInput, MissingKey, RateLimited
from headgate.headers import (
    DEFAULT_STYLES,
    PROBLEM_JSON,
    HeaderWriter,
    error_problem,
    problem,
    retry_after_seconds,
)
from headgate.integrations.asgi import note
from headgate.integrations.attributes import (
    by_all,
    by_client_address,
    by_cookie,
    by_header,
    by_path,
    by_path_param,
    by_query,
    by_state,
    by_user,
)
from headgate.integrations.requests import RequestGate, limiter_for, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

    from headgate.clock import Clock
    from headgate.decision import Decision
    from headgate.gates.async_limiter import AsyncLimiter
    from headgate.gates.limiter import Limiter
    from headgate.integrations.attributes import KeyFunction
    from headgate.integrations.requests import Limit, Missing

    Scope = MutableMapping[str, Any]

__all__ = [
    "RESPONSES",
    "RateLimit",
    "RequestRefused",
    "by_all",
    "by_client_address",
    "by_cookie",
    "by_header",
    "by_path",
    "by_path_param",
    "by_query",
    "by_state",
    "by_user",
    "problem_response",
]

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    429: {
        "description": "The rate limit is reached",
        "headers": {
            "Retry-After": {"schema": {"type": "integer"}, "description": "seconds"},
            "RateLimit": {"schema": {"type": "string"}},
            "RateLimit-Policy": {"schema": {"type": "string"}},
        },
        "content": {
            PROBLEM_JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "code": {"type": "string"},
                        "retry_after": {"type": "number", "nullable": True},
                    },
                }
            }
        },
    }
}
"""For OpenAPI: ``FastAPI(responses=RESPONSES)``, or on a router or a route."""

_POLICY_VIOLATION: Final = 1008
_MAX_REASON: Final = 120
_OWN: Final = "headgate.fastapi"
_KEY: Final = "headgate.key"
_HANDLERS: Final = "starlette.exception_handlers"


class RequestRefused(HTTPException):
    """A request was refused, or lacked its key. An HTTPException, so any handler of those will do.

    Attributes:
        error: why.
    """

    def __init__(self, error: HeadgateError, headers: dict[str, str]) -> None:
        super().__init__(error.status, error.message, headers)
        self.error = error

    def members(self) -> dict[str, object]:
        """The problem details (RFC 9457)."""
        if isinstance(self.error, RateLimited):
            return problem(self.error.decision)
        return error_problem(self.error)


@final
class RateLimit:
    """Limits who may call what is behind it.

    ::

        @app.get("/search", dependencies=[Depends(RateLimit("5/minute"))])
        async def search(q: str): ...


        router = APIRouter(
            dependencies=[Depends(RateLimit("100/minute", key=by_header("X-API-Key")))]
        )

    The limit belongs to the object: all routes that one object is put on share it, unless it is made
    with ``per_route=True``. Endpoints need no argument for it; one that wants to know declares
    ``decision: Annotated[Decision, Depends(limit)]``.

    A refused request is answered with 429 as problem details, unless the app handles HTTPException
    itself: then with what that makes of it. A refused websocket is closed with 1008 before it is
    accepted. Responses that FastAPI makes carry the headers; for all others, put
    `headgate.integrations.asgi.RateLimitHeaders` around the app.

    Args:
        limit: ``"5/minute"`` and the like, or a callable that chooses one of a few for each request;
            left out when a ``limiter`` is given.
        key: reads from the request who is limited: ``by_header(...)`` and its siblings, any callable
            that takes the request or websocket, or ``Depends(...)`` on what answers with the key. The
            client's address when left out.
        missing: what becomes of a request without a key: ``"error"`` answers 400, ``"exempt"`` lets it
            pass, ``"anonymous"`` has all such share one limit, and another key is asked instead.
        cost: tokens per request, or a callable that takes the request.
        exempt: true for requests that are not limited.
        trusted_proxies: whose X-Forwarded-For to believe; see `headgate.key.ClientAddresses`.
        limiter: one that exists, to be shared.
        headers: styles of the response headers; see `headgate.headers`. Empty for none.
        per_route: count each route's requests apart.
        burst: see `Limiter`; as are ``algorithm``, ``name``, ``clock`` and ``enabled``.
    """

    def __init__(  # noqa: PLR0913 - the keywords are the interface
        self,
        limit: Limit | None = None,
        *,
        key: KeyFunction | Depends | None = None,
        missing: Missing = "error",
        cost: int | Callable[[Any], int] = 1,
        exempt: Callable[[Any], object] | None = None,
        trusted_proxies: Iterable[str] = (),
        limiter: Limiter | AsyncLimiter | None = None,
        headers: Sequence[str] = DEFAULT_STYLES,
        per_route: bool = False,
        burst: int | None = None,
        algorithm: str | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        enabled: bool | None = None,
    ) -> None:
        self.limiter = limiter_for(
            limit,
            limiter,
            burst=burst,
            algorithm=algorithm,
            name=name,
            clock=clock,
            enabled=enabled,
        )
        if self.limiter.holds_permits:
            raise InvalidInput(
                "a dependency is over before its request is: for algorithm='concurrency' use "
                "headgate.integrations.asgi.RateLimitMiddleware"
            )
        self._gate = RequestGate(
            self.limiter,
            limit=limit,
            key=_given if isinstance(key, Depends) else key,
            missing=missing,
            cost=cost,
            exempt=exempt,
            trusted_proxies=trusted_proxies,
        )
        self._writer = HeaderWriter(headers)
        self._per_route = per_route
        # What FastAPI calls this with. Real types, because it cannot look up names in an object.
        self.__signature__ = _signature(key if isinstance(key, Depends) else None)

    async def __call__(
        self, connection: HTTPConnection, response: Response, key: object = None
    ) -> Decision | None:
        """Decide; FastAPI calls this. The decision, or None for an exempt request."""
        scope = connection.scope
        scope[_KEY] = key
        try:
            asked = self._gate.ask(connection)
        except MissingKey as error:
            raise _refusal(scope, error, {}) from None
        if asked is None:
            return None
        name, cost = asked
        if self._per_route:
            name = f"{_route_of(scope)} {name}"
        decision = self._gate.limiter_of(connection).check(name, cost)
        fields = self._fields(scope, decision)
        if not decision.allowed:
            raise _refusal(scope, RateLimited(decision), fields | _retry_after(decision))
        response.headers.update(fields)
        if decision.delay_ns > 0:
            await self._gate.clock.sleep_async(decision.delay_ns / NS_PER_SECOND)
        return decision

    def _fields(self, scope: Scope, decision: Decision) -> dict[str, str]:
        """The headers of all limits that were asked so far; none if a middleware writes them."""
        if note(scope, decision):
            return {}
        decisions: list[Decision] = scope.setdefault(_OWN, [])
        decisions.append(decision)
        one = decision if len(decisions) == 1 else together(decisions)
        return dict(self._writer.text(one))


async def problem_response(_request: Request, error: Exception) -> Response:
    """A `RequestRefused` as problem details (RFC 9457): an exception handler for Starlette.

    FastAPI apps that leave HTTPException to FastAPI use it without being told to.
    """
    if not isinstance(error, RequestRefused):
        raise error
    return JSONResponse(
        error.members(), error.status_code, headers=error.headers, media_type=PROBLEM_JSON
    )


def _refusal(scope: Scope, error: HeadgateError, fields: dict[str, str]) -> Exception:
    if scope["type"] == "websocket":
        return WebSocketException(_POLICY_VIOLATION, error.message[:_MAX_REASON])
    _answer_with_problems(scope)
    return RequestRefused(error, fields)


def _answer_with_problems(scope: Scope) -> None:
    """Have refusals answered by `problem_response`, if nobody else has plans for them.

    Starlette keeps an app's exception handlers in the scope. Where it does not, FastAPI's own handler
    answers: the same status, message and headers, as plain JSON.
    """
    handlers = scope.get(_HANDLERS, ({},))[0]
    for kind in RequestRefused.__mro__:
        if kind in handlers:
            if handlers[kind] is http_exception_handler:
                handlers[RequestRefused] = problem_response
            return


def _given(source: Any) -> str | None:
    """The key that a dependency answered with."""
    key = source[_KEY]
    return str(key) if isinstance(key, int) else key


def _signature(key: Depends | None) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("connection", kind, annotation=HTTPConnection),
        inspect.Parameter("response", kind, annotation=Response),
    ]
    if key is not None:
        parameters.append(inspect.Parameter("key", kind, default=key, annotation=Any))
    return inspect.Signature(parameters)


def _route_of(scope: Scope) -> str:
    """What tells a route from all others: its method and the path as it was declared."""
    path = getattr(scope.get("route"), "path", scope["path"])
    return f"{scope.get('method', 'WEBSOCKET')} {scope.get('root_path', '')}{path}"


def _retry_after(decision: Decision) -> dict[str, str]:
    seconds = retry_after_seconds(decision)
    return {} if seconds is None else {"Retry-After": str(seconds)}
