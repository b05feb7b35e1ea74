"""Policies: create, read, replace, delete, list, apply."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response

from headgate.errors import InvalidInput
from headgate.server import schemas
from headgate.server.bodies import BytesResponse, json_response, read_json
from headgate.server.etags import etag_of, names_version, versions_in
from headgate.server.guard import actor_of, needs
from headgate.server.wire import decode_document

if TYPE_CHECKING:
    from headgate.engine.ports import StoredPolicy
    from headgate.server.context import Context

__all__ = ["policies_router"]

# The patterns are for the reference only; `headgate.server.etags` reads the fields, and words the errors.
_TAGS: dict[str, Any] = {
    "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$',
}
IfMatch = Annotated[
    str | None,
    Header(description="Change it only at one of these versions.", json_schema_extra=_TAGS),
]
IfNoneMatch = Annotated[
    str | None, Header(description="Versions that are known already.", json_schema_extra=_TAGS)
]
OnlyNew = Annotated[
    str | None, Header(description="* to replace nothing.", json_schema_extra={"pattern": r"^\*$"})
]
_PATH = "/policies/{name}"
_POLICY = schemas.ref("Policy")
_TAGGED = ("etag",)


def policies_router(context: Context) -> APIRouter:
    """The routes under ``/policies``."""
    router = APIRouter(prefix="/api/v1", tags=["policies"])
    _add_reading(router, context)
    _add_creating(router, context)
    _add_changing(router, context)
    return router


def _add_reading(router: APIRouter, context: Context) -> None:
    policies = context.policies
    may = [Depends(needs(context, "read"))]
    found: schemas.Responses = {
        304: {"description": "It is what If-None-Match names."},
        **schemas.errors(400, 401, 403, 422, 503),
    }
    listed = schemas.json_of(schemas.ref("Policies"), "All policies.", *_TAGGED)

    @router.get("/policies", dependencies=may, responses={200: listed, **found})
    async def list_policies(if_none_match: IfNoneMatch = None) -> Response:
        """All policies, in the order of their names."""
        stored = await policies.list()
        digest = sha256(repr([(one.policy.name, one.version) for one in stored]).encode())
        tag = digest.hexdigest()[:32]
        if names_version(if_none_match, tag):
            return BytesResponse(304, [(b"etag", etag_of(tag))])
        body = msgspec.json.encode({"policies": [one.policy.to_dict() for one in stored]})
        return json_response(body, 200, [(b"etag", etag_of(tag))])

    one = schemas.json_of(_POLICY, "The policy.", *_TAGGED)

    @router.get(_PATH, dependencies=may, responses={200: one, **found, **schemas.errors(404)})
    async def get_policy(name: str, if_none_match: IfNoneMatch = None) -> Response:
        """One policy."""
        stored = await policies.get(name)
        if names_version(if_none_match, stored.version):
            return BytesResponse(304, [(b"etag", etag_of(stored.version))])
        return _policy_response(stored)


def _add_creating(router: APIRouter, context: Context) -> None:
    policies = context.policies
    limit = context.settings.max_body_bytes
    may = [Depends(needs(context, "admin"))]
    created = schemas.json_of(_POLICY, "It was created.", "etag", "location")

    @router.post(
        "/policies",
        status_code=201,
        dependencies=may,
        responses={201: created, **schemas.errors(*schemas.READS, 409, 503)},
        openapi_extra=schemas.body_of(_POLICY),
    )
    async def create_policy(request: Request) -> Response:
        """Add a policy. It is in force when the answer comes."""
        document = decode_document(await read_json(request, limit))
        return _policy_response(await policies.create(document, actor_of(request)), 201)

    applied = schemas.json_of(schemas.ref("Applied"), "All are in force.")

    @router.post(
        "/policies:apply",
        dependencies=may,
        responses={200: applied, **schemas.errors(*schemas.READS, 503)},
        openapi_extra=schemas.body_of(schemas.ref("Policies")),
    )
    async def apply_policies(request: Request) -> Response:
        """Create or replace these policies, all or none; the others stay as they are."""
        document = decode_document(await read_json(request, limit))
        stored = await policies.apply(_documents(document), actor_of(request))
        named = [{"name": one.policy.name, "version": one.version} for one in stored]
        return json_response(msgspec.json.encode({"policies": named}))


def _add_changing(router: APIRouter, context: Context) -> None:
    policies = context.policies
    limit = context.settings.max_body_bytes
    may = [Depends(needs(context, "admin"))]
    replaced = schemas.json_of(_POLICY, "It was replaced.", *_TAGGED)
    created = schemas.json_of(_POLICY, "It was created.", "etag", "location")

    @router.put(
        _PATH,
        dependencies=may,
        responses={200: replaced, 201: created, **schemas.errors(*schemas.READS, 412, 503)},
        openapi_extra=schemas.body_of(_POLICY),
    )
    async def put_policy(
        request: Request,
        name: str,
        if_match: IfMatch = None,
        if_none_match: OnlyNew = None,
    ) -> Response:
        """Replace a policy, or create it. Keys keep what they have spent."""
        document = decode_document(await read_json(request, limit))
        stored, is_new = await policies.put(
            name,
            document,
            actor_of(request),
            versions=versions_in(if_match),
            only_new=_only_new(if_none_match),
        )
        return _policy_response(stored, 201 if is_new else 200)

    @router.delete(
        _PATH,
        status_code=204,
        dependencies=may,
        responses=schemas.errors(400, 401, 403, 404, 412, 422, 503),
    )
    async def delete_policy(request: Request, name: str, if_match: IfMatch = None) -> Response:
        """Take a policy out of force."""
        await policies.delete(name, actor_of(request), versions=versions_in(if_match))
        return BytesResponse(204, [])


def _policy_response(stored: StoredPolicy, status: int = 200) -> Response:
    fields = [(b"etag", etag_of(stored.version))]
    if status == 201:
        fields.append((b"location", f"/api/v1/policies/{stored.policy.name}".encode("ascii")))
    return json_response(msgspec.json.encode(stored.policy.to_dict()), status, fields)


def _documents(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The list in the body of apply."""
    documents = body.get("policies")
    if set(body) != {"policies"} or not isinstance(documents, list):
        message = 'the body must be {"policies": [...]} and nothing else'
        raise InvalidInput(message, field="policies")
    return documents


def _only_new(if_none_match: str | None) -> bool:
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*":
        message = "with PUT, If-None-Match takes * only: create it, replace nothing"
        raise InvalidInput(message, field="if-none-match")
    return True
