"""The worker processes of a node, as their supervisor sees them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, final

from headgate.server.frames import Line, write_frame

if TYPE_CHECKING:
    from headgate.server.worker import Orders

__all__ = ["Crew", "WorkerProcess"]

_READY_SECONDS: Final = 60.0


@final
class WorkerProcess:
    """One worker process.

    Attributes:
        number: its own among those that live.
        ready: what it said when it was ready; None when it ended before.
        failure: why it could not start, in its own words; "" when it gave none.
        over: is set once the process has ended.
        is_retired: it was told to end.
        is_on_trial: it is to take another one's place, if it becomes ready.
        started: on the loop's clock.
    """

    def __init__(self, number: int, process: subprocess.Popen[bytes], line: Line) -> None:
        self.number = number
        self.process = process
        self.line = line
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        self.failure = ""
        self.over = asyncio.Event()
        self.is_retired = False
        self.is_on_trial = False
        self.started = loop.time()

    @classmethod
    async def start(cls, orders: Orders) -> WorkerProcess:
        """Start a process with these orders."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = _start(orders, theirs.fileno())
            write_frame(ours, orders.document())  # while the other end is open here too
        return cls(orders.number, process, await Line.over(ours))

    async def is_ready(self) -> bool:
        """Whether it got as far as being ready; waits for that."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await asyncio.shield(self.ready) is not None
        except TimeoutError:
            self.failure = f"it was not ready in {_READY_SECONDS:g} s"
            self.process.kill()
            return False

    def became(self, said: dict[str, Any] | None) -> None:
        """It is ready, or (None) it has ended."""
        if not self.ready.done():
            self.ready.set_result(said)

    def drain(self, *, final: bool) -> None:
        """Tell it to answer what is on its way and to end; ``final``: nobody comes after it."""
        self.is_retired = True
        self.line.send({"do": "drain", "final": final})

    def how_it_ended(self) -> str:
        """In words."""
        code = self.process.returncode
        if self.failure:
            return self.failure
        return f"it ended with exit code {code}" if code >= 0 else f"it was ended by signal {-code}"


def _start(orders: Orders, control: int) -> subprocess.Popen[bytes]:
    handles = [control, orders.rest, orders.balance]
    if orders.resp is not None:
        handles.append(orders.resp)
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "headgate.server.worker", str(control)],
        stdin=subprocess.DEVNULL,
        pass_fds=handles,
        start_new_session=True,  # Ctrl-C is the supervisor's to hear
    )


@final
class Crew:
    """All worker processes that live.

    Args:
        seats: how many may live at the same time.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._last = -1
        self.all: dict[int, WorkerProcess] = {}

    def free_number(self) -> int:
        """A number that nobody has, and had for the longest time.

        Elsewhere the name of a worker that was killed may count as taken until its lease is over.
        """
        following = (self._last + step for step in range(1, self._seats + 1))
        self._last = next(at % self._seats for at in following if at % self._seats not in self.all)
        return self._last

    def working(self) -> list[WorkerProcess]:
        """Those that are not about to end, ready or not."""
        return [one for one in self.all.values() if not one.is_retired and not one.is_on_trial]

    def tell(self, order: dict[str, Any], besides: WorkerProcess | None = None) -> None:
        """Tell all of them, but this one."""
        for one in self.all.values():
            if one is not besides:
                one.line.send(order)

    def reap(self) -> None:
        """Notice those that have ended."""
        for one in list(self.all.values()):
            if one.process.poll() is not None:
                one.over.set()
