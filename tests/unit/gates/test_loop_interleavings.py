"""Loops and callers at every point at which something else may happen: explored, not hoped for."""

from __future__ import annotations

import asyncio
import threading

import pytest
from anyio.lowlevel import checkpoint

from headgate.gates.async_bounded_loop import AsyncBoundedLoop
from headgate.gates.bounded_loop import BoundedLoop
from headgate.gates.loop_budget import LoopBudget
from headgate.gates.upstream import Upstream
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock, settle
from tests.unit.gates.test_answers import Response

TURNS = 30


@pytest.mark.parametrize("handler_timeout", [None, 5.0])
@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_loop_may_be_cancelled_anywhere(turns, handler_timeout):
    begun, ended = [], []

    async def handle(item):
        begun.append(item)
        await checkpoint()
        await checkpoint()
        ended.append(item)

    loop = AsyncBoundedLoop(
        handle, receive_timeout=None, handler_timeout=handler_timeout, clock=SteppedClock()
    )
    for item in range(3):
        loop.put(item)
    task = asyncio.create_task(loop.run())
    for _ in range(turns):
        await checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Each item was handled, or was begun and cancelled, or waits still; and in that order.
    assert not loop.running
    assert begun == list(range(len(begun)))
    assert len(begun) - len(ended) <= 1
    assert loop.stats().waiting == 3 - len(begun)
    loop.put(3)
    async with loop:
        await settle()
    assert begun == [0, 1, 2, 3]


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_loop_may_be_stopped_anywhere(turns):
    seen = []

    async def handle(item):
        await checkpoint()
        seen.append(item)

    loop = AsyncBoundedLoop(handle, receive_timeout=None, clock=SteppedClock())
    async with loop:
        for item in range(3):
            loop.put(item)
        for _ in range(turns):
            await checkpoint()
    assert seen == list(range(len(seen)))
    assert loop.stats().handled == len(seen) == 3 - loop.stats().waiting


@pytest.mark.parametrize("turns", range(TURNS))
async def test_an_item_may_come_anywhere(turns):
    seen = []
    loop = AsyncBoundedLoop(seen.append, receive_timeout=None, clock=SteppedClock())
    async with loop:
        loop.put(0)
        for _ in range(turns):
            await checkpoint()
        loop.put(1)
        await settle()
        assert seen == [0, 1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_item_that_comes_as_the_loop_goes_to_sleep_is_not_overlooked(moment):
    handled = threading.Event()
    loop = BoundedLoop(lambda _: handled.set(), receive_timeout=None, clock=SteppedClock())
    original = loop._inbox.wake_with

    def wake_with(wake):
        loop._inbox.wake_with = original
        if moment == "before":
            loop.put(1)
        sleeps = original(wake)
        if moment == "after":
            loop.put(1)
        return sleeps

    loop._inbox.wake_with = wake_with
    with loop:
        assert handled.wait(PATIENCE)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("handler_timeout", [None, 5.0])
def test_a_stop_that_comes_as_the_loop_goes_to_sleep_is_not_overlooked(
    drain, moment, handler_timeout
):
    loop = BoundedLoop(
        print, receive_timeout=None, handler_timeout=handler_timeout, clock=SteppedClock()
    )
    original = loop._inbox.wake_with

    def wake_with(wake):
        if moment == "before":
            loop.stop(drain=drain)
        sleeps = original(wake)
        if moment == "after":
            loop.stop(drain=drain)
        return sleeps

    loop._inbox.wake_with = wake_with
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_stop_that_comes_as_the_loop_begins_to_pause_is_not_overlooked():
    clock = SteppedClock()
    budget = LoopBudget(1, clock=clock)
    loop = BoundedLoop(print, budget, handler_timeout=None)
    budget.consume()
    take = loop._inbox.take

    def stopped_take(into):
        pause = take(into)
        loop.stop()
        return pause

    loop._inbox.take = stopped_take
    loop.put(1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_may_be_cancelled_anywhere(turns):
    search = Upstream("search", clock=ManualClock(), uniform=lambda: 0.0)
    attempts = []

    @search
    async def call():
        attempts.append(1)
        await checkpoint()
        return Response(503, {})

    task = asyncio.create_task(call())
    for _ in range(turns):
        await checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # What is paid for are the attempts after the first, and no wait that nothing came of.
    assert search.rules.budget.left("search") == 10.0 - max(0, len(attempts) - 1)


def test_two_calls_that_wait_for_one_token_take_turns():
    clock = ManualClock()
    search = Upstream("search", clock=clock, uniform=lambda: 0.0)
    rules = search.rules
    while rules.budget.left("search") > 1:
        rules.budget.take("search")
    for first, second in ((0, 1), (1, 0)):
        calls = [rules.begin("search", 0) for _ in range(2)]
        for call in calls:
            call.enter()
            assert call.ended(None, well=False, retryable=True) is not None
        clock.advance(0.2)
        assert calls[first].resume()
        assert not calls[second].resume()
        for _ in range(10):
            rules.budget.succeeded("search")
