"""What may name a caller, and what a request may cost: one rule for all doors."""

from __future__ import annotations

from operator import index
from typing import Final, Protocol

from headgate.errors import InvalidCost, InvalidInput, InvalidKey

__all__ = [
    "MAX_COST",
    "MAX_KEY_LENGTH",
    "Text",
    "shown",
    "valid_cost",
    "valid_count",
    "valid_key",
    "whole_number",
]

# Literals, so that compiled code has them built in.
MAX_COST: Final = 10**12
MAX_KEY_LENGTH: Final = 1024


class Text(Protocol):
    """A `str`.

    A compiled function checks an argument that is annotated ``str`` before its first line runs, and
    answers with a `TypeError` of the compiler's own. Of a protocol it checks nothing, so that the
    caller is told the same in both builds. At run time nothing but a `str` is taken.
    """

    def isidentifier(self) -> bool:
        """Stands for all methods of `str`: it is one that no other built-in type has."""


def valid_key(key: object) -> str:
    """The key as a plain string.

    Anything else is refused rather than turned into text: an attribute that is None for everybody
    would quietly make all callers share one limit.

    Raises:
        InvalidKey: it is no string, or empty, or too long.
    """
    if not isinstance(key, str):
        message = f"key must be a string, got {type(key).__name__}; use f'user:{{id}}' or str(id)"
        raise InvalidKey(message)
    if not key:
        message = "key must not be empty; give callers without a key one of their own choosing"
        raise InvalidKey(message)
    if len(key) > MAX_KEY_LENGTH:
        message = (
            f"key must be at most {MAX_KEY_LENGTH} characters, got {len(key)}; hash longer ones"
        )
        raise InvalidKey(message)
    # Not str(key): a subclass may print as something else than it is, as members of an Enum do.
    return str.__str__(key)


def valid_cost(cost: object) -> int:
    """The cost as a plain whole number.

    Raises:
        InvalidCost: it is no whole number, or negative, or huge.
    """
    number = whole_number(cost)
    if number is None:
        shown = repr(cost) if isinstance(cost, (bool, float)) else type(cost).__name__
        message = f"cost must be a whole number, got {shown}; round it up"
        raise InvalidCost(message)
    if not 0 <= number <= MAX_COST:
        shown = str(number) if number.bit_length() <= 64 else "a huge number"
        message = f"cost must be 0 to {MAX_COST}, got {shown}; split larger work"
        raise InvalidCost(message)
    return number


def valid_count(name: str, value: object, most: int) -> int:
    """A setting that counts something, from 1 to ``most``.

    Raises:
        InvalidInput: it is no whole number, or out of bounds.
    """
    number = whole_number(value)
    if number is None:
        message = f"{name} must be a whole number, got {type(value).__name__}"
        raise InvalidInput(message)
    if not 1 <= number <= most:
        shown = str(number) if number.bit_length() <= 64 else "a huge number"
        message = f"{name} must be 1 to {most}, got {shown}"
        raise InvalidInput(message)
    return number


def whole_number(value: object) -> int | None:
    """A whole number of any type as an `int`; None for what is none, and for True and False."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)  # type: ignore[arg-type] # what is none raises, and that is the question
    except TypeError:
        return None


def shown(value: object) -> str:
    """A value as a message about it shows it: short, whatever it is.

    >>> shown(0.5), shown("x" * 100)
    ('0.5', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...")
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of a number of 5000 digits, or of an object that has none
        return f"a huge or strange {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}..."
