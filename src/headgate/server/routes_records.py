"""Read-outs: the metrics of a key, and of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from headgate.server import schemas
from headgate.server.bodies import json_response
from headgate.server.guard import needs
from headgate.server.key_usage import key_usage
from headgate.server.records import records

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["records_router"]

Key = Annotated[str | None, Query(description="Whose usage to read.", min_length=1)]


def records_router(context: Context) -> APIRouter:
    """The route ``/metrics``."""
    router = APIRouter(prefix="/api/v1", tags=["records"])
    _add_metrics(router, context)
    return router


def _add_metrics(router: APIRouter, context: Context) -> None:
    answer = schemas.json_of(schemas.ref("Metrics"), "The counters.")

    @router.get(
        "/metrics",
        dependencies=[Depends(needs(context, "read"))],
        responses={200: answer, **schemas.errors(401, 403, 422)},
    )
    async def read_metrics(key: Key = None) -> Response:
        """What a key has spent and has left; without a key, the counters of the service.

        Limits that count by other dimensions than the key are found by the metadata that the key was last
        seen with. Reading spends nothing.
        """
        document = await _records(context)
        if key is not None:
            usage = await key_usage(context, key)
            document = {"totals": document["totals"], "key": key, "usage": usage}
        return json_response(msgspec.json.encode(document))


async def _records(context: Context) -> dict[str, Any]:
    """The counters of the service, all its workers taken together."""
    if context.station is None:
        return records(context)
    from headgate.server.node_metrics import node_report  # noqa: PLC0415 - as for Prometheus

    counters: dict[str, Any] = (await node_report(context))["records"]
    return counters
