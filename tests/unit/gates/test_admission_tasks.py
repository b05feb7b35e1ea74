"""The admission queue, for tasks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading

import pytest
from anyio.lowlevel import checkpoint

from headgate.errors import Evicted, LineFull, Overloaded, QueuedTooLong
from headgate.gates.admission_queue import AdmissionQueue
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock, settle


class Crowd:
    """Tasks that are let in one after another, and stay until they are told to go."""

    def __init__(self, queue: AdmissionQueue) -> None:
        self.queue = queue
        self.order: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self, name: str, **asking: object) -> asyncio.Task[None]:
        self.doors[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name, asking))
        await settle()
        return self.tasks[name]

    async def go(self, name: str) -> None:
        self.doors[name].set()
        await settle()

    async def _visit(self, name: str, asking: dict[str, object]) -> None:
        async with self.queue.admit(**asking):
            self.order.append(name)
            await self.doors[name].wait()


def assert_empty(queue: AdmissionQueue) -> None:
    assert (queue.in_flight, queue.waiting) == (0, 0)


async def test_a_free_seat_is_given_at_once_and_given_back():
    queue = AdmissionQueue(2, clock=ManualClock())
    async with queue.admit() as one, queue.admit():
        assert queue.in_flight == 2
        assert one.waited == 0.0
    assert_empty(queue)


async def test_those_who_wait_come_in_when_others_leave():
    crowd = Crowd(AdmissionQueue(1, clock=SteppedClock()))
    for name in "abc":
        await crowd.join(name)
    assert crowd.order == ["a"]
    await crowd.go("a")
    await crowd.go("b")
    assert crowd.order == ["a", "b", "c"]
    await crowd.go("c")
    assert_empty(crowd.queue)


async def test_manual_time_lets_many_wait_without_help():
    clock = ManualClock()
    queue = AdmissionQueue(2, clock=clock)
    waits = []

    async def work() -> None:
        async with queue.admit() as admission:
            waits.append(round(admission.waited, 3))
            await clock.sleep_async(0.1)

    await asyncio.gather(*[work() for _ in range(6)])
    assert waits == [0, 0, 0.1, 0.1, 0.2, 0.2]
    assert_empty(queue)


async def test_a_deadline_that_passes_raises_and_leaves():
    clock = ManualClock()
    queue = AdmissionQueue(1, clock=clock)
    async with queue.admit():
        with pytest.raises(QueuedTooLong) as refused:
            async with queue.admit(deadline=0.25, flow="tenant"):
                pytest.fail("it must not be let in")
        assert clock.now_ns() == 250_000_000
        assert queue.waiting == 0
    assert isinstance(refused.value, Overloaded)
    assert refused.value.key == "tenant"
    assert refused.value.decision.limit == 1
    assert 0.1 <= refused.value.decision.retry_after <= 0.2
    assert_empty(queue)


async def test_the_longest_wait_of_the_queue_counts_too():
    clock = ManualClock()
    queue = AdmissionQueue(1, max_wait=0.5, clock=clock)
    async with queue.admit():
        with pytest.raises(QueuedTooLong):
            async with queue.admit(deadline=60):
                pytest.fail("it must not be let in")
        assert clock.now_ns() == 500_000_000


async def test_a_deadline_of_zero_never_waits():
    queue = AdmissionQueue(1, clock=ManualClock())
    async with queue.admit(deadline=0):
        with pytest.raises(QueuedTooLong):
            async with queue.admit(deadline=0):
                pytest.fail("it must not be let in")
    assert_empty(queue)


async def test_more_urgent_work_takes_the_place_of_one_that_waits():
    crowd = Crowd(AdmissionQueue(1, max_waiting=1, clock=SteppedClock()))
    await crowd.join("a")
    low = await crowd.join("low", priority="low")
    high = await crowd.join("high", priority="high")
    with pytest.raises(Evicted, match="gave way"):
        await low
    with pytest.raises(LineFull, match="so many wait"):
        await (await crowd.join("another", priority="normal"))
    await crowd.go("a")
    assert crowd.order == ["a", "high"]
    await crowd.go("high")
    await high
    assert_empty(crowd.queue)


@pytest.mark.parametrize("place", range(3))
async def test_cancelling_one_that_waits_gives_its_place_back(place: int):
    crowd = Crowd(AdmissionQueue(1, clock=SteppedClock()))
    await crowd.join("holder")
    tasks = [await crowd.join(name) for name in "abc"]
    tasks[place].cancel()
    await settle()
    assert crowd.queue.waiting == 2
    for name in ["holder", *"abc"]:
        await crowd.go(name)
    assert crowd.order == ["holder", *(name for name in "abc" if name != "abc"[place])]
    assert tasks[place].cancelled()
    assert_empty(crowd.queue)


async def test_cancelled_in_the_very_moment_it_is_seated_it_passes_the_seat_on():
    crowd = Crowd(AdmissionQueue(1, clock=SteppedClock()))
    holder = await crowd.join("holder")
    a, _ = await crowd.join("a"), await crowd.join("b")
    crowd.doors["holder"].set()
    await holder  # "a" has the seat now, and has not run since
    assert crowd.queue.in_flight == 1
    assert crowd.order == ["holder"]
    a.cancel()
    await settle()
    assert crowd.order == ["holder", "b"]
    await crowd.go("b")
    assert_empty(crowd.queue)


async def test_cancelled_in_the_very_moment_it_is_evicted_or_late_it_leaves_nothing():
    clock = SteppedClock()
    crowd = Crowd(AdmissionQueue(1, max_waiting=1, clock=clock))
    await crowd.join("holder")
    low = await crowd.join("low", priority="low")
    crowd.doors["high"] = asyncio.Event()
    high = asyncio.create_task(crowd._visit("high", {"priority": "high"}))
    await checkpoint()  # "low" is evicted, and has not run since
    low.cancel()
    await settle()
    assert low.cancelled()
    clock.advance(1.0)
    high.cancel()
    await settle()
    assert high.cancelled()
    await crowd.go("holder")
    assert_empty(crowd.queue)


def cancel_after(steps: int) -> tuple[bool, list[str], AdmissionQueue]:
    """One that waits, driven by hand, and cancelled after so many steps; another waits behind it."""
    queue = AdmissionQueue(1, clock=ManualClock())
    order: list[str] = []

    async def visit(name: str) -> None:
        async with queue.admit():
            order.append(name)
            await checkpoint()

    async def main() -> bool:
        holder = queue.admit()
        await holder.__aenter__()
        first, second = (asyncio.create_task(visit(name)) for name in ("first", "second"))
        for step in range(30):
            if step == steps:
                first.cancel()
            if step == 6:
                await holder.__aexit__(None, None, None)
            await checkpoint()
        await asyncio.wait([first, second], timeout=PATIENCE)
        assert second.done()
        assert not second.cancelled()
        return first.cancelled()

    return asyncio.run(main()), order, queue


@pytest.mark.parametrize("steps", range(14))
def test_cancelled_after_any_step_it_gives_back_what_it_has(steps: int):
    _, order, queue = cancel_after(steps)
    assert order[-1] == "second"
    assert_empty(queue)
    assert queue.stats().admitted[2] >= 2


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_in_whatever_order_tasks_end_all_come_in(order: tuple[int, ...]):
    queue = AdmissionQueue(2, clock=SteppedClock())
    doors = [asyncio.Event() for _ in range(6)]
    done: list[int] = []

    async def visit(n: int) -> None:
        async with queue.admit(cost=1 + n % 2):
            await doors[n].wait()
        done.append(n)

    tasks = [asyncio.create_task(visit(n)) for n in range(6)]
    for n in (*order, 4, 5):
        doors[n].set()
        await settle()
    await asyncio.gather(*tasks)
    assert sorted(done) == list(range(6))
    assert_empty(queue)


async def test_an_outer_timeout_ends_the_wait():
    queue = AdmissionQueue(1)
    async with queue.admit():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), queue.admit():
                pytest.fail("it must not be let in")
    assert_empty(queue)


async def test_a_deadline_on_the_real_clock():
    queue = AdmissionQueue(1)
    async with queue.admit():
        with pytest.raises(QueuedTooLong):
            async with queue.admit(deadline=0.003):
                pytest.fail("it must not be let in")
    assert_empty(queue)


async def test_an_exception_in_the_block_gives_the_seat_back():
    queue = AdmissionQueue(1)
    with pytest.raises(ZeroDivisionError):
        async with queue.admit():
            raise ZeroDivisionError
    assert_empty(queue)


async def test_tasks_wait_for_threads_and_threads_for_tasks():
    queue = AdmissionQueue(1)
    order: list[str] = []

    def work() -> None:
        with queue.admit(deadline=PATIENCE):
            order.append("thread")

    thread = threading.Thread(target=work)
    async with queue.admit():
        thread.start()
        while not queue.waiting:
            await checkpoint()
        order.append("task")
    await asyncio.to_thread(thread.join, PATIENCE)
    assert order == ["task", "thread"]
    with queue.admit():
        waiting = asyncio.create_task(asyncio.to_thread(work))
        while not queue.waiting:
            await checkpoint()
    await waiting
    assert_empty(queue)


def test_a_loop_that_was_closed_keeps_no_seat():
    queue = AdmissionQueue(1)
    holder = queue.admit()
    holder.__enter__()
    loop = asyncio.new_event_loop()

    async def visit() -> None:
        async with queue.admit():
            pytest.fail("nobody is there")

    coroutine = visit()
    task = loop.create_task(coroutine)
    loop.run_until_complete(checkpoint())
    assert queue.waiting == 1
    loop.close()
    holder.release()
    assert_empty(queue)
    with queue.admit(deadline=0):
        pass
    coroutine.close()
    task._log_destroy_pending = False
    del task
    gc.collect()
    assert_empty(queue)


def test_a_coroutine_that_is_thrown_away_while_it_waits_or_works_leaves():
    queue = AdmissionQueue(1)

    async def visit(door: asyncio.Event) -> None:
        async with queue.admit():
            await door.wait()

    async def main() -> None:
        door = asyncio.Event()
        working, waiting, other = visit(door), visit(door), visit(door)
        working.send(None)
        waiting.send(None)
        other.send(None)
        assert (queue.in_flight, queue.waiting) == (1, 2)
        waiting.close()
        assert queue.waiting == 1
        working.close()  # "other" has its seat, and is thrown away before it notices
        assert (queue.in_flight, queue.waiting) == (1, 0)
        other.close()

    asyncio.run(main())
    assert_empty(queue)


async def test_one_that_is_larger_than_the_rest_comes_in_too():
    crowd = Crowd(AdmissionQueue(4, clock=SteppedClock()))
    for n in range(4):
        await crowd.join(f"h{n}")
    await crowd.join("large", cost=4)
    await crowd.join("small")
    for n in range(4):
        assert "small" not in crowd.order
        await crowd.go(f"h{n}")
    assert crowd.order[4:] == ["large"]
    await crowd.go("large")
    await crowd.go("small")
    await asyncio.gather(*crowd.tasks.values())
    assert_empty(crowd.queue)


async def test_more_seats_let_those_in_who_wait():
    crowd = Crowd(AdmissionQueue(1, clock=SteppedClock()))
    for name in "abc":
        await crowd.join(name)
    crowd.queue.seats = 3
    await settle()
    assert crowd.order == ["a", "b", "c"]
    crowd.queue.seats = 1
    assert crowd.queue.in_flight == 3
    for name in "abc":
        await crowd.go(name)
    assert_empty(crowd.queue)
