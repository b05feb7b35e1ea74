"""Waiting for a permit: threads and tasks, in every order that matters."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from anyio.lowlevel import checkpoint

from headgate.errors import LineFull, Overloaded
from headgate.gates.adaptive_limiter import AdaptiveLimiter
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock, settle


def fixed(clock, limit=1, **settings):
    return AdaptiveLimiter("fixed", initial=limit, min=1, clock=clock, **settings)


# Threads ----------------------------------------------------------------------------------------


class Waiting(threading.Thread):
    """A thread that asks for a permit, and what it got."""

    def __init__(self, limiter, clock, timeout=None):
        super().__init__(daemon=True)
        self.limiter = limiter
        self.clock = clock
        self.timeout = timeout
        self.permit = None
        self.error = None

    def run(self):
        try:
            self.permit = self.limiter.acquire(self.timeout)
        except Overloaded as error:
            self.error = error

    def begin(self, waiting):
        self.start()
        self.clock.until_waiting(waiting)
        return self

    def finish(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        return self


def test_threads_are_served_in_the_order_of_asking():
    clock = SteppedClock()
    limiter = fixed(clock)
    first = limiter.acquire_nowait()
    waiting = [Waiting(limiter, clock).begin(number + 1) for number in range(3)]
    assert limiter.stats().waiting == 3
    for each in waiting:
        first.succeeded()
        first = each.finish().permit
        assert limiter.in_flight == 1
    first.succeeded()
    assert limiter.in_flight == 0


def test_nobody_slips_past_those_who_wait():
    clock = SteppedClock()
    limiter = fixed(clock)
    first = limiter.acquire_nowait()
    waiting = Waiting(limiter, clock).begin(1)
    first.succeeded()
    with pytest.raises(Overloaded):
        limiter.acquire_nowait()
    assert waiting.finish().permit.held


def test_a_thread_gives_up_at_its_time():
    clock = SteppedClock()
    limiter = fixed(clock)
    first = limiter.acquire_nowait()
    waiting = Waiting(limiter, clock, timeout=2.0).begin(1)
    clock.advance(2.0)
    assert waiting.finish().error.decision.allowed is False
    assert limiter.stats().waiting == 0
    first.succeeded()
    assert limiter.in_flight == 0
    assert limiter.stats().refused == 1


def test_who_waits_takes_what_a_lease_gives_back():
    clock = SteppedClock()
    limiter = fixed(clock, lease=5.0)
    limiter.acquire_nowait()
    waiting = Waiting(limiter, clock).begin(1)
    clock.advance(5.0)
    assert waiting.finish().permit.held
    assert limiter.stats().expired == 1


@pytest.mark.parametrize("years", [1, -1])
def test_a_clock_that_jumps_while_somebody_waits(years):
    clock = ManualClock(start_ns=2 * 365 * 86_400 * 10**9)
    limiter = fixed(clock, lease=50.0)
    limiter.acquire_nowait()
    original = clock.wait_for
    jumps = [years * 365 * 86_400.0]

    def wait_for(signal, seconds):
        assert seconds is None or seconds <= 5.0
        if jumps:
            clock.advance(jumps.pop())
        else:
            original(signal, seconds)

    clock.wait_for = wait_for
    if years > 0:
        assert limiter.acquire(5.0).held, "the lease is over in the new time"
    else:
        with pytest.raises(Overloaded):
            limiter.acquire(5.0)


def test_a_full_line_is_said_at_once():
    clock = SteppedClock()
    limiter = fixed(clock, max_waiting=1)
    first = limiter.acquire_nowait()
    waiting = Waiting(limiter, clock).begin(1)
    with pytest.raises(LineFull):
        limiter.acquire(1.0)
    first.succeeded()
    waiting.finish().permit.succeeded()
    limiter.acquire(1.0)


def test_no_time_to_wait_is_a_plain_no():
    clock = SteppedClock()
    limiter = fixed(clock)
    limiter.acquire(0).succeeded()
    limiter.acquire(0.0)
    with pytest.raises(Overloaded):
        limiter.acquire(0)


def test_a_higher_limit_lets_several_in_at_once():
    clock = ManualClock(start_ns=10**15)
    limiter = AdaptiveLimiter("aimd", initial=2, min=1, clock=clock)
    limiter._rule.limit = 1
    first = limiter.acquire_nowait()
    places = [limiter._ask(None, lambda _: Silent()) for _ in range(3)]
    limiter._rule.limit = 3
    first.ignored()
    assert [place.permit is not None for place in places] == [True, True, True]


class Silent:
    def __init__(self):
        self.woken = 0

    def wake(self):
        self.woken += 1

    def is_gone(self):
        return False


def test_what_interrupts_a_thread_that_waits_leaves_the_line():
    clock = ManualClock(start_ns=10**15)
    limiter = fixed(clock)
    first = limiter.acquire_nowait()

    def interrupt(signal, seconds):
        raise KeyboardInterrupt

    clock.wait_for = interrupt
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(5.0)
    assert limiter.stats().waiting == 0
    first.succeeded()
    assert limiter.in_flight == 0


def test_what_interrupts_a_thread_that_was_just_served_serves_the_next():
    clock = ManualClock(start_ns=10**15)
    limiter = fixed(clock)
    first = limiter.acquire_nowait()
    behind = []

    def interrupt(signal, seconds):
        behind.append(limiter._ask(None, lambda _: Silent()))
        first.succeeded()
        assert signal.is_set()
        raise KeyboardInterrupt

    clock.wait_for = interrupt
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(5.0)
    assert behind[0].permit is not None
    assert limiter.in_flight == 1


# Tasks ------------------------------------------------------------------------------------------


async def test_tasks_are_served_in_the_order_of_asking():
    limiter = fixed(ManualClock())
    order = []

    async def work(name):
        async with limiter.guard(timeout=None):
            order.append(name)
            await checkpoint()

    await asyncio.gather(*(work(name) for name in "abcd"))
    assert order == list("abcd")
    assert limiter.in_flight == 0


async def test_a_task_gives_up_at_its_time():
    clock = ManualClock()
    limiter = fixed(clock)
    limiter.acquire_nowait()
    with pytest.raises(Overloaded):
        await limiter.acquire_async(3.0)
    assert clock.now_ns() == 3 * 10**9
    assert limiter.stats().waiting == 0


async def test_a_guard_that_does_not_wait():
    limiter = fixed(ManualClock())
    async with limiter.guard():
        with pytest.raises(Overloaded):
            async with limiter.guard():
                pass


async def test_a_task_takes_what_a_thread_gives_back():
    limiter = fixed(SteppedClock())
    first = limiter.acquire_nowait()
    task = asyncio.create_task(limiter.acquire_async())
    await settle()
    thread = threading.Thread(target=first.succeeded)
    thread.start()
    thread.join(PATIENCE)
    permit = await asyncio.wait_for(task, PATIENCE)
    assert permit.held


def test_a_task_of_a_loop_that_was_closed_is_passed_over():
    limiter = fixed(SteppedClock())
    first = limiter.acquire_nowait()

    async def leave_one_waiting():
        coroutine = limiter.acquire_async()
        task = asyncio.ensure_future(coroutine)
        await settle()
        return task

    loop = asyncio.new_event_loop()
    abandoned = loop.run_until_complete(leave_one_waiting())
    abandoned._log_destroy_pending = False
    loop.close()
    assert limiter.stats().waiting == 1
    place = limiter._ask(None, lambda _: Silent())
    first.succeeded()
    assert place.permit is not None
    del abandoned


STEPS = ("release", "cancel b", "cancel c", "release")


@pytest.mark.parametrize("order", sorted(set(itertools.permutations(STEPS))))
@pytest.mark.parametrize("pauses", list(itertools.product([False, True], repeat=3)))
async def test_whatever_the_order_of_releases_and_cancellations(order, pauses):
    """Two in flight, b, c and d wait. However it goes, d is served and no permit is lost.

    Where there is no pause, a step comes before the woken task has run.
    """
    limiter = fixed(SteppedClock(), 2)
    held = [limiter.acquire_nowait(), limiter.acquire_nowait()]
    tasks = {}
    for name in "bcd":
        tasks[name] = asyncio.create_task(limiter.acquire_async())
        await settle()
    for number, step in enumerate(order):
        if step == "release":
            held.pop().succeeded()
        else:
            tasks[step[-1]].cancel()
        if number < 3 and pauses[number]:
            await settle()
    served = []
    while not all(task.done() for task in tasks.values()) or len(served) < len(granted(tasks)):
        await settle()
        stats = limiter.stats()
        assert stats.waiting == 0 or stats.in_flight == 2, "nobody waits beside a free place"
        for name, permit in granted(tasks).items():
            if name not in served:
                served.append(name)
                assert permit.ignored()
    assert served[-1] == "d"
    assert limiter.in_flight == 0


def granted(tasks):
    """The permits of those tasks that have one."""
    done = {name: task for name, task in tasks.items() if task.done() and not task.cancelled()}
    return {name: task.result() for name, task in done.items()}
