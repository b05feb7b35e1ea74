"""Settings that are numbers: what is no number, not finite or out of bounds is refused in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import seconds_to_ns
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "YEAR",
    "optional_seconds",
    "valid_call",
    "valid_number",
    "valid_plain_call",
    "valid_seconds",
]

_COROUTINE: Final = (
    0x80  # what `inspect.CO_COROUTINE` is, which would take longer to load than all of this
)
YEAR: Final = 366 * 86_400.0


def valid_number(name: str, value: object, least: float, most: float, remedy: str = "") -> float:
    """A setting from ``least`` to ``most``, both included.

    Raises:
        InvalidInput: it is no number, NaN, or out of bounds.
    """
    # NaN compares with nothing, and so is refused too.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"{name} must be a number, got {type(value).__name__}{remedy}")
    if not least <= value <= most:
        raise InvalidInput(
            f"{name} must be {least:.10g} to {most:.10g}, got {_shown(value)}{remedy}"
        )
    return float(value)


def valid_seconds(name: str, value: object, most: float = YEAR, remedy: str = "") -> int:
    """A length of time in nanoseconds, from seconds above zero.

    Raises:
        InvalidInput: it is no number, not above zero, not finite or above ``most`` seconds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(
            f"{name} must be a number of seconds, got {type(value).__name__}{remedy}"
        )
    if not 0 < value <= most:
        raise InvalidInput(
            f"{name} must be above 0 and at most {most:.10g} seconds, got {_shown(value)}{remedy}"
        )
    return max(1, seconds_to_ns(float(value)))


def optional_seconds(name: str, value: object) -> int | None:
    """The same, where None stands for never.

    Raises:
        InvalidInput: as `valid_seconds`.
    """
    return None if value is None else valid_seconds(name, value, remedy="; None for never")


def valid_call(name: str, value: object) -> Callable[..., object]:
    """A setting that is called.

    Raises:
        InvalidInput: it cannot be.
    """
    if not callable(value):
        raise InvalidInput(f"{name} must be callable, got {type(value).__name__}")
    return value


def valid_plain_call(name: str, value: object, remedy: str = "") -> Callable[..., object]:
    """A setting that is called by who does not await what comes of it.

    Raises:
        InvalidInput: it cannot be called, or is a coroutine function: its body would never run.
    """
    flags: object = getattr(getattr(value, "__code__", None), "co_flags", 0)
    if isinstance(flags, int) and flags & _COROUTINE:
        raise InvalidInput(
            f"{name} must be a plain function, got a coroutine function, which nobody would await{remedy}"
        )
    return valid_call(name, value)


def _shown(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    return f"{value:g}"
