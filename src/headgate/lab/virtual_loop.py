"""asyncio in virtual time: where all tasks wait, time jumps to the nearest timer.

So gates that tasks await, and libraries that ask ``loop.time()``, run in simulations as they are, at the
speed of the processor and with the same result every time. Nothing real may be waited for: no sockets, no
threads, no subprocesses. When all tasks wait for something that no timer brings, the run fails, and does
not hang.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar, final

from headgate.clock import NS_PER_SECOND, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["VirtualLoop", "run_virtual"]

_T = TypeVar("_T")


@final
class _Jump(selectors.SelectSelector):
    """Waits for nothing: it moves the time by as long as it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set: the simulation is stuck")
        # Rounded up, so that the timer is due afterwards and the loop need not ask again.
        self.now_ns += -int(-timeout * NS_PER_SECOND // 1) if timeout > 0 else 0
        return []


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when nothing can be done at present.

    Attributes:
        clock: the same time for gates.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.clock = Clock(lambda: self._jump.now_ns, 0)

    def time(self) -> float:
        return self._jump.now_ns / NS_PER_SECOND


def run_virtual(main: Callable[[Clock], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``main(clock)`` to its end in virtual time that starts at 0.

    >>> async def nap(clock):
    ...     await clock.sleep_async(3600)
    ...     return clock.now_ns()
    >>> run_virtual(nap)
    3600000000000
    """
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop.clock))
