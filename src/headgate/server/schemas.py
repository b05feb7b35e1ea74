"""What OpenAPI says about each route: its body, its answers, its errors."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

__all__ = [
    "asks",
    "asks_batch",
    "body_of",
    "components",
    "errors",
    "json_of",
    "ref",
]

Json = dict[str, Any]
Responses = dict[int | str, Json]

DECISION_FIELDS: Final = (
    "ratelimit-policy",
    "ratelimit",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-headgate-degraded",
)
READS: Final = (400, 401, 403, 413, 415, 422)
"""What can be wrong with any request that has a body."""
_ERRORS: Final = {
    400: "The request could not be read.",
    401: "A token is needed, or the one given is not valid.",
    403: "The token lacks the scope.",
    404: "It does not exist.",
    409: "It exists already.",
    412: "A condition of the request does not hold.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The request could be read, and breaks a constraint.",
    429: "A limit is reached.",
    503: "The store does not answer, or too much is going on.",
}


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(schema: Json, description: str, *fields: str) -> Json:
    """An answer in JSON, with these header fields."""
    answer: Json = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if fields:
        answer["headers"] = {name: {"schema": {"type": "string"}} for name in fields}
    return answer


def errors(*statuses: int) -> Responses:
    """Answers that are problem details."""
    return {status: problem(_ERRORS[status]) for status in statuses}


def problem(description: str, schema: str = "Problem") -> Json:
    """One answer that is problem details."""
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": ref(schema)}},
    }


def body_of(schema: Json) -> Json:
    """A body in JSON that has to be there."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def asks(
    shape: type,
    *,
    refuses: bool = False,
    sheds: bool = False,
    reserves: bool = False,
    finds: bool = False,
) -> Json:
    """What a route says that takes this shape and answers with a decision."""
    answer = ref("Reservation" if reserves else "Decision")
    responses: Responses = {
        200: json_of(answer, "The answer.", *DECISION_FIELDS),
        **errors(*READS),
    }
    if refuses:
        responses[429] = problem(_ERRORS[429], "Refusal")
    if sheds:
        responses |= errors(503)
    if finds:
        responses |= errors(404)
    return {"responses": responses, "openapi_extra": body_of(ref(shape.__name__))}


def asks_batch() -> Json:
    """What the batch says."""
    answer = json_of(ref("BatchAnswer"), "The answers, in the order of the checks.")
    return {
        "responses": {200: answer, **errors(*READS)},
        "openapi_extra": body_of(ref("BatchRequest")),
    }


def components() -> Json:
    """All named schemas."""
    import msgspec  # noqa: PLC0415 - who never reads the reference never pays for it
    import yaml  # noqa: PLC0415

    from headgate.server import backpressure, wire  # noqa: PLC0415

    shapes = (
        wire.CheckRequest,
        wire.RefundRequest,
        wire.ReserveRequest,
        wire.CommitRequest,
        wire.ReleaseRequest,
        wire.BatchRequest,
        backpressure.BackpressureSettings,
        backpressure.FeatureChange,
    )
    template = "#/components/schemas/{name}"
    _, generated = msgspec.json.schema_components(shapes, ref_template=template)
    written = files("headgate.server").joinpath("openapi.yaml").read_text("utf-8")
    schemas = yaml.safe_load(written)
    return {**generated, **{name: schemas[name] for name in schemas if not name.startswith("x-")}}
