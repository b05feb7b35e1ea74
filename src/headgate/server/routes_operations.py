"""For whoever runs the service: health, readiness, Prometheus, the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Response

from headgate.errors import ShuttingDown, StoreUnavailable
from headgate.server import schemas
from headgate.server.bodies import BytesResponse, json_response
from headgate.server.features import REFERENCE
from headgate.server.guard import needs

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["operations_router"]


def operations_router(context: Context, app: FastAPI) -> APIRouter:
    """The routes outside ``/api/v1``."""
    router = APIRouter(tags=["operations"])
    _add_health(router, context)
    _add_prometheus(router, context)
    _add_reference(router, context, app)
    return router


def _add_health(router: APIRouter, context: Context) -> None:
    health = schemas.ref("Health")

    @router.get("/healthz", responses={200: schemas.json_of(health, "The service runs.")})
    async def healthz() -> Response:
        """Does the service run at all?"""
        return json_response(b'{"status":"ok"}')

    ready = schemas.json_of(health, "It takes requests.")
    not_ready = schemas.problem("It is about to stop, or has not read its configuration yet.")

    @router.get("/readyz", responses={200: ready, 503: not_ready})
    async def readyz() -> Response:
        """Should the service be sent requests?

        Stores and other nodes play no part in this: decisions go on without them. What they are up to is
        told beside it.
        """
        if context.draining:
            message = "the service is about to stop; send requests to another one"
            raise ShuttingDown(message)
        if not context.cluster.is_configured:
            message = "the configuration was not read yet; send requests to another node"
            raise StoreUnavailable(message)
        ready: dict[str, object] = {"status": "ready"}
        if context.cluster.is_clustered:
            ready["cluster"] = context.cluster.summary()
        return json_response(msgspec.json.encode(ready))


def _add_prometheus(router: APIRouter, context: Context) -> None:
    text = {
        "description": "The metrics.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }

    @router.get(
        "/metrics",
        dependencies=[Depends(needs(context, "read"))],
        response_class=Response,
        responses={200: text, **schemas.errors(401, 403)},
    )
    async def prometheus_metrics() -> Response:
        """The service's counters in the text format of Prometheus."""
        from headgate.server.prometheus import (  # noqa: PLC0415 - 100 ms that no start has to wait for
            CONTENT_TYPE,
            exposition,
        )

        if context.station is None:
            body = exposition(context)
        else:
            from headgate.server.node_metrics import node_exposition  # noqa: PLC0415 - likewise

            body = await node_exposition(context)
        length = b"%d" % len(body)
        return BytesResponse(
            200, [(b"content-type", CONTENT_TYPE), (b"content-length", length)], body
        )


def _add_reference(router: APIRouter, context: Context, app: FastAPI) -> None:
    @router.get("/openapi.json", include_in_schema=False)
    @context.features.feature(REFERENCE)
    async def openapi() -> Response:
        return json_response(msgspec.json.encode(app.openapi(), enc_hook=str))

    @router.get("/docs", include_in_schema=False)
    @context.features.feature(REFERENCE)
    async def docs() -> Response:
        from headgate.server.docs_page import SECURITY_POLICY, docs_page  # noqa: PLC0415 - rare

        document: dict[str, Any] = app.openapi()
        body = docs_page(document)
        fields = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"content-security-policy", SECURITY_POLICY),
        ]
        return BytesResponse(200, fields, body)
