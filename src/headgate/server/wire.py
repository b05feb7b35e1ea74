"""What comes in: the bodies of requests, decoded strictly.

A number in the place of a text, a fraction in the place of a whole number, an unknown field: each is
refused with its place in the body, and nothing is guessed. The structs are also the source of the schemas
that OpenAPI shows, so the two cannot drift apart.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from headgate.errors import BatchTooLarge, InvalidInput, MalformedRequest
from headgate.priority import PRIORITIES, TIERS
from headgate.rate import MAX_LIMIT

__all__ = [
    "MAX_BATCH",
    "MAX_METADATA",
    "BatchRequest",
    "CheckRequest",
    "CommitRequest",
    "RefundRequest",
    "ReleaseRequest",
    "ReserveRequest",
    "decode",
    "decode_batch",
    "decode_check",
    "decode_document",
]

T = TypeVar("T")

MAX_BATCH: Final = 1_000
MAX_METADATA: Final = 64
"""The most entries that ``metadata`` may have."""

Key = Annotated[
    str,
    Meta(description="Who asks; the dimension `key`.", extra_json_schema={"minLength": 1}),
]
Tokens = Annotated[
    int, Meta(ge=0, le=MAX_LIMIT, description="What the request costs; 0 asks only.")
]
SomeTokens = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
Metadata = Annotated[
    dict[str, str],
    Meta(
        description="Dimension -> value: what else policies may count and match by.",
        extra_json_schema={
            "maxProperties": MAX_METADATA,
            # The dimension "key" has a field of its own.
            "propertyNames": {"minLength": 1, "not": {"const": "key"}},
        },
    ),
]
Priority = Annotated[
    Literal["critical", "high", "normal", "low", 0, 1, 2, 3],
    Meta(
        description="Who goes first when not all can, by name or tier; left out: as policies say."
    ),
]
ReservationId = Annotated[str, Meta(min_length=1, max_length=64)]


class CheckRequest(Struct, forbid_unknown_fields=True, gc=False):
    """May this request pass?"""

    key: Key | None = None
    tokens: Tokens = 1
    metadata: Metadata = {}
    priority: Priority | None = None


class RefundRequest(Struct, forbid_unknown_fields=True, gc=False):
    """Give back what a check spent."""

    key: Key | None = None
    tokens: SomeTokens = 1
    metadata: Metadata = {}


class ReserveRequest(Struct, forbid_unknown_fields=True, gc=False):
    """Set cost aside until it is known."""

    key: Key | None = None
    tokens: Tokens = 1
    metadata: Metadata = {}
    ttl: Annotated[
        float, Meta(ge=0.001, le=86_400, description="Seconds after which it is released.")
    ] = 60.0
    priority: Priority | None = None


class CommitRequest(Struct, forbid_unknown_fields=True):
    """Settle a reservation at its real cost."""

    reservation: ReservationId
    tokens: (
        Annotated[
            int, Meta(ge=0, le=MAX_LIMIT, description="The real cost; left out: as reserved.")
        ]
        | None
    ) = None


class ReleaseRequest(Struct, forbid_unknown_fields=True):
    """Give a whole reservation back."""

    reservation: ReservationId


class BatchRequest(Struct, forbid_unknown_fields=True, gc=False):
    """Up to 1,000 checks, each for itself."""

    checks: Annotated[list[CheckRequest], Meta(extra_json_schema={"maxItems": MAX_BATCH})]


_check_decoder: Final = msgspec.json.Decoder(CheckRequest)
_batch_decoder: Final = msgspec.json.Decoder(BatchRequest)
_document_decoder: Final = msgspec.json.Decoder(dict[str, Any])
_decoders: Final[dict[type, msgspec.json.Decoder[Any]]] = {}

decode_check = _check_decoder.decode
"""A check, or an error of msgspec's: the lane asks no more than whether there is one."""


def decode(shape: type[T], body: bytes) -> T:
    """A body of this shape.

    Raises:
        MalformedRequest: it is not JSON in UTF-8.
        InvalidInput: it is, and does not have the shape; the context's ``field`` says where.
    """
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.json.Decoder(shape)
    decoded: T = _decode(decoder, body)
    return decoded


def decode_batch(body: bytes) -> list[CheckRequest]:
    """The checks of a batch; for errors see `decode`.

    Raises:
        BatchTooLarge: there are too many.
    """
    checks: list[CheckRequest] = _decode(_batch_decoder, body).checks
    if len(checks) > MAX_BATCH:
        message = (
            f"a batch holds at most {MAX_BATCH} checks, got {len(checks)}; send several batches"
        )
        raise BatchTooLarge(message, field="checks", max_checks=MAX_BATCH)
    return checks


def decode_document(body: bytes) -> dict[str, Any]:
    """An object of any shape; for errors see `decode`."""
    document: dict[str, Any] = _whole_numbers(_decode(_document_decoder, body))
    return document


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if "got `float`" in str(error):
            return _decode_whole_floats(decoder.type, body, str(error))
        raise _not_of_the_shape(str(error), decoder.type) from None
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8: {error.reason}; send JSON in UTF-8"
        raise MalformedRequest(message) from None
    except RecursionError:
        message = "the body is nested too deeply; send the flat object that the reference shows"
        raise MalformedRequest(message) from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        message = f"the body is not JSON: {reason}; send a JSON object"
        raise MalformedRequest(message) from None


def _decode_whole_floats(shape: Any, body: bytes, reason: str) -> Any:
    """The same once more, for JSON that writes 1 as 1.0: to JSON the two are one number."""
    try:
        return msgspec.convert(_whole_numbers(msgspec.json.decode(body)), shape)
    except msgspec.ValidationError as error:
        raise _not_of_the_shape(str(error), shape) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_of_the_shape(reason, shape) from None


def _whole_numbers(value: Any) -> Any:
    """Plain JSON with every fraction that is whole as a whole number."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    return value


_PLACE: Final = re.compile(r" - at `\$?\.?([^`]*)`$")
_INDEX: Final = re.compile(r"\[(\d+|\.\.\.)\]")
# A priority is the only thing in a body that is one of a list.
_NOT_LISTED: Final = "Invalid enum value"


def _not_of_the_shape(reason: str, shape: object) -> InvalidInput:
    """Msgspec's complaint with its place, as ours."""
    place = _PLACE.search(reason)
    reason = _PLACE.sub("", reason).replace("`", "'")
    path = place[1] if place else ""
    numbers = _INDEX.findall(path)
    field = _INDEX.sub(lambda match: "" if match[1] == "..." else f".{match[1]}", path).strip(".")
    if "unknown field" in reason and isinstance(shape, type) and not field:
        reason += f"; known are {', '.join(getattr(shape, '__struct_fields__', ()))}"
    if reason.startswith(_NOT_LISTED):
        got = reason.removeprefix(_NOT_LISTED)[:100]
        reason = (
            f"must be one of {', '.join(PRIORITIES)}, or a tier from 0 to {TIERS - 1}, got{got}"
        )
    context: dict[str, object] = {"field": field} if field else {}
    if field.startswith("checks.") and numbers:
        context["index"] = int(numbers[0])
    return InvalidInput(f"{field}: {reason}" if field else reason, **context)
