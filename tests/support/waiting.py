"""Waiting for what other threads and real servers do: by looking again, and never for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.005
PATIENCE = 20.0


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when the condition holds; fail when it does not within so many seconds."""
    never = threading.Event()
    for _ in range(int(seconds / LOOK_SECONDS)):
        if condition():
            return
        never.wait(LOOK_SECONDS)
    pytest.fail(f"{condition} did not come true within {seconds} s")
