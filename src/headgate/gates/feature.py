"""One feature: its switch, what somebody decided by hand, and who asks its health just now."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.degradation import LEVELS, ON_BELOW_SHARE, FeatureSwitch
from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.errors import InvalidInput
from headgate.gates.names import is_number

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HUNG", "Feature", "FeatureState", "read_switch", "valid_health"]

_MOST_PRESSURE: Final = 2.0
_LONGEST_HOLD: Final = 86_400.0
_CHECK_LEASE_NS: Final = 30 * NS_PER_SECOND
HUNG: Final = -1


@dataclass(frozen=True, slots=True)
class FeatureState:
    """How a feature stands.

    Attributes:
        name: its name.
        on: whether it is on, all told.
        forced: True or False when somebody decided it, None while the pressure does.
        off_at: the pressure that switches it off.
        on_below: the pressure below which it may come back.
        pressure: the pressure just now.
        retry_after: seconds until it is tried again, if the pressure stays low; 0 when it is on.
    """

    name: str
    on: bool
    forced: bool | None
    off_at: float
    on_below: float
    pressure: float
    retry_after: float


@final
class Feature:
    """A feature, of which its `Features` holds the lock.

    Attributes:
        forced: what somebody decided; None while the pressure does.
    """

    __slots__ = ("_asked_at", "_ticket", "fallback", "forced", "health", "name", "switch")

    def __init__(
        self,
        name: str,
        switch: FeatureSwitch,
        fallback: Callable[..., Any] | None,
        health: Callable[[], object] | None,
    ) -> None:
        self.name = name
        self.switch = switch
        self.fallback = fallback
        self.health = health
        self.forced: bool | None = None
        self._ticket = 0
        self._asked_at: int | None = None

    def is_on(self) -> bool:
        return self.switch.on if self.forced is None else self.forced

    def claim(self, now: int) -> int:
        """The right to ask its health: a ticket, or 0 while somebody else does.

        `HUNG` when that has taken too long: the answer will not be heard any more, and counts as a no.
        """
        if self._asked_at is None:
            self._asked_at = now
            self._ticket += 1
            return self._ticket
        if 0 <= now - self._asked_at < _CHECK_LEASE_NS:
            return 0
        self._asked_at = None
        self._ticket += 1
        return HUNG

    def settle(self, ticket: int) -> bool:
        """The answer is there; whether it is heard: not when the ticket had expired and another was given."""
        if ticket != self._ticket:
            return False
        self._asked_at = None
        return True

    def state(self, pressure: float, now: int) -> FeatureState:
        switch = self.switch
        on = self.is_on()
        left = 0.0 if on else switch.left(now) / NS_PER_SECOND
        return FeatureState(
            self.name, on, self.forced, switch.off_at, switch.on_below, pressure, left
        )


def read_switch(off_at: object, on_below: object, hold: object) -> FeatureSwitch:
    off = _valid_off_at(off_at)
    on = off * ON_BELOW_SHARE if on_below is None else _number("on_below", on_below, off, "off_at")
    seconds = _number("hold", hold, _LONGEST_HOLD, "a day in seconds")
    return FeatureSwitch(off, on, max(1, seconds_to_ns(seconds)))


def _valid_off_at(off_at: object) -> float:
    if not isinstance(off_at, str):
        return _number("off_at", off_at, _MOST_PRESSURE, "the highest pressure")
    if off_at not in LEVELS:
        raise InvalidInput(
            f"off_at must be a pressure or one of {', '.join(LEVELS)}, got {off_at!r:.100}"
        )
    return LEVELS[off_at]


def _number(name: str, value: object, most: float, what: str) -> float:
    # Not above 0 is what NaN is too.
    if not is_number(value) or not 0.0 < value <= most:
        raise InvalidInput(
            f"{name} must be above 0 and at most {most:g} ({what}), got {value!r:.100}"
        )
    return float(value)


def valid_health(health: object) -> Callable[[], object] | None:
    if health is None:
        return None
    if not callable(health) or inspect.iscoroutinefunction(health):
        raise InvalidInput(
            "health must be a plain function without arguments; for something that has to be awaited, let a "
            f"task of your own ask and return what it found, got {type(health).__name__}"
        )
    return health
