"""Running the load on the fastest loop that there is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["run_loop"]


def run_loop(main: Coroutine[None, None, None]) -> None:
    """Run to the end."""
    try:
        import uvloop
    except ImportError:  # Windows has none
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
