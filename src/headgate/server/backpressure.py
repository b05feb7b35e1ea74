"""The settings of backpressure, as REST takes them: kept and readable now, acted on later."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from headgate.errors import InvalidInput
from headgate.rate import parse_window
from headgate.server.wire import decode

__all__ = ["BACKPRESSURE", "BackpressureSettings", "decode_backpressure"]

BACKPRESSURE: Final = "backpressure"
"""The name of the document in the store of settings."""

Share = Annotated[float, Meta(ge=0, le=1)]
Threshold = Annotated[int, Meta(ge=1, le=1_000_000)]
Duration = Annotated[
    str, Meta(pattern="^([1-9][0-9]{0,5})(ms|s|m|h)$", description="Such as 500ms, 30s, 5m.")
]


class CircuitBreakerSettings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """When a circuit opens, and when it closes again."""

    failure_threshold: Threshold | UnsetType = UNSET
    recovery_threshold: Threshold | UnsetType = UNSET
    timeout: Duration | UnsetType = UNSET


class PriorityLevel(Struct, forbid_unknown_fields=True):
    """How much of a level's work is shed, as a part of the shedding rate."""

    level: Annotated[int, Meta(ge=1, le=100)]
    multiplier: Share


class LoadSheddingSettings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How much is shed, and of what."""

    shedding_rate: Share | UnsetType = UNSET
    priority_levels: Annotated[list[PriorityLevel], Meta(max_length=100)] | UnsetType = UNSET


class BackpressureSettings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """From which load on, and how, the service pushes back."""

    load_threshold: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    circuit_breaker: CircuitBreakerSettings | UnsetType = UNSET
    load_shedding: LoadSheddingSettings | UnsetType = UNSET


def decode_backpressure(body: bytes) -> dict[str, Any]:
    """The document, valid and plain; for errors see `headgate.server.wire.decode`."""
    settings = decode(BackpressureSettings, body)
    breaker = settings.circuit_breaker
    if isinstance(breaker, CircuitBreakerSettings) and isinstance(breaker.timeout, str):
        parse_window(breaker.timeout)
    shedding = settings.load_shedding
    if isinstance(shedding, LoadSheddingSettings) and shedding.priority_levels is not UNSET:
        _require_distinct(shedding.priority_levels)
    document: dict[str, Any] = msgspec.to_builtins(settings)
    return document


def _require_distinct(levels: object) -> None:
    numbers = [level.level for level in levels] if isinstance(levels, list) else []
    if len(set(numbers)) != len(numbers):
        field = "load_shedding.priority_levels"
        message = f"{field}: each level stands once, got {numbers}; leave one of the equal ones out"
        raise InvalidInput(message, field=field)
