"""How fast a limit should run, by how the system copes (A6).

The answer is a factor of the configured rate, from 1/4 to 2. It is looked at again every 250 ms; a look that
comes sooner changes nothing. Pressure is 1 at the limit of what the system can do
(`headgate.backpressure.pressure`). *Used* says whether at least half of the present rate was asked for:
what nobody asks for does not grow, or it would be far too much when everybody comes back.

`AimdRate` gives way quickly and comes back slowly::

    p >= 1                   R = R * clamp(1/p, 0.5, 0.9)
    p < 0.8 and used         R = R + 0.025 * (the highest R so far)

`StepwiseRate` goes the same part up or down, around a threshold of the pressure::

    p > threshold            R = R * (1 - adjustment)
    else, when used          R = R * (1 + adjustment)

AIMD is right for most: several that share what is behind them come to equal parts of it, and it holds still
between 0.8 and 1. Stepwise is for a threshold that means something of its own.

A pressure that is no number counts for nothing, and one below zero as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.errors import InvalidInput
from headgate.inputs import shown

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = [
    "DEFAULT_ADJUSTMENT",
    "DEFAULT_THRESHOLD",
    "LEAST_FACTOR",
    "MOST_FACTOR",
    "PERIOD_NS",
    "RULES",
    "AdaptiveRule",
    "AimdRate",
    "StepwiseRate",
    "make_rate_rule",
]

PERIOD_NS: Final = 250_000_000
LEAST_FACTOR: Final = 0.25
MOST_FACTOR: Final = 2.0
DEFAULT_THRESHOLD: Final = 0.8
DEFAULT_ADJUSTMENT: Final = 0.1
RULES: Final = ("aimd", "stepwise")

_CALM: Final = 0.8
_STEP: Final = 0.025
_LEAST_CUT: Final = 0.5
_MOST_CUT: Final = 0.9


class AdaptiveRule:
    """One rule, with the factor that it has come to.

    Attributes:
        factor: times the configured rate; 1.0 at the start.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._started = False
        self._looked_at: i64 = 0

    def is_due(self, now: i64) -> bool:
        """Whether the next look is due; so it is after a clock went back."""
        return not self._started or now - self._looked_at >= PERIOD_NS or now < self._looked_at

    def update(self, pressure: float, used: bool, now: i64) -> float:  # noqa: FBT001 - two inputs and the time
        """Look at how things stand; the factor from now on.

        Args:
            pressure: 0 idle, 1 at the limit.
            used: whether at least half of the present rate was asked for since the last look.
            now: nanoseconds.
        """
        if pressure != pressure or not self.is_due(now):  # noqa: PLR0124 - only NaN differs from itself
            return self.factor
        self._started = True
        self._looked_at = now
        wanted = self._next(pressure, used)
        self.factor = min(max(wanted, LEAST_FACTOR), MOST_FACTOR)
        return self.factor

    def _next(self, pressure: float, used: bool) -> float:  # noqa: FBT001 - internal
        raise NotImplementedError


@final
class AimdRate(AdaptiveRule):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._peak = 1.0

    def _next(self, pressure: float, used: bool) -> float:  # noqa: FBT001 - internal
        if pressure >= 1.0:
            return self.factor * min(max(1.0 / pressure, _LEAST_CUT), _MOST_CUT)
        if pressure >= _CALM or not used:
            return self.factor
        wanted = self.factor + _STEP * self._peak
        self._peak = max(self._peak, min(wanted, MOST_FACTOR))
        return wanted


@final
class StepwiseRate(AdaptiveRule):
    """See the module.

    Args:
        threshold: of the pressure; above 0.
        adjustment: the part by which the rate goes up or down; above 0, at most 0.5.
    """

    def __init__(
        self, threshold: float = DEFAULT_THRESHOLD, adjustment: float = DEFAULT_ADJUSTMENT
    ) -> None:
        super().__init__()
        self._threshold = threshold
        self._adjustment = adjustment

    def _next(self, pressure: float, used: bool) -> float:  # noqa: FBT001 - internal
        if pressure > self._threshold:
            return self.factor * (1.0 - self._adjustment)
        return self.factor * (1.0 + self._adjustment) if used else self.factor


def make_rate_rule(
    rule: object, threshold: object = None, adjustment: object = None
) -> AdaptiveRule:
    """The rule of that name.

    Args:
        rule: one of `RULES`.
        threshold: for ``stepwise``, above 0 and at most 10; 0.8 when left out.
        adjustment: for ``stepwise``, above 0 and at most 0.5; 0.1 when left out.

    Raises:
        InvalidInput: there is none of that name, or a setting is out of bounds or of another rule.
    """
    if rule == "aimd":
        if threshold is not None or adjustment is not None:
            raise InvalidInput("rule aimd has no threshold and no adjustment; leave them out")
        return AimdRate()
    if rule == "stepwise":
        return StepwiseRate(
            _part("threshold", threshold, DEFAULT_THRESHOLD, 10.0),
            _part("adjustment", adjustment, DEFAULT_ADJUSTMENT, 0.5),
        )
    raise InvalidInput(f"rule must be one of {', '.join(RULES)}, got {shown(rule)}")


def _part(name: str, value: object, default: float, most: float) -> float:
    if value is None:
        return default
    # NaN compares with nothing, and so is refused too.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise InvalidInput(
            f"{name} must be a number above 0 and at most {most:g}, got {shown(value)}"
        )
    return float(value)
