"""Waiting for a turn, for tasks: `AsyncLimiter.acquire`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.errors import LineFull, RateLimited
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.limiter import Limiter
from headgate.gates.lines import Lines, Waiter
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock, settle


class Crowd:
    """Tasks that stand in line one after another, and note when their turn came."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []

    async def join(
        self, name: str, cost: int = 1, timeout: float | None = None
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self._take(name, cost, timeout))
        await settle()
        return task

    async def _take(self, name: str, cost: int, timeout: float | None) -> None:
        async with self.limiter.acquire("k", cost, timeout):
            self.order.append(name)


async def empty(limiter: AsyncLimiter) -> None:
    while await limiter.check("k"):
        pass


async def test_a_free_turn_comes_at_once():
    limiter = AsyncLimiter("1/second", burst=5, clock=ManualClock())
    async with limiter.acquire("k", 2) as decision:
        assert decision.remaining == 3
    assert (await limiter.acquire("k")).remaining == 2


async def test_it_waits_as_long_as_it_takes_and_no_longer():
    clock = ManualClock()
    limiter = AsyncLimiter("1/second", burst=5, clock=clock)
    await empty(limiter)
    async with limiter.acquire("k", 3):
        assert clock.now_ns() == 3 * 10**9


async def test_manual_time_lets_many_wait_without_help():
    clock = ManualClock()
    limiter = AsyncLimiter("1/second", clock=clock)

    async def take() -> int:
        async with limiter.acquire("k", timeout=60):
            return clock.now_ns() // 10**9

    assert await asyncio.gather(*[take() for _ in range(5)]) == [0, 1, 2, 3, 4]


async def test_a_known_wait_beyond_the_timeout_fails_at_once():
    clock = ManualClock()
    limiter = AsyncLimiter("1/second", burst=5, clock=clock)
    await empty(limiter)
    with pytest.raises(RateLimited) as refused:
        async with limiter.acquire("k", 3, timeout=2.999):
            pytest.fail("it must not pass")
    assert clock.now_ns() == 0
    assert refused.value.decision.retry_after == 3.0


async def test_turns_come_in_the_order_of_asking_and_large_costs_are_not_starved():
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", burst=50, clock=clock)
    await empty(limiter)
    crowd = Crowd(limiter)
    await crowd.join("large", cost=50)
    for name in "abc":
        await crowd.join(name)
    clock.advance(49.9)
    await settle()
    assert crowd.order == []
    for after, served in ((0.1, 1), (1, 2), (1, 3), (1, 4)):
        clock.advance(after)
        await settle()
        assert len(crowd.order) == served
    assert crowd.order == ["large", "a", "b", "c"]
    assert len(limiter.sync.lines) == 0


@pytest.mark.parametrize("place", range(3))
async def test_cancelling_one_leaves_the_line_intact_and_spends_nothing(place: int):
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", clock=clock)
    await empty(limiter)
    crowd = Crowd(limiter)
    tasks = [await crowd.join(name) for name in "abc"]
    tasks[place].cancel()
    await settle()
    for _ in range(2):
        clock.advance(1)
        await settle()
    assert crowd.order == [name for name in "abc" if name != "abc"[place]]
    assert tasks[place].cancelled()
    assert (await limiter.peek("k", 0)).remaining == 0
    clock.advance(1)
    assert (await limiter.peek("k", 0)).remaining == 1


async def test_the_head_cancelled_just_as_its_turn_comes_does_not_stop_the_line():
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", clock=clock)
    await empty(limiter)
    crowd = Crowd(limiter)
    head, _ = await crowd.join("a"), await crowd.join("b")
    clock.advance(1)
    head.cancel()
    await settle()
    assert crowd.order == ["b"]


async def test_an_outer_timeout_cancels_the_wait_and_spends_nothing():
    limiter = AsyncLimiter("1/hour")
    await empty(limiter)
    before = limiter.sync.stats().keys
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), limiter.acquire("k"):
            pass
    assert len(limiter.sync.lines) == 0
    assert limiter.sync.stats().keys == before


async def test_a_timeout_in_line_on_the_real_clock():
    limiter = AsyncLimiter("1/hour", algorithm="concurrency")
    await limiter.check("k")
    with pytest.raises(RateLimited):
        async with limiter.acquire("k", timeout=0.005):
            pass
    assert len(limiter.sync.lines) == 0


async def test_cancelled_while_delayed_it_gives_its_place_back():
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", burst=5, algorithm="leaky_bucket_queue", clock=clock)
    await limiter.check("k")
    before = await limiter.peek("k", 0)
    waiting = await Crowd(limiter).join("a")
    waiting.cancel()
    await settle()
    assert await limiter.peek("k", 0) == before


async def test_permits_are_handed_on():
    limiter = AsyncLimiter("1/minute", algorithm="concurrency", clock=SteppedClock())
    crowd = Crowd(limiter)
    async with limiter.acquire("k"):
        await crowd.join("a")
        await crowd.join("b")
        assert crowd.order == []
    await settle()
    assert crowd.order == ["a", "b"]
    assert (await limiter.peek("k", 0)).remaining == 1


async def test_a_line_has_an_end():
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", clock=clock)
    limiter.sync.lines = Lines(max_per_key=1)
    await empty(limiter)
    waiting = await Crowd(limiter).join("a")
    with pytest.raises(LineFull):
        await limiter.acquire("k")
    clock.advance(1)
    await waiting


async def test_threads_and_tasks_stand_in_one_line():
    clock = SteppedClock()
    limiter = AsyncLimiter("1/second", clock=clock)
    await empty(limiter)
    crowd = Crowd(limiter)
    await crowd.join("task 1")
    passed = threading.Event()

    def stand() -> None:
        with limiter.sync.acquire("k"):
            crowd.order.append("thread")
            passed.set()

    thread = threading.Thread(target=stand)
    thread.start()
    clock.until_waiting(1)
    last = await crowd.join("task 2")
    clock.advance(1)
    await settle()
    while limiter.sync.lines.waiting("k") > 2:
        await settle()
    clock.until_waiting(1)
    clock.advance(1)
    assert await asyncio.to_thread(passed.wait, PATIENCE)
    thread.join(PATIENCE)
    clock.advance(1)
    await asyncio.wait_for(last, PATIENCE)
    assert crowd.order == ["task 1", "thread", "task 2"]


def test_a_task_whose_loop_died_does_not_hold_up_the_line():
    clock = SteppedClock()
    limiter = Limiter("1/second", clock=clock)
    limiter.check("k")
    loop = asyncio.new_event_loop()
    join = loop.create_task(Crowd(AsyncLimiter.of(limiter)).join("dead"))
    dead = loop.run_until_complete(join)
    loop.close()
    assert limiter.lines.waiting("k") == 1
    clock._alarms.clear()
    clock.advance(1)
    with limiter.acquire("k", timeout=0):
        pass
    assert len(limiter.lines) == 0
    dead._log_destroy_pending = False
    dead.get_coro().close()


def test_whoever_cannot_be_woken_is_passed_over():
    woken: list[int] = []

    class Standing(Waiter):
        def is_gone(self) -> bool:
            return self.cost < 3

        def wake(self) -> None:
            woken.append(self.cost)

    lines = Lines()
    for cost in (1, 2, 3, 4):
        lines.join("k", Standing(cost))
    lines.nudge("k")
    assert woken == [3]
    assert lines.waiting("k") == 2
