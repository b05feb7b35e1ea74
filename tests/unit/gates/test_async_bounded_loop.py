"""The bounded loop in asyncio: what it shares with the threaded one is tested there."""

from __future__ import annotations

import asyncio
import threading

import pytest
from anyio.lowlevel import checkpoint

from headgate.errors import InvalidInput
from headgate.gates.async_bounded_loop import MAX_HUNG, AsyncBoundedLoop
from headgate.gates.loop_budget import LoopBudget
from headgate.testing import ManualClock
from tests.support.stepped_clock import SteppedClock, settle


@pytest.fixture
def clock():
    return ManualClock()


class Handler:
    """Notes what it is given; exceptions are raised, and some items wait until they are let go."""

    def __init__(self):
        self.seen = []
        self.gates = {}
        self.cancelled = []

    def hang_on(self, item):
        self.gates[item] = asyncio.Event()

    async def __call__(self, item):
        self.seen.append(item)
        try:
            if item in self.gates:
                await self.gates[item].wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        if isinstance(item, BaseException):
            raise item


async def test_items_are_handled_in_their_order(clock):
    handler = Handler()
    loop = AsyncBoundedLoop(handler, clock=clock)
    for item in (1, None, 3):
        loop.put(item)
    while await loop.poll():
        pass
    assert handler.seen == [1, None, 3]
    assert loop.stats().handled == 3


async def test_a_loop_in_a_task_handles_what_is_put():
    handler = Handler()
    async with AsyncBoundedLoop(handler, receive_timeout=None, clock=SteppedClock()) as loop:
        assert loop.running
        loop.put("first")
        await settle()
        loop.put("second")
        await settle()
    assert handler.seen == ["first", "second"]
    assert not loop.running


async def test_plain_functions_are_handlers_too(clock):
    seen = []
    loop = AsyncBoundedLoop(seen.append, clock=clock)
    loop.put(1)
    assert await loop.poll()
    assert seen == [1]


async def test_it_can_be_left_at_once_and_entered_again(clock):
    loop = AsyncBoundedLoop(Handler(), clock=clock)
    for _ in range(5):
        async with loop:
            pass
    async with loop:
        with pytest.raises(InvalidInput, match="runs already"):
            await loop.run()
    assert not loop.running


@pytest.mark.parametrize("handler_timeout", [None, 5.0])
@pytest.mark.parametrize("error", [ValueError("x"), RecursionError(), asyncio.CancelledError()])
async def test_what_a_handler_raises_is_counted_and_the_loop_goes_on(handler_timeout, error):
    handler = Handler()
    loop = AsyncBoundedLoop(handler, handler_timeout=handler_timeout, clock=SteppedClock())
    async with loop:
        loop.put(error)
        loop.put("next")
        await settle()
    assert handler.seen == [error, "next"]
    stats = loop.stats()
    cancelled = isinstance(error, asyncio.CancelledError)
    assert (stats.failed, stats.cancelled, stats.handled) == (not cancelled, cancelled, 1)


async def test_a_handler_whose_own_task_is_cancelled_is_not_the_loop():
    async def handle(item):
        if item == "cancel":
            asyncio.current_task().cancel()
            await checkpoint()
        seen.append(item)

    seen = []
    async with AsyncBoundedLoop(handle, clock=SteppedClock()) as loop:
        loop.put("cancel")
        loop.put("next")
        await settle()
    assert seen == ["next"]
    assert loop.stats().cancelled == 1


async def test_cancelling_the_loop_cancels_the_handler_at_work_and_leaves_the_rest():
    handler = Handler()
    handler.hang_on("long")
    loop = AsyncBoundedLoop(handler, clock=SteppedClock())
    loop.put("long")
    loop.put("next")
    task = asyncio.create_task(loop.run())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.cancelled == ["long"]
    assert loop.stats().waiting == 1
    assert not loop.running
    assert await loop.poll()
    assert handler.seen == ["long", "next"]


async def test_a_handler_that_hangs_is_cancelled_and_the_loop_goes_on():
    clock = SteppedClock()
    handler = Handler()
    handler.hang_on("stuck")
    async with AsyncBoundedLoop(handler, handler_timeout=5.0, clock=clock) as loop:
        loop.put("stuck")
        loop.put("next")
        await settle()
        assert handler.seen == ["stuck"]
        clock.advance(5.0)
        await settle()
        assert handler.seen == ["stuck", "next"]
    assert handler.cancelled == ["stuck"]
    stats = loop.stats()
    assert (stats.hung, stats.cancelled, stats.handled) == (1, 0, 1)


async def test_a_handler_that_ignores_its_cancellation_is_left_behind():
    clock = SteppedClock()
    release = asyncio.Event()
    seen = []

    async def handle(item):
        seen.append(item)
        while item == "stubborn" and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with AsyncBoundedLoop(handle, handler_timeout=5.0, clock=clock) as loop:
        loop.put("stubborn")
        loop.put("next")
        await settle()
        clock.advance(5.0)
        await settle()
        assert seen == ["stubborn"]
        clock.advance(1.0)  # of grace
        await settle()
        assert seen == ["stubborn", "next"]
        release.set()
        await settle()
        assert not loop._left_behind
    assert loop.stats().hung == 1
    assert loop.stats().handled == 1


