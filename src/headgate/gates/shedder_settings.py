"""What a load shedder is told, checked, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headgate.backpressure.shedding import AddedShedding
from headgate.backpressure.tiered_shedder import TieredShedder
from headgate.clock import NS_PER_MS
from headgate.errors import InvalidInput
from headgate.gates.numbers import valid_call, valid_number, valid_seconds
from headgate.inputs import valid_count, whole_number
from headgate.priority import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = [
    "MODES",
    "ShedderSettings",
    "ShedderStats",
    "read_load",
    "read_multipliers",
    "read_queue",
]

_BY_LOAD: Final = frozenset({"load", "threshold", "rate", "multipliers"})
MODES: Final[Mapping[str, frozenset[str]]] = {
    "tiered": frozenset({"queue", "max_queue", "seats", "capacity", "target_delay"}),
    "queue": frozenset({"queue", "max_queue", "seats"}),
    "load": _BY_LOAD,
    "pressure": _BY_LOAD,
}
"""The modes, and the settings that each has."""

_PERIOD_NS: Final = 100 * NS_PER_MS
MOST_WAITING: Final = 10**9
_MOST_PER_SECOND: Final = 1e9
_MULTIPLIERS: Final = (0.1, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class ShedderSettings:
    """The settings of a load shedder, as it takes them: checked, with the defaults put in."""

    mode: str
    name: str
    retry_ns: float
    max_queue: int
    seats: int
    capacity: float | None
    target_delay_ns: int
    threshold: float
    rate: float
    multipliers: tuple[float, ...]
    period_ns: int = _PERIOD_NS

    @classmethod
    def read(
        cls, mode: object, name: object, retry_after: object, given: Mapping[str, Any]
    ) -> Self:
        """Check them.

        Args:
            mode: one of `MODES`.
            name: of the shedder.
            retry_after: seconds.
            given: the others; what is None was left out.

        Raises:
            InvalidInput: a setting makes no sense, or belongs to another mode.
        """
        if not isinstance(mode, str) or mode not in MODES:
            raise InvalidInput(f"mode must be one of {', '.join(MODES)}, got {mode!r:.100}")
        if not isinstance(name, str):
            raise InvalidInput(f"name must be text, got {type(name).__name__}")
        values = {each: value for each, value in given.items() if value is not None}
        _require_of_mode(mode, values)
        capacity = values.get("capacity")
        if capacity is not None:
            capacity = _above_zero("capacity", capacity, _MOST_PER_SECOND)
        return cls(
            mode=mode,
            name=name,
            retry_ns=float(valid_seconds("retry_after", retry_after, 86_400.0)),
            max_queue=valid_count("max_queue", values.get("max_queue", 300), MOST_WAITING),
            seats=valid_count("seats", values.get("seats", 1), MOST_WAITING),
            capacity=capacity,
            target_delay_ns=valid_seconds("target_delay", values.get("target_delay", 0.02), 3600.0),
            threshold=valid_number("threshold", values.get("threshold", 0.8), 0.0, 1000.0),
            rate=valid_number("rate", values.get("rate", 0.1), 0.0, 1000.0),
            multipliers=read_multipliers(values.get("multipliers", _MULTIPLIERS)),
        )

    def tiered(self) -> TieredShedder | None:
        """The rule of the mode ``tiered``, fresh; None in the others."""
        if self.mode != "tiered":
            return None
        return TieredShedder(self.capacity, self.target_delay_ns, self.max_queue)

    def added(self) -> AddedShedding | None:
        """The rule of the mode ``pressure``, fresh; None in the others."""
        if self.mode != "pressure":
            return None
        return AddedShedding(self.threshold, self.rate, self.multipliers, self.period_ns)


@dataclass(frozen=True, slots=True)
class ShedderStats:
    """What a load shedder did so far.

    Attributes:
        arrived: by priority.
        shed: by priority.
        in_guards: calls that are inside guards now.
        part_shed: the part of the arrivals that is being shed, of the tier that is shed most.
        capacity_per_second: as ``tiered`` knows or learnt it; None in the other modes.
    """

    arrived: Mapping[str, int]
    shed: Mapping[str, int]
    in_guards: int
    part_shed: float
    capacity_per_second: float | None


def read_multipliers(values: object) -> tuple[float, ...]:
    """One for each tier; the last one stands for all after it.

    Raises:
        InvalidInput: none or too many, or not from 0 to 1000.
    """
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise InvalidInput(f"multipliers must be several numbers, got {type(values).__name__}")
    read = [valid_number("multipliers", value, 0.0, 1000.0) for value in values]
    if not 1 <= len(read) <= TIERS:
        raise InvalidInput(f"multipliers must be 1 to {TIERS} numbers, got {len(read)}")
    return tuple(read + [read[-1]] * (TIERS - len(read)))


def read_queue(waiting: object) -> int:
    """What a ``queue`` said; nobody waits less than not at all.

    Raises:
        InvalidInput: it is no whole number.
    """
    number = whole_number(waiting)
    if number is None:
        raise InvalidInput(
            f"queue must return a whole number, how much waits; it returned {waiting!r:.100}"
        )
    return min(max(number, 0), MOST_WAITING)


def read_load(load: object) -> float:
    """What a ``load`` said; NaN says that it is not known.

    Raises:
        InvalidInput: it is no number.
    """
    if isinstance(load, bool) or not isinstance(load, int | float):
        raise InvalidInput(
            f"load must return a number, 1.0 at the limit; it returned {load!r:.100}"
        )
    return min(max(float(load), -1000.0), 1000.0) if load == load else float("nan")  # noqa: PLR0124


def _above_zero(name: str, value: object, most: float) -> float:
    number = valid_number(name, value, 0.0, most)
    if number == 0.0:
        raise InvalidInput(f"{name} must be above 0, got 0; leave it out to have it learnt")
    return number


def _require_of_mode(mode: str, values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in MODES[mode]:
            raise InvalidInput(
                f"{name} is no setting of the mode {mode!r}, which has "
                f"{', '.join(sorted(MODES[mode]))}; leave it out, or choose another mode"
            )
    for name in ("queue", "load"):
        if name in values:
            valid_call(name, values[name])
    if "load" in MODES[mode] and "load" not in values:
        raise InvalidInput(f"the mode {mode!r} needs load=..., such as LoadMonitor().pressure")
