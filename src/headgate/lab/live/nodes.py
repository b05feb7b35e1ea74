"""A node of experiment 10 as a process: an application of the live rig that writes down what it does.

What it writes are lines of JSON, each a list that begins with the moment (nanoseconds on the machine's
monotonic clock, which all processes share) and one of these words::

    tick   own pressure, the one acted on, whether that is borrowed, requests offered so far, and shed
    note   a pressure that was left on the board
    heard  whose note came in
    sick   the nodes that are known to be sick, now that they are others than before
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.decision import Decision
from headgate.errors import Overloaded
from headgate.gates.global_pressure import open_board
from headgate.lab.cluster import TICK_NS, NodeGates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headgate.engine.pressures import PressureFeed, PressureNote
    from headgate.gates.global_pressure import GlobalPressure
    from headgate.lab.live.server import Host
    from headgate.lab.workload import Request

__all__ = ["node"]

_TIMEOUT: Final = 0.05
_REFUSED: Final = Decision(False, 0, 0, 0, 0, 0, "laboratory", 0)


@final
class _Diary:
    """What happened at this node, in a file."""

    def __init__(self, path: str, now: Callable[[], int]) -> None:
        self._file = open(path, "w", encoding="ascii", buffering=1)  # noqa: SIM115, PTH123 - ends with the process
        self._now = now
        self._sick: list[str] = []

    def write(self, what: str, *values: object) -> None:
        self._file.write(json.dumps([self._now(), what, *values]) + "\n")

    def look(self, view: GlobalPressure) -> None:
        """Write down who is sick, if that is news."""
        sick = view.sick()
        if sick != self._sick:
            self._sick = sick
            self.write("sick", sick)


@final
class _WrittenBoard:
    """A board and feed; what goes through it is written down."""

    def __init__(self, board: PressureFeed, diary: _Diary) -> None:
        self._board = board
        self._diary = diary

    def exchange(self, note: PressureNote | None) -> Iterable[PressureNote]:
        found = list(self._board.exchange(note))
        if note is not None:
            self._diary.write("note", note.pressure)
        for one in found:
            self._diary.write("heard", one.node)
        return found

    @property
    def live(self) -> bool:
        return self._board.live

    def follow(self, heard: Callable[[PressureNote], object]) -> None:
        def hear(note: PressureNote) -> None:
            heard(note)
            self._diary.write("heard", note.node)

        self._board.follow(hear)

    def close(self) -> None:
        self._board.close()


class _Node:
    def __init__(
        self, host: Host, gates: NodeGates, diary: _Diary, seats: int, waiting: deque[Request]
    ) -> None:
        self._host = host
        self._gates = gates
        self._diary = diary
        self._seats = asyncio.Semaphore(seats)
        self._waiting = waiting
        self._offered = 0
        self._shed = 0

    async def serve(self, request: Request) -> None:
        self._offered += 1
        if not self._gates.admits(request.tier):
            self._shed += 1
            raise Overloaded(_REFUSED)
        self._waiting.append(request)
        async with self._seats:  # first come, first served
            self._waiting.popleft()
            self._gates.waited(self._host.clock.now_ns() - request.arrived)
            await self._host.hold(request)

    def tick(self) -> None:
        """Another 100 ms are over."""
        asyncio.get_running_loop().call_later(TICK_NS / NS_PER_SECOND, self.tick)
        gates, view = self._gates, self._gates.view
        if self._waiting:
            gates.waited(self._host.clock.now_ns() - self._waiting[0].arrived)
        gates.sample()
        own, acting = view.local(), gates.acts_on()
        # A sample that came in between is nothing that was borrowed.
        borrowed = acting > max(own, view.local())
        self._diary.write("tick", own, acting, borrowed, self._offered, self._shed)
        self._diary.look(view)


def node(
    host: Host, name: str, url: str, acts_on: str, seats: int, diary: str
) -> Callable[[Request], Awaitable[None]]:
    """The application of one node.

    Args:
        host: of the live rig.
        name: of the node.
        url: of the store.
        acts_on: see `NodeGates`.
        seats: that work is done on.
        diary: the file to write to.
    """
    written = _Diary(diary, host.clock.now_ns)
    board: Any = open_board(url, "lab", _TIMEOUT)
    waiting: deque[Request] = deque()
    gates = NodeGates(
        name,
        _WrittenBoard(board, written),
        acts_on,
        waiting.__len__,
        host.clock,
        host.stream,
    )
    made = _Node(host, gates, written, seats, waiting)
    host.pressure = gates.view.local
    made.tick()
    host.keep(asyncio.get_running_loop().create_task(gates.view.run()))
    return made.serve
