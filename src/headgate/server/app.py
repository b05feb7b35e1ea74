"""The application: FastAPI routes over a `Context`, with every error as problem details."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.errors import (
    HeadgateError,
    InternalError,
    InvalidInput,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
)
from headgate.server import schemas
from headgate.server.bodies import BytesResponse, problem_response, tail_response
from headgate.server.routes_backpressure import backpressure_router
from headgate.server.routes_checks import checks_router
from headgate.server.routes_cluster import cluster_router
from headgate.server.routes_operations import operations_router
from headgate.server.routes_policies import policies_router
from headgate.server.routes_records import records_router

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["create_app"]

_log = logging.getLogger("headgate.server")
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_OPEN: Final = ("/healthz", "/readyz")


def create_app(context: Context) -> ASGIApp:
    """The ASGI application of a service."""
    app = FastAPI(
        title="Headgate",
        version=context.version,
        description="Rate limits as a service.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_name_of,
    )
    routers = [
        checks_router(context),
        policies_router(context),
        records_router(context),
        backpressure_router(context),
        cluster_router(context),
        operations_router(context, app),
    ]
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    _add_handlers(app, context, [route for route in routes if isinstance(route, APIRoute)])
    _describe(app, context)
    return _Counted(app, context.answered)


def _name_of(route: APIRoute) -> str:
    return route.name


def _add_handlers(app: FastAPI, context: Context, routes: Sequence[APIRoute]) -> None:
    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HeadgateError)  # noqa: S101 - for the type checker
        if type(error) is Overloaded:
            # In the words of the lane.
            return tail_response(503, context.renderer.overloaded(error.decision))
        return problem_response(error)

    async def not_valid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
        return problem_response(_invalid(error))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
        if error.status_code == 405:
            return _method_not_allowed(routes, request)
        if error.status_code == 404:
            shown = ascii(request.url.path[:200])
            return problem_response(NotFound(f"there is nothing at {shown}; /docs lists what is"))
        return problem_response(MalformedRequest(str(error.detail)))

    async def left(_request: Request, _error: Exception) -> Response:
        return BytesResponse(400, [])  # nobody is there to read it

    async def broken(_request: Request, _error: Exception) -> Response:
        message = "something went wrong that should not; the log of the service says what"
        return problem_response(InternalError(message))

    app.add_exception_handler(HeadgateError, failed)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, broken)


def _invalid(error: RequestValidationError) -> InvalidInput:
    """The first complaint about a parameter, as ours."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return InvalidInput(f"{field}: {first['msg']}", field=field)


def _method_not_allowed(routes: Sequence[APIRoute], request: Request) -> Response:
    path = request.scope["path"]
    matching = [route.methods for route in routes if route.path_regex.match(path)]
    names = ", ".join(sorted({method for methods in matching for method in methods or ()}))
    error = MethodNotAllowed(f"this address takes {names}, got {request.method[:20]!a}")
    return problem_response(error, [(b"allow", names.encode("ascii"))])


def _describe(app: FastAPI, context: Context) -> None:
    """Complete the OpenAPI document that FastAPI writes with our schemas."""
    from_fastapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = from_fastapi()
            document["components"] = {"schemas": schemas.components()}
            _describe_parameters(document)
        document = app.openapi_schema or {}
        _describe_tokens(document, needed=context.gatekeeper.required)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_parameters(document: dict[str, Any]) -> None:
    """Take null out of optional parameters: a header or a query has no null, it is left out."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                first, *_ = parameter["schema"].pop("anyOf", [{}])
                parameter["schema"] |= first


def _describe_tokens(document: dict[str, Any], *, needed: bool) -> None:
    """Say how tokens are sent, where they are needed."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if needed and path not in _OPEN:
                operation["security"] = [{"bearer": []}, {"api_key": []}]


class _Counted:
    """Counts the answers of an application by route, method and status."""

    def __init__(self, app: ASGIApp, answered: dict[tuple[str, str, int], int]) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = "(none)" if route is None else route.path
                method = scope["method"] if scope["method"] in _METHODS else "(other)"
                identity = (path, method, message["status"])
                self._answered[identity] = self._answered.get(identity, 0) + 1
            await send(message)

        await self._app(scope, receive, counting)
