"""What an admission queue is told: read, checked, and made into an order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex

from headgate.backpressure.controlled_delay import ControlledDelayOrder
from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.priority_queue import PriorityOrder
from headgate.backpressure.service_classes import ClassOrder, ServiceClass
from headgate.errors import InvalidCost, InvalidInput
from headgate.gates.numbers import YEAR, valid_number, valid_seconds
from headgate.inputs import valid_cost, valid_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.backpressure.waiting_order import WaitingOrder
    from headgate.inputs import Text

__all__ = [
    "DISCIPLINES",
    "MAX_SEATS",
    "MAX_WAITING",
    "group_of",
    "listed_classes",
    "order_for",
    "valid_flow",
    "valid_patience",
    "valid_seats_wanted",
]

DISCIPLINES: Final = ("priority", "fair", "codel", "classes")
MAX_SEATS: Final = 1_000_000
MAX_WAITING: Final = 1_000_000
_MAX_WAIT: Final = 86_400.0
_MOST_WEIGHT: Final = 1e6
_PATIENT_NS: Final = 10**18


def order_for(
    discipline: Text | None,
    *,
    seats: int,
    max_waiting: int,
    max_wait: SupportsFloat | None,
    target_delay: SupportsFloat,
    weights: Mapping[str, float] | None,
    classes: Sequence[ServiceClass],
) -> WaitingOrder:
    """The order of a discipline.

    Raises:
        InvalidInput: there is no such discipline, or the settings do not go with it.
    """
    name = discipline
    if name is None:
        name = "classes" if classes else "priority"
    if not isinstance(name, str) or name not in DISCIPLINES:
        raise InvalidInput(
            f"discipline must be one of {', '.join(DISCIPLINES)}, got {discipline!r:.80}"
        )
    target_ns = valid_seconds("target_delay", target_delay, _MAX_WAIT)
    longest = (0.1 if name == "codel" else 1.0) if max_wait is None else max_wait
    max_wait_ns = valid_seconds("max_wait", longest, _MAX_WAIT)
    shares = _valid_weights(weights)
    if (name == "classes") != bool(classes):
        raise InvalidInput(
            f"classes go with discipline 'classes' and no other, got {len(classes)} and {name!r}"
        )
    if name == "classes":
        return ClassOrder(_valid_classes(classes), seats, shares)
    if name == "fair":
        return FairOrder(max_wait_ns, shares)
    if name == "priority":
        return PriorityOrder(max_wait_ns, max_waiting, shares)
    if target_ns > max_wait_ns:
        raise InvalidInput(
            f"target_delay must be at most max_wait, got {target_ns / 1e9:g} and {max_wait_ns / 1e9:g}"
        )
    return ControlledDelayOrder(target_ns, max_wait_ns)


def listed_classes(classes: object) -> tuple[Any, ...]:
    """The classes as a tuple.

    Raises:
        InvalidInput: they are nothing that can be gone through.
    """
    if not isinstance(classes, Iterable):
        raise InvalidInput(f"classes must be a list of them, got {type(classes).__name__}")
    return tuple(classes)


def group_of(classes: tuple[ServiceClass, ...], name: object) -> int:
    """The number of a class; of the last when the name is "".

    Raises:
        InvalidInput: there is no such class.
    """
    if name == "":
        return max(0, len(classes) - 1)
    for number, each in enumerate(classes):
        if each.name == name:
            return number
    known = ", ".join(each.name for each in classes)[:200] or "none: this queue has no classes"
    raise InvalidInput(f"service_class must be one of {known}, got {name!r:.100}")


def valid_flow(flow: Text) -> str:
    """Whose work it is; "" for nobody's in particular.

    Raises:
        InvalidKey: it is no string, or too long.
    """
    return "" if isinstance(flow, str) and not flow else valid_key(flow)


def valid_seats_wanted(cost: SupportsIndex) -> int:
    """The seats that a caller wants.

    Raises:
        InvalidCost: it is no whole number, or below 1.
    """
    number = valid_cost(cost)
    if number < 1:
        raise InvalidCost(
            f"cost must be >= 1 seat, got {number}; work that takes none needs no queue"
        )
    return number


def valid_patience(deadline: SupportsFloat | None) -> int:
    """Nanoseconds that a caller would wait, from seconds >= 0; very long when None.

    Raises:
        InvalidInput: it is no number, negative or NaN.
    """
    if deadline is None or deadline == float("inf"):
        return _PATIENT_NS
    if isinstance(deadline, int | float) and not isinstance(deadline, bool) and deadline > YEAR:
        return _PATIENT_NS
    seconds = valid_number(
        "deadline", deadline, 0.0, YEAR, "; leave it out to wait as long as may be"
    )
    return round(seconds * 1e9)


def _valid_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        raise InvalidInput(f"weights must map flows to numbers, got {type(weights).__name__}")
    return {
        valid_flow(flow): valid_number(
            f"weight of {flow!r:.40}", weight, 1 / _MOST_WEIGHT, _MOST_WEIGHT
        )
        for flow, weight in weights.items()
    }


def _valid_classes(classes: Sequence[ServiceClass]) -> Sequence[ServiceClass]:
    for each in classes:
        if not isinstance(each, ServiceClass):
            raise InvalidInput(f"classes must be ServiceClass, got {type(each).__name__}")
    return classes
