"""The composition root: which adapter is in use is known here and nowhere else.

``service`` puts the service together: from settings to a store, an engine and its observers. ``circuits``
opens what breakers share. They are apart so that a breaker in somebody's program loads no database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.wiring.service import (
        Wired,
        keep_snapshot,
        open_configured_store,
        read_snapshot,
        wire,
    )

__all__ = ["Wired", "keep_snapshot", "open_configured_store", "read_snapshot", "wire"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module 'headgate.wiring' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module("headgate.wiring.service"), name)
    globals()[name] = value
    return value
