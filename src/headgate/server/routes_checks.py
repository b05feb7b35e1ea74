"""Asking: check, check:batch, peek, refund, reserve, commit, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, Request, Response

from headgate.server import schemas
from headgate.server.bodies import json_response, read_json, tail_response
from headgate.server.guard import needs
from headgate.server.settling import settled, settled_or_raise
from headgate.server.wire import (
    CheckRequest,
    CommitRequest,
    RefundRequest,
    ReleaseRequest,
    ReserveRequest,
    decode,
    decode_batch,
)

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["checks_router"]


def checks_router(context: Context) -> APIRouter:
    """The routes of the scope ``check``."""
    router = APIRouter(
        prefix="/api/v1", tags=["checks"], dependencies=[Depends(needs(context, "check"))]
    )
    _add_questions(router, context)
    _add_batch(router, context)
    _add_reservations(router, context)
    return router


def _add_questions(router: APIRouter, context: Context) -> None:
    service, renderer = context.service, context.renderer
    limit = context.settings.max_check_bytes

    @router.post("/check", **schemas.asks(CheckRequest, refuses=True, sheds=True))
    async def check(request: Request) -> Response:
        """May this request pass? If it may, its cost is spent."""
        body = await read_json(request, limit)
        asked = decode(CheckRequest, body)
        outcome = service.check(asked.key, asked.tokens, asked.metadata, len(body), asked.priority)
        decision = await settled(outcome)
        return tail_response(200 if decision.allowed else 429, renderer.check(decision))

    @router.post("/peek", **schemas.asks(CheckRequest, sheds=True))
    async def peek(request: Request) -> Response:
        """What would check answer? Nothing is spent, and a no is not refused with 429."""
        asked = decode(CheckRequest, await read_json(request, limit))
        outcome = service.peek(asked.key, asked.tokens, asked.metadata, asked.priority)
        decision = await settled(outcome)
        return tail_response(200, renderer.answer(decision))

    @router.post("/refund", **schemas.asks(RefundRequest))
    async def refund(request: Request) -> Response:
        """Give back what a check spent; never more than the full allowance."""
        asked = decode(RefundRequest, await read_json(request, limit))
        decision = await settled(service.refund(asked.key, asked.tokens, asked.metadata))
        return tail_response(200, renderer.answer(decision))


def _add_batch(router: APIRouter, context: Context) -> None:
    service, renderer = context.service, context.renderer
    limit = context.settings.max_body_bytes

    @router.post("/check:batch", **schemas.asks_batch())
    async def check_batch(request: Request) -> Response:
        """Up to 1,000 checks, each for itself, answered in order.

        When one of them is not valid, none is decided and nothing is spent.
        """
        outcomes = service.check_all(decode_batch(await read_json(request, limit)))
        decisions = [await settled(outcome) for outcome in outcomes]
        return json_response(renderer.results(decisions))


def _add_reservations(router: APIRouter, context: Context) -> None:
    service, renderer = context.service, context.renderer
    limit = context.settings.max_check_bytes

    @router.post(
        "/reserve", **schemas.asks(ReserveRequest, refuses=True, sheds=True, reserves=True)
    )
    async def reserve(request: Request) -> Response:
        """Set cost aside until it is committed, released, or the time is over."""
        asked = decode(ReserveRequest, await read_json(request, limit))
        held = await settled(
            service.reserve(asked.key, asked.tokens, asked.metadata, asked.ttl, asked.priority)
        )
        extra = f',"reservation":"{held.id}","expires_in":{asked.ttl}'
        status = 200 if held.decision.allowed else 429
        return tail_response(status, renderer.granted(held.decision, extra))

    @router.post("/commit", **schemas.asks(CommitRequest, finds=True))
    async def commit(request: Request) -> Response:
        """Settle a reservation at its real cost; the rest is given back."""
        asked = decode(CommitRequest, await read_json(request, limit))
        decision = await settled_or_raise(service.commit(asked.reservation, asked.tokens))
        return tail_response(200, renderer.answer(decision))

    @router.post("/release", **schemas.asks(ReleaseRequest, finds=True))
    async def release(request: Request) -> Response:
        """Give a whole reservation back."""
        asked = decode(ReleaseRequest, await read_json(request, limit))
        decision = await settled_or_raise(service.release(asked.reservation))
        return tail_response(200, renderer.answer(decision))
