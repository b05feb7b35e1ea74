"""Checks of settings that several gates share."""

from __future__ import annotations

from typing import TypeGuard

from headgate.errors import InvalidInput
from headgate.inputs import MAX_KEY_LENGTH

__all__ = ["is_number", "valid_name"]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an `int` or a `float`, which True and False are not meant to be."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def valid_name(what: str, name: object) -> str:
    """A name as plain text.

    Raises:
        InvalidInput: it is no text, empty, or too long.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_KEY_LENGTH:
        raise InvalidInput(
            f"{what} must be text of 1 to {MAX_KEY_LENGTH} characters, got {name!r:.100}"
        )
    return str.__str__(name)