async def test_so_many_are_left_behind_that_the_next_is_waited_for():
    clock = SteppedClock()
    release = asyncio.Event()

    async def handle(item):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with AsyncBoundedLoop(
        handle, handler_timeout=1.0, receive_timeout=None, clock=clock
    ) as loop:
        for item in range(MAX_HUNG + 2):
            loop.put(item)
        for _ in range(3 * MAX_HUNG):
            await settle()
            clock.advance(1.0)
        assert loop.stats().hung == MAX_HUNG
        assert loop.stats().waiting == 1
        release.set()
        await settle()
        assert loop.stats().waiting == 0
    assert loop.stats().handled == 2


async def test_the_budget_bounds_the_rate(clock):
    handler = Handler()
    moments = []

    async def handle(item):
        moments.append(clock.now_ns())

    budget = LoopBudget(3, clock=clock)
    loop = AsyncBoundedLoop(handle, budget, receive_timeout=None)
    for item in range(7):
        loop.put(item)
    loop.stop(drain=True)
    task = asyncio.create_task(loop.run())
    await checkpoint()
    loop.stop(drain=True)
    await task
    assert len(moments) == 7
    assert moments[3] - moments[0] > 1_000_000_000
    assert moments[6] - moments[3] > 1_000_000_000
    assert moments[6] < 3_000_000_000
    assert loop.stats().pauses > 0
    assert not handler.seen


async def test_when_nothing_comes_it_says_so():
    clock = SteppedClock()
    idle = []
    async with AsyncBoundedLoop(
        Handler(), receive_timeout=2.0, on_idle=lambda: idle.append(clock.seconds()), clock=clock
    ) as loop:
        for _ in range(3):
            await settle()
            clock.advance(2.0)
        await settle()
    assert idle == [2.0, 4.0, 6.0]
    assert loop.stats().idle == 3


async def test_an_idle_hook_that_raises_harms_nobody():
    clock = SteppedClock()

    def idle():
        raise ValueError

    async with AsyncBoundedLoop(Handler(), receive_timeout=2.0, on_idle=idle, clock=clock) as loop:
        await settle()
        clock.advance(2.0)
        await settle()
        loop.put(1)
        await settle()
    assert loop.stats().handled == 1


async def test_threads_put_too():
    handled = asyncio.Event()
    seen = []

    async def handle(item):
        seen.append(item)
        if len(seen) == 400:
            handled.set()

    async with AsyncBoundedLoop(handle, LoopBudget(10**6), receive_timeout=None) as loop:
        threads = [
            threading.Thread(
                target=lambda base: [loop.put(base + n) for n in range(100)], args=(b,)
            )
            for b in (0, 100, 200, 300)
        ]
        for thread in threads:
            thread.start()
        await handled.wait()
        for thread in threads:
            thread.join()
    assert sorted(seen) == list(range(400))


async def test_a_handler_may_stop_the_loop_it_runs_in(clock):
    loop = AsyncBoundedLoop(lambda item: loop.stop(), clock=clock)
    loop.put(1)
    loop.put(2)
    await loop.run()
    assert loop.stats().waiting == 1


async def test_leaving_the_block_cuts_a_drain_short_for_an_exception_only(clock):
    handler = Handler()
    async with AsyncBoundedLoop(handler, clock=clock) as loop:
        for item in range(50):
            loop.put(item)
        loop.stop(drain=True)
    assert handler.seen == list(range(50))

    async def leave_by_an_exception():
        async with loop:
            loop.put(1)
            loop.stop(drain=True)
            raise OSError("on")

    with pytest.raises(OSError, match="on"):
        await leave_by_an_exception()
    assert loop.stats().waiting == 1


def test_a_loop_whose_event_loop_was_closed_runs_again():
    loop = AsyncBoundedLoop(Handler())
    closed = asyncio.new_event_loop()
    closed.run_until_complete(loop.__aenter__())
    closed.run_until_complete(checkpoint())
    assert loop.running
    first = loop._task
    closed.close()
    assert not loop.running

    async def again():
        async with loop:
            assert loop.running
            first._log_destroy_pending = False  # asyncio would complain, as it should
            first.get_coro().close()  # what remains of it must not be taken for the new one
            assert loop.running

    asyncio.run(again())
    assert not loop.running


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"handler": 5}, "handler must be callable"),
        ({"budget": 100}, "budget must be a LoopBudget, got int"),
        ({"capacity": 0}, "capacity must be 1 to"),
        ({"overflow": "drop_all"}, "overflow must be one of drop_oldest, drop_newest"),
        ({"receive_timeout": -1}, "receive_timeout must be above 0"),
        ({"handler_timeout": float("inf")}, "handler_timeout must be above 0"),
        ({"on_idle": 1}, "on_idle must be callable"),
        ({"on_error": 1}, "on_error must be callable"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InvalidInput, match=message):
        AsyncBoundedLoop(**{"handler": print, **settings})
