"""A loop in threads that empties a bounded queue under a budget (B2)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Generic, SupportsFloat, SupportsIndex, TypeVar, final

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import InvalidInput
from headgate.gates.inbox import EMPTY, Inbox, LoopStats
from headgate.gates.lines import ThreadWaiter
from headgate.gates.loop_budget import LoopBudget
from headgate.gates.numbers import optional_seconds, valid_plain_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.clock import Clock
    from headgate.gates.inbox import Overflow

__all__ = ["BoundedLoop"]

_T = TypeVar("_T")
_ENDING: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a loop that runs in its caller's thread: it is meant for the program, not for the loop."""

MAX_HUNG: Final = 8
"""Handlers that hang at a time, each of which keeps a thread; with so many, the next is waited for."""


@final
class _Shift:
    """One consumer's time at work.

    Attributes:
        waiter: where it pauses for the budget.
        busy_since: when the handler at work was called; None between two.
        is_left_behind: its handler hangs, and another consumer has taken over.
        is_over: it has ended.
        fault: what it ended with, if nobody foresaw it.
    """

    __slots__ = ("busy_since", "fault", "is_left_behind", "is_over", "waiter")

    def __init__(self) -> None:
        self.waiter = ThreadWaiter(1)
        self.busy_since: int | None = None
        self.is_left_behind = False
        self.is_over = False
        self.fault: BaseException | None = None


