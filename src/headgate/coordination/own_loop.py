"""An event loop in a thread of its own, for what must go on whatever the service does.

A node under load is late with everything on its own loop. Were it late with the renewal of its lease too,
the others would take it for dead and share its limit among themselves, just when it is busiest. The
same loop serves callers without any, such as stores, which are asked from threads.
"""

from __future__ import annotations

import asyncio
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine
    from concurrent.futures import Future

__all__ = ["OwnLoop", "end"]

_AGAIN: Final = 0.1

T = TypeVar("T")


@final
class OwnLoop:
    """Started by the first use.

    Args:
        name: of the thread, for whoever looks at the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._lock = Lock()
        self._closed = False

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do it there; raises `StoreUnavailable` once it is closed."""
        with self._lock:
            if self._closed:
                work.close()
                raise StoreUnavailable("the agreement is closed; open another")
            return asyncio.run_coroutine_threadsafe(work, self._running())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Block this thread until it is done there. What it may take is up to the work."""
        return self.begin(work).result()

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Suspend this task until it is done there."""
        return await asyncio.wrap_future(self.begin(work))

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # A program that forgets to close is not kept from ending.
            self._thread = Thread(target=_run, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()
        return self._loop


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel them, and return when they have ended.

    Cancelled more than once: a driver may make an error of its own out of being cancelled, and whoever
    called it goes on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(end(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
