"""What an `AdaptiveLimiter` is made from, and what can be read off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.aimd_limit import AimdLimit
from headgate.backpressure.concurrency_limit import (
    DEFAULT_LEAST,
    DEFAULT_MOST,
    ConcurrencyLimit,
    FixedLimit,
)
from headgate.backpressure.gradient_limit import GradientLimit
from headgate.backpressure.vegas_limit import VegasLimit
from headgate.errors import InvalidInput
from headgate.inputs import shown, whole_number

if TYPE_CHECKING:
    from typing import SupportsIndex

__all__ = ["LimiterStats", "drop_types", "make_rule"]

DEFAULT_INITIAL: Final = 16


@final
class LimiterStats:
    """How things stand with an `AdaptiveLimiter`.

    Attributes:
        limit: calls that may be in flight.
        in_flight: those that are.
        waiting: callers that wait for a permit.
        admitted: permits given out so far.
        refused: callers turned away so far, or gone before they had one.
        dropped: calls that ended as dropped so far.
        expired: permits that nobody ended within the lease, so far.
        baseline: seconds that a call takes when nothing waits; 0.0 when that is not known.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a reading has so many parts
        self,
        limit: int,
        in_flight: int,
        waiting: int,
        admitted: int,
        refused: int,
        dropped: int,
        expired: int,
        baseline: float,
    ) -> None:
        self.limit = limit
        self.in_flight = in_flight
        self.waiting = waiting
        self.admitted = admitted
        self.refused = refused
        self.dropped = dropped
        self.expired = expired
        self.baseline = baseline

    def __repr__(self) -> str:
        return (
            f"LimiterStats(limit={self.limit}, in_flight={self.in_flight}, waiting={self.waiting}, "
            f"admitted={self.admitted}, refused={self.refused}, dropped={self.dropped}, "
            f"expired={self.expired}, baseline={self.baseline:g})"
        )


def make_rule(
    algorithm: object,
    initial: SupportsIndex | None,
    least: SupportsIndex | None,
    most: SupportsIndex | None,
) -> ConcurrencyLimit:
    """The rule of that name, or the one that was made by hand.

    Raises:
        InvalidInput: there is none of that name, or its bounds make no sense.
    """
    if isinstance(algorithm, ConcurrencyLimit):
        if initial is not None or least is not None or most is not None:
            raise InvalidInput(
                "a rule made by hand has its own initial, min and max; leave them out"
            )
        return algorithm
    begin = DEFAULT_INITIAL if initial is None else initial
    start = whole_number(begin)
    low = (min(DEFAULT_LEAST, start or 1)) if least is None else least
    high = (max(DEFAULT_MOST, start or 1)) if most is None else most
    if algorithm == "gradient":
        return GradientLimit(begin, low, high)
    if algorithm == "vegas":
        return VegasLimit(begin, low, high)
    if algorithm == "aimd":
        return AimdLimit(begin, low, high)
    if algorithm == "fixed":
        return FixedLimit(begin, low, high)
    raise InvalidInput(
        f"algorithm must be gradient, vegas, aimd, fixed or a rule, got {shown(algorithm)}"
    )


def drop_types(drops: object) -> tuple[type[BaseException], ...]:
    """The exceptions that mean that the callee has too much to do.

    Raises:
        InvalidInput: they are no exceptions.
    """
    kinds = drops if isinstance(drops, tuple) else (drops,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise InvalidInput(f"drops must be exception types, got {shown(drops)}")
    return kinds
