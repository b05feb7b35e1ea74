"""Backpressure and features: how the service copes, and what it is told to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from headgate.priority import PRIORITIES
from headgate.server import schemas
from headgate.server.backpressure import FeatureChange, decode_backpressure
from headgate.server.bodies import json_response, read_json
from headgate.server.etags import etag_of
from headgate.server.guard import needs
from headgate.server.wire import decode

if TYPE_CHECKING:
    from headgate.gates.features import FeatureState
    from headgate.server.context import Context

__all__ = ["backpressure_router"]


def backpressure_router(context: Context) -> APIRouter:
    """The routes ``/backpressure`` and ``/features``."""
    router = APIRouter(prefix="/api/v1", tags=["backpressure"])
    _add_backpressure(router, context)
    _add_features(router, context)
    return router


def _add_backpressure(router: APIRouter, context: Context) -> None:
    desk = context.backpressure
    settings = schemas.ref("BackpressureSettings")
    kept = schemas.json_of(settings, "The settings.", "etag")
    in_force = schemas.json_of(schemas.ref("Backpressure"), "The settings, and how it stands.")

    @router.post(
        "/backpressure",
        dependencies=[Depends(needs(context, "admin"))],
        responses={200: kept, **schemas.errors(*schemas.READS, 503)},
        openapi_extra=schemas.body_of(settings),
    )
    async def set_backpressure(request: Request) -> Response:
        """Keep these settings of backpressure in place of those before, and go by them from now on."""
        document = decode_backpressure(await read_json(request, context.settings.max_body_bytes))
        stored = await desk.put(document)
        body = msgspec.json.encode(stored.document)
        return json_response(body, 200, [(b"etag", etag_of(stored.version))])

    @router.get(
        "/backpressure",
        dependencies=[Depends(needs(context, "read"))],
        responses={200: in_force, **schemas.errors(401, 403, 503)},
    )
    async def get_backpressure() -> Response:
        """The settings that were kept, if any, and as `in_force` what holds now."""
        stored = await desk.stored()
        document = {} if stored is None else dict(stored.document)
        fields = [] if stored is None else [(b"etag", etag_of(stored.version))]
        document["in_force"] = _in_force(context)
        return json_response(msgspec.json.encode(document), 200, fields)


def _in_force(context: Context) -> dict[str, Any]:
    overload, rules = context.service.overload, context.backpressure.rules
    report = context.pressure.report
    circuit = context.store.breaker.report()
    cluster = context.pressure.cluster_members()
    return {
        "pressure": round(overload.pressure, 4),
        "own": round(context.pressure.own, 4),
        "cause": "" if report is None else report.cause,
        "admitted": round(context.pressure.admitted, 4),
        "load_threshold": rules.load_threshold,
        "shedding_rate": rules.shedding_rate,
        "multipliers": _by_priority(rules.multipliers),
        "shedding": _by_priority([round(part, 4) for part in overload.parts()]),
        "shed": _by_priority(overload.shed),
        "breakers": {
            "store": {
                "state": circuit.state.value,
                "failure_threshold": rules.failure_threshold,
                "recovery_threshold": rules.recovery_threshold,
                "timeout": rules.timeout,
            }
        },
        "adaptive": {
            name: round(factor, 4) for name, factor in context.service.engine.factors().items()
        },
        **({} if cluster is None else {"cluster": cluster}),
    }


def _by_priority(values: Any) -> dict[str, Any]:
    return dict(zip(PRIORITIES, values, strict=True))


def _add_features(router: APIRouter, context: Context) -> None:
    features = context.features
    one = schemas.json_of(schemas.ref("Feature"), "The feature.")
    several = schemas.json_of(schemas.ref("Features"), "All features.")

    @router.get(
        "/features",
        dependencies=[Depends(needs(context, "read"))],
        responses={200: several, **schemas.errors(401, 403)},
    )
    async def list_features() -> Response:
        """What the service leaves out under pressure, and whether it does so now."""
        states = [_feature(state) for state in features.states()]
        return json_response(msgspec.json.encode({"features": states}))

    @router.get(
        "/features/{name}",
        dependencies=[Depends(needs(context, "read"))],
        responses={200: one, **schemas.errors(401, 403, 404, 422)},
    )
    async def get_feature(name: str) -> Response:
        """One feature."""
        return json_response(msgspec.json.encode(_feature(features.state(name))))

    @router.put(
        "/features/{name}",
        dependencies=[Depends(needs(context, "admin"))],
        responses={200: one, **schemas.errors(*schemas.READS, 404)},
        openapi_extra=schemas.body_of(schemas.ref("FeatureChange")),
    )
    async def force_feature(name: str, request: Request) -> Response:
        """Switch a feature on or off by hand, until it is left to the pressure again or the service ends."""
        body = await read_json(request, context.settings.max_check_bytes)
        features.force(name, decode(FeatureChange, body).forced)
        return json_response(msgspec.json.encode(_feature(features.state(name))))


def _feature(state: FeatureState) -> dict[str, Any]:
    return {
        "name": state.name,
        "on": state.on,
        "forced": state.forced,
        "off_at": state.off_at,
        "on_below": round(state.on_below, 4),
        "pressure": round(state.pressure, 4),
    }
