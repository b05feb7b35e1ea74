"""The twin of `headgate.gates.bounded_loop` for asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Generic, SupportsFloat, SupportsIndex, TypeVar, final

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import InvalidInput
from headgate.gates.inbox import EMPTY, Inbox, LoopStats
from headgate.gates.lines import TaskWaiter
from headgate.gates.loop_budget import LoopBudget
from headgate.gates.numbers import optional_seconds, valid_call, valid_plain_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.clock import Clock
    from headgate.gates.inbox import Overflow

__all__ = ["AsyncBoundedLoop"]

_T = TypeVar("_T")
MAX_HUNG: Final = 100
"""Handlers that do not end though they were cancelled; with so many, the next is waited for."""

_GRACE_SECONDS: Final = 1.0
"""What a cancelled handler gets to clean up, before the loop goes on without it."""


@final
class AsyncBoundedLoop(Generic[_T]):
    """Calls a handler with each item that is put in, and no more often than its budget admits.

    ``async with loop:`` runs it in a task of its own; ``await loop.run()`` where it is called; ``await
    loop.poll()`` handles one item and returns. A handler that raises, or is cancelled, is counted and
    logged. One that takes longer than ``handler_timeout`` is cancelled, and left behind if it does not end
    within a second of that.

    Args:
        handler: is given each item; a coroutine function, or one that is done when it returns.
        budget: see `BoundedLoop`, as for all that is not named here.
        handler_timeout: seconds after which a handler is cancelled; never when None.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        handler: Callable[[_T], object],
        budget: LoopBudget | None = None,
        *,
        capacity: SupportsIndex = 1_000,
        overflow: Overflow = "drop_oldest",
        receive_timeout: SupportsFloat | None = 1.0,
        handler_timeout: SupportsFloat | None = 30.0,
        on_idle: Callable[[], object] | None = None,
        on_error: Callable[[BaseException, Any], object] | None = None,
        name: str = "loop",
        clock: Clock | None = None,
    ) -> None:
        valid_call("handler", handler)
        if on_idle is not None:
            valid_plain_call("on_idle", on_idle)
        self._handler = handler
        self._receive_ns = optional_seconds("receive_timeout", receive_timeout)
        self._handler_ns = optional_seconds("handler_timeout", handler_timeout)
        if clock is None:
            clock = budget.clock if isinstance(budget, LoopBudget) else SystemClock()
        self.clock: Clock = clock
        self._on_idle = on_idle
        self._inbox: Inbox[_T] = Inbox(
            capacity,
            overflow,
            LoopBudget.network(clock) if budget is None else budget,
            on_error,
            name,
        )
        self.name = name
        self._end: TaskWaiter | None = None
        self._ending = False
        self._draining = False
        self._task: asyncio.Task[None] | None = None
        self._left_behind: set[asyncio.Task[object]] = set()

    def put(self, item: _T) -> bool:
        """Add an item, from any thread, whether the loop runs or not; never waits.

        Returns:
            False when it was not added: it was dropped, or given to the overflow function.
        """
        return self._inbox.put(item)

    async def poll(self) -> bool:
        """Handle one item, if one is there and the budget admits it."""
        taken: list[_T] = []
        if self._inbox.take(taken) != 0.0:
            return False
        await self._work(taken[0])
        return True

    async def run(self) -> None:
        """Handle what comes until `stop` is called, or until it is cancelled.

        Raises:
            InvalidInput: it runs already.
        """
        await self._run(self._begin())

    def stop(self, *, drain: bool = False) -> None:
        """Have the loop end, after the handler at work; from any thread, a handler included.

        Args:
            drain: not before everything that waits was handled, at the budget's pace.
        """
        self._draining = drain
        end = self._end
        if not drain:
            self._ending = True
            if end is not None:
                end.wake()
        self._inbox.nudge()

    def stats(self) -> LoopStats:
        """The counts since the loop was made."""
        return self._inbox.stats()

    @property
    def running(self) -> bool:
        """Whether `run` is under way, in whatever task."""
        return self._end is not None and not self._end.is_gone()

    async def __aenter__(self) -> AsyncBoundedLoop[_T]:
        self._task = asyncio.create_task(self._run(self._begin()), name=self.name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or not self._draining:  # what was asked to be handled first, is
            self.stop()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            await task

    # Inside --------------------------------------------------------------------------------------

    def _begin(self) -> TaskWaiter:
        # One whose event loop was closed under it never gets to its end.
        if self._end is not None and not self._end.is_gone():
            raise InvalidInput(f"loop {self.name!r} runs already; make another for another task")
        self._end = TaskWaiter(1)
        self._ending = self._draining = False
        return self._end

    async def _run(self, end: TaskWaiter) -> None:
        arrival = TaskWaiter(1)
        taken: list[_T] = []
        try:
            while not self._ending:
                pause = self._inbox.take(taken)
                if pause == 0.0:
                    await self._work(taken.pop())
                elif pause != EMPTY:
                    await end.pause(self.clock, pause)
                elif self._draining:
                    return
                else:
                    await self._await_item(arrival)
        finally:
            if self._end is end:
                self._end = None
                self._draining = False

    async def _await_item(self, arrival: TaskWaiter) -> None:
        """Return when an item may be there, or when nothing came in time."""
        began = self.clock.now_ns()
        while self._inbox.wake_with(arrival.wake) and not (self._ending or self._draining):
            if self._receive_ns is None:
                await arrival.pause(self.clock, None)
                continue
            now = self.clock.now_ns()
            began = min(began, now)  # the clock went back
            left = self._receive_ns - (now - began)
            if left <= 0:
                self._inbox.was_idle()
                if self._on_idle is not None:
                    self._inbox.call_out("on_idle", self._on_idle)
                return
            await arrival.pause(self.clock, left / NS_PER_SECOND)

    async def _work(self, item: _T) -> None:
        # In a task of its own its cancellation and ours cannot be mistaken for each other.
        task = asyncio.ensure_future(self._call(item))
        done = asyncio.Event()
        task.add_done_callback(lambda _: done.set())
        try:
            await self._wait_for(done)
        except asyncio.CancelledError:
            await self._give_up(task)
            raise
        if not task.done():
            self._inbox.hung()
            await self._give_up(task)
        elif task.cancelled():
            self._inbox.was_cancelled()
        else:
            self._count(task.exception(), item)

    async def _call(self, item: _T) -> object:
        ended = self._handler(item)
        return await ended if isawaitable(ended) else ended

    def _count(self, error: BaseException | None, item: _T) -> None:
        if error is None:
            self._inbox.ended_well()
        else:
            self._inbox.failed(error, item)

    async def _wait_for(self, done: asyncio.Event) -> None:
        if self._handler_ns is None or len(self._left_behind) >= MAX_HUNG:
            await done.wait()
        else:
            await self.clock.wait_for_async(done, self._handler_ns / NS_PER_SECOND)

    async def _give_up(self, task: asyncio.Task[object]) -> None:
        """Cancel a handler, and go on without it if it does not end."""
        ended = asyncio.Event()
        task.add_done_callback(lambda _: ended.set())
        self._left_behind.add(task)
        task.add_done_callback(self._came_back)
        task.cancel()
        await self.clock.wait_for_async(ended, _GRACE_SECONDS)

    def _came_back(self, task: asyncio.Task[object]) -> None:
        self._left_behind.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()  # it counts as hung; asked for, so that asyncio does not complain
