"""The settings of backpressure: as REST takes them, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from headgate.clock import NS_PER_SECOND
from headgate.errors import InvalidInput
from headgate.priority import TIERS
from headgate.rate import parse_window
from headgate.server.overload import MULTIPLIERS, SHEDDING_RATE, THRESHOLD
from headgate.server.wire import decode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = [
    "BACKPRESSURE",
    "BackpressureRules",
    "BackpressureSettings",
    "FeatureChange",
    "decode_backpressure",
]

BACKPRESSURE: Final = "backpressure"
"""The name of the document in the store of settings."""

_LEAST_TIMEOUT: Final = 0.1
_MOST_TIMEOUT: Final = 3600.0

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


class FeatureChange(Struct, forbid_unknown_fields=True):
    """Switch a feature by hand: on, off, or null for as the pressure says."""

    forced: bool | None


class BackpressureSettings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """From which load on, and how, the service pushes back."""

    load_threshold: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    circuit_breaker: CircuitBreakerSettings | UnsetType = UNSET
    load_shedding: LoadSheddingSettings | UnsetType = UNSET


def decode_backpressure(body: bytes) -> dict[str, Any]:
    """The document, valid and plain; for errors see `headgate.server.wire.decode`."""
    settings = decode(BackpressureSettings, body)
    shedding = settings.load_shedding
    if isinstance(shedding, LoadSheddingSettings) and shedding.priority_levels is not UNSET:
        _require_distinct(shedding.priority_levels)
    document: dict[str, Any] = msgspec.to_builtins(settings)
    BackpressureRules.of(document)  # says what is wrong between the lines
    return document


def _require_distinct(levels: object) -> None:
    numbers = [level.level for level in levels] if isinstance(levels, list) else []
    if len(set(numbers)) != len(numbers):
        field = "load_shedding.priority_levels"
        message = f"{field}: each level stands once, got {numbers}; leave one of the equal ones out"
        raise InvalidInput(message, field=field)


@dataclass(frozen=True, slots=True)
class BackpressureRules:
    """What a document of settings says, with what it leaves out filled in.

    Attributes:
        load_threshold: the pressure from which on work is shed; 1 is the limit.
        shedding_rate: how much more is shed every 100 ms, for each unit of pressure above the threshold.
        multipliers: for each tier, its part of that.
        failure_threshold: failures in a row after which the store is left alone.
        recovery_threshold: successes after which that is over.
        timeout: seconds that it is left alone at first.
    """

    load_threshold: float = THRESHOLD
    shedding_rate: float = SHEDDING_RATE
    multipliers: tuple[float, ...] = MULTIPLIERS
    failure_threshold: int = 5
    recovery_threshold: int = 1
    timeout: float = 5.0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The rules of a document that `decode_backpressure` took.

        Raises:
            InvalidInput: it is none after all; another version of Headgate may have kept it.
        """
        try:
            settings = msgspec.convert(document, BackpressureSettings)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"these are no settings of backpressure: {error}") from None
        values: dict[str, Any] = {"load_threshold": settings.load_threshold}
        if isinstance(settings.load_shedding, LoadSheddingSettings):
            shedding = settings.load_shedding
            values["shedding_rate"] = shedding.shedding_rate
            if isinstance(shedding.priority_levels, list) and shedding.priority_levels:
                values["multipliers"] = _multipliers(shedding.priority_levels)
        if isinstance(settings.circuit_breaker, CircuitBreakerSettings):
            breaker = settings.circuit_breaker
            values["failure_threshold"] = breaker.failure_threshold
            values["recovery_threshold"] = breaker.recovery_threshold
            values["timeout"] = breaker.timeout
            if isinstance(breaker.timeout, str):
                values["timeout"] = _seconds_of(breaker.timeout)
        return cls(**{name: value for name, value in values.items() if value is not UNSET})


def _multipliers(levels: list[PriorityLevel]) -> tuple[float, ...]:
    """Level 1 is the tier critical, and so on. A level that is missing takes the one before it."""
    given = {level.level: level.multiplier for level in levels}
    multiplier = given[min(given)]
    found = []
    for tier in range(TIERS):
        multiplier = given.get(tier + 1, multiplier)
        found.append(multiplier)
    return tuple(found)


def _seconds_of(timeout: str) -> float:
    window_ns, _ = parse_window(timeout)
    seconds = window_ns / NS_PER_SECOND
    if not _LEAST_TIMEOUT <= seconds <= _MOST_TIMEOUT:
        field = "circuit_breaker.timeout"
        message = (
            f"{field} must be from {_LEAST_TIMEOUT:g} s to {_MOST_TIMEOUT:g} s, got {timeout}; "
            "a store that is left alone for longer is not noticed when it is back"
        )
        raise InvalidInput(message, field=field)
    return seconds
