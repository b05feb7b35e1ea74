"""Giving memory back that is not used any more, when there is too much of it."""

from __future__ import annotations

import gc
from typing import Any

__all__ = ["release_memory"]


def release_memory() -> None:
    """Collect garbage, and have the C library give freed memory back to the system where it can.

    Without the second half a process stays as large as it ever was, and a guard that goes by its size
    would never let anything in again. Takes up to some tenths of a second in a large process.
    """
    gc.collect()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def _malloc_trim() -> Any:
    """What GNU's C library has for it; None elsewhere."""
    import ctypes  # noqa: PLC0415 - takes milliseconds, and is needed only in distress

    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
