"""Who wants to know that something changed, on whatever event loop it waits.

A bell carries no news: however often it rang, who listens wakes once, and then looks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Bell"]


@final
class Bell:
    """Rings from any thread; heard on the loop of each listener."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False

    async def rings(self) -> AsyncGenerator[None]:
        """Yields at once, and then after each ring; ends when the bell is closed."""
        heard = asyncio.Event()
        heard.set()
        self._listeners[heard] = asyncio.get_running_loop()
        try:
            while True:
                await heard.wait()
                if self._closed:
                    return
                heard.clear()
                yield
        finally:
            del self._listeners[heard]

    def ring(self) -> None:
        """Wake all who listen."""
        for heard, loop in list(self._listeners.items()):
            # A loop that ended without its listener's goodbye hears nothing more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(heard.set)

    def close(self) -> None:
        """End what listens, now and later."""
        self._closed = True
        self.ring()