@final
class BoundedLoop(Generic[_T]):
    """Calls a handler with each item that is put in, and no more often than its budget admits.

    >>> loop = BoundedLoop(print, capacity=2, overflow="drop_oldest")
    >>> [loop.put(word) for word in ("one", "two", "three")]
    [True, True, True]
    >>> while loop.poll():
    ...     pass
    two
    three
    >>> loop.stats().dropped
    1

    ``with loop:`` runs it in a thread of its own; `run` runs it where it is called; `poll` handles one item
    and returns. A handler that raises is counted and logged. One that takes longer than
    ``handler_timeout`` under `run` is left behind in its thread, and the loop goes on in another.

    Args:
        handler: is given each item.
        budget: of the loop; `LoopBudget.network` when left out.
        capacity: items that may wait, 1 to 10^7.
        overflow: ``"drop_oldest"`` or ``"drop_newest"``, or a function that is given an item that has no
            room.
        receive_timeout: seconds after which the loop says that nothing came; never when None.
        handler_timeout: seconds after which a handler counts as hung (it is noticed within as long again);
            never when None.
        on_idle: called when nothing came in time, for what is to be done now and then.
        on_error: called with an exception of the handler, and the item.
        name: in the log, and of the threads.
        clock: gives the time; the budget's when left out.

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
        valid_plain_call("handler", handler, "; an AsyncBoundedLoop does")
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
        self._lock = threading.RLock()
        self._running = False
        self._stopping = False
        self._draining = False
        self._stopped_at = 0
        self._thread: threading.Thread | None = None
        self._supervisor = ThreadWaiter(1)
        # The consumer of the present shift alone may take items; one that hangs loses its shift.
        self._shift = _Shift()
        self._hanging = 0

    def put(self, item: _T) -> bool:
        """Add an item, from any thread, whether the loop runs or not; never waits.

        Returns:
            False when it was not added: it was dropped, or given to the overflow function.
        """
        return self._inbox.put(item)

    def poll(self) -> bool:
        """Handle one item in this thread, if one is there and the budget admits it."""
        taken: list[_T] = []
        if self._inbox.take(taken) != 0.0:
            return False
        self._count(self._call(taken[0], _ENDING), taken[0])
        return True

    def run(self) -> None:
        """Handle what comes until `stop` is called.

        Raises:
            InvalidInput: it runs already.
        """
        self._begin()
        self._run()

    def stop(self, *, drain: bool = False) -> None:
        """Have the loop end, after the handler at work; from any thread, a handler included.

        Args:
            drain: not before everything that waits was handled, at the budget's pace.
        """
        with self._lock:
            self._draining = drain
            self._stopping = not drain
            self._stopped_at = self.clock.now_ns()
            shift = self._shift
        if not drain:
            self._supervisor.wake()
            shift.waiter.wake()
        self._inbox.nudge()

    def stats(self) -> LoopStats:
        """The counts since the loop was made."""
        return self._inbox.stats()

    @property
    def running(self) -> bool:
        """Whether `run` is under way, in whatever thread."""
        return self._running

    def __enter__(self) -> BoundedLoop[_T]:
        self._begin()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or not self._draining:  # what was asked to be handled first, is
            self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # Inside --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._lock:
            if self._running:
                raise InvalidInput(
                    f"loop {self.name!r} runs already; make another for another thread"
                )
            self._running = True
            self._stopping = self._draining = False

    def _run(self) -> None:
        try:
            if self._handler_ns is None:
                self._consume(self._next_shift(), _ENDING)
            else:
                self._supervise(self._handler_ns)
        finally:
            with self._lock:
                self._next_shift()
                self._running = False

    def _supervise(self, patience_ns: int) -> None:
        """Keep one consumer at work: when its handler hangs, leave it behind and start another."""
        seconds = patience_ns / NS_PER_SECOND
        shift = self._new_consumer()
        while not (self._stopping or shift.is_over):
            self._supervisor.pause(self.clock, seconds)
            if self._leaves_behind(shift, patience_ns):
                shift = self._new_consumer()
        while not shift.is_over and 0 <= self.clock.now_ns() - self._stopped_at < patience_ns:
            self._supervisor.pause(self.clock, seconds)
        if shift.fault is not None:
            raise shift.fault

    def _new_consumer(self) -> _Shift:
        """Start a thread that takes over."""
        shift = self._next_shift()
        threading.Thread(
            target=self._consume_guarded, args=(shift,), name=f"{self.name}-consumer", daemon=True
        ).start()
        return shift

    def _next_shift(self) -> _Shift:
        with self._lock:
            self._shift = _Shift()
            return self._shift

    def _leaves_behind(self, shift: _Shift, patience_ns: int) -> bool:
        """Whether the consumer's handler hangs, and there is a thread to spare."""
        with self._lock:
            if self._stopping or shift.busy_since is None:
                return False
            now = self.clock.now_ns()
            shift.busy_since = min(shift.busy_since, now)  # the clock went back
            if now - shift.busy_since < patience_ns or self._hanging >= MAX_HUNG:
                return False
            self._hanging += 1
            shift.is_left_behind = True
        self._inbox.hung()
        return True

    def _consume_guarded(self, shift: _Shift) -> None:
        """What a handler raises never gets here; what does is a fault of the clock or the budget."""
        try:
            self._consume(shift, ())
        except BaseException as fault:  # noqa: BLE001 - `run` raises it in its own thread
            shift.fault = fault
        finally:
            shift.is_over = True
            self._supervisor.wake()

    def _consume(self, shift: _Shift, ending: tuple[type[BaseException], ...]) -> None:
        """Handle items while the shift lasts."""
        arrival = ThreadWaiter(1)
        taken: list[_T] = []
        while self._shift is shift and not self._stopping:
            pause = self._inbox.take(taken)
            if pause == 0.0:
                self._work(shift, taken.pop(), ending)
            elif pause != EMPTY:
                shift.waiter.pause(self.clock, pause)
            elif self._draining:
                return
            else:
                self._await_item(arrival)

    def _await_item(self, waiter: ThreadWaiter) -> None:
        """Return when an item may be there, or when nothing came in time."""
        began = self.clock.now_ns()
        while self._inbox.wake_with(waiter.wake) and not (self._stopping or self._draining):
            if self._receive_ns is None:
                waiter.pause(self.clock, None)
                continue
            now = self.clock.now_ns()
            began = min(began, now)  # the clock went back
            left = self._receive_ns - (now - began)
            if left <= 0:
                self._inbox.was_idle()
                if self._on_idle is not None:
                    self._inbox.call_out("on_idle", self._on_idle)
                return
            waiter.pause(self.clock, left / NS_PER_SECOND)

    def _work(self, shift: _Shift, item: _T, ending: tuple[type[BaseException], ...]) -> None:
        with self._lock:
            shift.busy_since = self.clock.now_ns()
        error = self._call(item, ending)
        with self._lock:
            shift.busy_since = None
            if shift.is_left_behind:  # and counted as hung
                self._hanging -= 1
                return
        self._count(error, item)

    def _call(self, item: _T, ending: tuple[type[BaseException], ...]) -> BaseException | None:
        """What the handler raised, if it did; ``ending`` goes on to the caller."""
        try:
            self._handler(item)
        except ending:
            raise
        except BaseException as error:  # noqa: BLE001 - nothing that a handler raises ends the loop
            return error
        return None

    def _count(self, error: BaseException | None, item: _T) -> None:
        if error is None:
            self._inbox.ended_well()
        elif type(error).__name__ == "CancelledError":  # asyncio's, or that of concurrent.futures
            self._inbox.was_cancelled()
        else:
            self._inbox.failed(error, item)
