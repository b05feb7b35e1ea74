"""The node among others: members, leader, configuration, and who holds tokens of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from headgate.server import schemas
from headgate.server.bodies import json_response
from headgate.server.cluster_view import (
    cluster_document,
    leader_document,
    members_document,
)
from headgate.server.guard import needs
from headgate.server.lease_view import leases_document

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["cluster_router"]

Key = Annotated[str, Query(description="Whose leases to read.", min_length=1)]
OfPolicy = Annotated[str | None, Query(description="Of this policy only.", min_length=1)]


def cluster_router(context: Context) -> APIRouter:
    """The routes under ``/cluster``."""
    router = APIRouter(
        prefix="/api/v1", tags=["cluster"], dependencies=[Depends(needs(context, "read"))]
    )
    _add_members(router, context)
    _add_leases(router, context)
    return router


def _add_members(router: APIRouter, context: Context) -> None:
    whole = schemas.json_of(schemas.ref("Cluster"), "As this node sees it.")
    members = schemas.json_of(schemas.ref("Members"), "The live ones, in the order of their names.")
    leader = schemas.json_of(schemas.ref("Leader"), "As last known.")

    @router.get("/cluster", responses={200: whole, **schemas.errors(401, 403)})
    async def read_cluster() -> Response:
        """How the nodes stand: members, leader, configuration, shared counters."""
        return json_response(msgspec.json.encode(await cluster_document(context)))

    @router.get("/cluster/members", responses={200: members, **schemas.errors(401, 403)})
    async def read_members() -> Response:
        """Who is there, and which configuration each has in force."""
        return json_response(msgspec.json.encode({"members": await members_document(context)}))

    @router.get("/cluster/leader", responses={200: leader, **schemas.errors(401, 403)})
    async def read_leader() -> Response:
        """Who does what one node has to do for all; "" for nobody."""
        return json_response(msgspec.json.encode(leader_document(context)))


def _add_leases(router: APIRouter, context: Context) -> None:
    leases = schemas.json_of(schemas.ref("Leases"), "For each shared limit of the key.")

    @router.get("/cluster/leases", responses={200: leases, **schemas.errors(401, 403, 422, 503)})
    async def read_leases(key: Key, policy: OfPolicy = None) -> Response:
        """Who holds tokens of a key, drawn ahead and unspent, and the most that can be held.

        It is looked up under every shared limit; under those that count by other dimensions than the key, by
        the metadata that this node last saw it with. Limits of which it has spent nothing are left out.
        """
        return json_response(msgspec.json.encode(await leases_document(context, key, policy)))
