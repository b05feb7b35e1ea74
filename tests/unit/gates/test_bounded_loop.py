"""The bounded loop in threads: order, overflow, budget, and handlers that misbehave."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.errors import InvalidInput
from headgate.gates.bounded_loop import MAX_HUNG, BoundedLoop
from headgate.gates.loop_budget import LoopBudget
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock


def emptied(loop):
    while loop.poll():
        pass
    return loop


def until(event):
    assert event.wait(PATIENCE), "it did not happen"


async def coroutine_function(item):
    raise AssertionError


class Handler:
    """Notes what it is given; some items make it raise or hang."""

    def __init__(self):
        self.seen = []
        self.entered = {}
        self.leave = {}
        self.threads = {}

    def hang_on(self, item):
        self.entered[item] = threading.Event()
        self.leave[item] = threading.Event()

    def __call__(self, item):
        self.seen.append(item)
        if item in self.entered:
            self.threads[item] = threading.current_thread()
            self.entered[item].set()
            until(self.leave[item])
        if isinstance(item, BaseException):
            raise item


# In the caller's thread ------------------------------------------------------------------------


def test_items_are_handled_in_their_order():
    handler = Handler()
    loop = BoundedLoop(handler, clock=ManualClock())
    assert all(loop.put(item) for item in (1, None, 3))
    emptied(loop)
    assert handler.seen == [1, None, 3]
    assert loop.stats()._asdict() == {
        **dict.fromkeys(loop.stats()._fields, 0),
        "received": 3,
        "handled": 3,
        "peak": 3,
    }


def test_the_oldest_gives_way():
    handler = Handler()
    loop = BoundedLoop(handler, capacity=2, overflow="drop_oldest", clock=ManualClock())
    assert [loop.put(item) for item in (1, 2, 3)] == [True, True, True]
    assert emptied(loop).stats().dropped == 1
    assert handler.seen == [2, 3]


def test_the_newest_gives_way():
    handler = Handler()
    loop = BoundedLoop(handler, capacity=2, overflow="drop_newest", clock=ManualClock())
    assert [loop.put(item) for item in (1, 2, 3)] == [True, True, False]
    assert emptied(loop).stats().dropped == 1
    assert handler.seen == [1, 2]


def test_what_has_no_room_is_given_to_a_function():
    spilled = []
    loop = BoundedLoop(Handler(), capacity=1, overflow=spilled.append, clock=ManualClock())
    assert [loop.put(item) for item in (1, 2, 3)] == [True, False, False]
    assert spilled == [2, 3]
    assert loop.stats().diverted == 2
    assert loop.stats().dropped == 0


def test_an_overflow_function_that_raises_harms_nobody(caplog):
    def spill(item):
        raise ValueError(item)

    loop = BoundedLoop(Handler(), capacity=1, overflow=spill, clock=ManualClock())
    assert [loop.put(item) for item in (1, 2)] == [True, False]
    assert "overflow raised" in caplog.text
    assert emptied(loop).stats().handled == 1


def test_an_overflow_function_may_put_something_itself():
    loop = BoundedLoop(Handler(), capacity=1, overflow=lambda item: item > 0 and loop.put(item - 1))
    assert not (loop.put(0) and loop.put(5))
    assert loop.stats().received == 7


def test_the_budget_bounds_the_rate():
    clock = ManualClock()
    handler = Handler()
    budget = LoopBudget(3, clock=clock)
    loop = BoundedLoop(handler, budget)
    for item in range(5):
        loop.put(item)
    emptied(loop)
    assert handler.seen == [0, 1, 2]
    assert loop.stats().pauses == 1
    clock.advance(1.1)
    emptied(loop)
    assert handler.seen == [0, 1, 2, 3, 4]


def test_the_default_budget_is_that_of_the_network():
    loop = BoundedLoop(Handler(), capacity=2_000, clock=ManualClock())
    for item in range(1_500):
        loop.put(item)
    assert emptied(loop).stats().handled == 1_000


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), RecursionError(), asyncio.CancelledError()]
)
def test_what_a_handler_raises_is_counted_and_the_loop_goes_on(error):
    handler = Handler()
    told = []
    loop = BoundedLoop(
        handler, on_error=lambda *arguments: told.append(arguments), clock=ManualClock()
    )
    loop.put(error)
    loop.put("next")
    emptied(loop)
    assert handler.seen == [error, "next"]
    stats = loop.stats()
    cancelled = isinstance(error, asyncio.CancelledError)
    assert (stats.failed, stats.cancelled, stats.handled) == (not cancelled, cancelled, 1)
    assert told == ([] if cancelled else [(error, error)])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_what_is_meant_for_the_program_reaches_it_and_the_loop_stays_usable(error):
    handler = Handler()
    loop = BoundedLoop(handler, clock=ManualClock())
    loop.put(error)
    loop.put("next")
    with pytest.raises(type(error)):
        loop.poll()
    assert loop.poll()
    assert handler.seen == [error, "next"]


def test_an_error_hook_that_raises_harms_nobody(caplog):
    def hook(error, item):
        raise KeyError

    loop = BoundedLoop(Handler(), on_error=hook, clock=ManualClock())
    loop.put(ValueError())
    assert emptied(loop).stats().failed == 1
    assert "on_error raised" in caplog.text


def test_a_flood_of_failures_is_no_flood_of_log_lines(caplog):
    loop = BoundedLoop(Handler(), clock=ManualClock())
    for _ in range(500):
        loop.put(ValueError())
    assert emptied(loop).stats().failed == 500
    assert len(caplog.records) == 9


def test_progress_is_a_handler_that_ends_well():
    clock = ManualClock()
    budget = LoopBudget(2, clock=clock, uniform=lambda: 0.0)
    loop = BoundedLoop(Handler(), budget)
    for item in (ValueError(), ValueError(), "good"):
        loop.put(item)
    emptied(loop)
    loop.poll()
    assert budget.next_pause() == 0.0225
    clock.advance(2)
    emptied(loop)
    assert budget.next_pause() == 0.01


# In threads ----------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def handler():
    return Handler()


def test_a_loop_with_a_thread_of_its_own_handles_what_is_put(clock, handler):
    handler.hang_on("last")
    with BoundedLoop(handler, receive_timeout=None, clock=clock) as loop:
        assert loop.running
        loop.put("first")
        loop.put("last")
        until(handler.entered["last"])
        handler.leave["last"].set()
    assert not loop.running
    assert handler.seen == ["first", "last"]
    assert loop.stats().handled == 2


def test_it_can_be_left_at_once_and_entered_again(clock, handler):
    loop = BoundedLoop(handler, clock=clock)
    for turn in range(20):
        with loop:
            pass
        loop.put(turn)
    assert not loop.running
    with pytest.raises(InvalidInput, match="runs already"), loop:
        loop.run()


@pytest.mark.parametrize("handler_timeout", [None, 30.0])
def test_a_handler_may_stop_the_loop_it_runs_in(clock, handler_timeout):
    loop = BoundedLoop(lambda item: loop.stop(), handler_timeout=handler_timeout, clock=clock)
    loop.put(1)
    loop.put(2)
    loop.run()
    assert loop.stats().handled == 1
    assert loop.stats().waiting == 1


@pytest.mark.parametrize("handler_timeout", [None, 30.0])
def test_draining_handles_what_waits(clock, handler, handler_timeout):
    loop = BoundedLoop(handler, handler_timeout=handler_timeout, clock=clock)
    handler.hang_on("first")
    for item in ("first", "second", "third"):
        loop.put(item)
    thread = threading.Thread(target=loop.run)
    thread.start()
    until(handler.entered["first"])
    loop.stop(drain=True)
    handler.leave["first"].set()
    thread.join(PATIENCE)
    assert handler.seen == ["first", "second", "third"]
    assert loop.stats().waiting == 0


@pytest.mark.parametrize("handler_timeout", [None, 5.0])
def test_leaving_the_block_cuts_a_drain_short_for_an_exception_only(handler, handler_timeout):
    loop = BoundedLoop(handler, LoopBudget(10**6), handler_timeout=handler_timeout)
    with loop:
        for item in range(50):
            loop.put(item)
        loop.stop(drain=True)
    assert handler.seen == list(range(50))
    handler.hang_on(0)
    stop = loop.stop

    def stop_and_leave():
        stop()
        handler.leave[0].set()

    def leave_by_an_exception():
        with loop:
            loop.put(0)
            loop.put(1)
            until(handler.entered[0])
            loop.stop(drain=True)
            loop.stop = stop_and_leave
            raise OSError("on")

    with pytest.raises(OSError, match="on"):
        leave_by_an_exception()
    assert loop.stats().waiting == 1


def test_a_handler_that_hangs_is_left_behind(clock, handler):
    handler.hang_on("stuck")
    handler.hang_on("after")
    with BoundedLoop(handler, receive_timeout=None, handler_timeout=5.0, clock=clock) as loop:
        loop.put("stuck")
        loop.put("after")
        until(handler.entered["stuck"])
        clock.until_waiting(1)
        clock.advance(4.9)
        assert loop.stats().hung == 0
        clock.advance(0.2)  # the supervisor looks
        until(handler.entered["after"])
        assert loop.stats().hung == 1
        handler.leave["after"].set()
        handler.leave["stuck"].set()
        handler.threads["stuck"].join(PATIENCE)
        assert not handler.threads["stuck"].is_alive()
        handler.hang_on("later")
        loop.put("later")
        until(handler.entered["later"])
        handler.leave["later"].set()
    stats = loop.stats()
    assert (stats.handled, stats.hung) == (2, 1)


def test_so_many_hang_that_the_next_is_waited_for(clock, handler):
    for item in range(MAX_HUNG + 2):
        handler.hang_on(item)
    looked = threading.Semaphore(0)
    loop = BoundedLoop(handler, receive_timeout=None, handler_timeout=1.0, clock=clock)
    look = loop._leaves_behind

    def look_and_tell(*arguments):
        left = look(*arguments)
        looked.release()
        return left

    loop._leaves_behind = look_and_tell
    with loop:
        for item in range(MAX_HUNG + 2):
            loop.put(item)
        for item in range(MAX_HUNG):
            until(handler.entered[item])
            clock.until_waiting(1)
            clock.advance(1.0)
            assert looked.acquire(timeout=PATIENCE)
        until(handler.entered[MAX_HUNG])
        clock.until_waiting(1)
        clock.advance(1.0)
        assert looked.acquire(timeout=PATIENCE)
        assert loop.stats().hung == MAX_HUNG
        assert not handler.entered[MAX_HUNG + 1].is_set()
        handler.leave[MAX_HUNG].set()
        until(handler.entered[MAX_HUNG + 1])
        for leave in handler.leave.values():
            leave.set()


def test_leaving_waits_for_the_handler_at_work_and_no_longer_than_its_timeout(clock, handler):
    handler.hang_on("stuck")
    loop = BoundedLoop(handler, receive_timeout=None, handler_timeout=5.0, clock=clock)
    loop.put("stuck")
    thread = threading.Thread(target=loop.run)
    thread.start()
    until(handler.entered["stuck"])
    loop.stop()
    clock.until_waiting(1)
    clock.advance(5.0)
    thread.join(PATIENCE)
    assert not loop.running
    handler.leave["stuck"].set()


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), ValueError()])
def test_in_a_thread_of_the_loop_nothing_that_a_handler_raises_ends_it(clock, handler, error):
    handler.hang_on("next")
    with BoundedLoop(handler, receive_timeout=None, clock=clock) as loop:
        loop.put(error)
        loop.put("next")
        until(handler.entered["next"])
        handler.leave["next"].set()
    assert loop.stats().failed == 1
    assert loop.stats().handled == 1


def test_when_nothing_comes_it_says_so(clock, handler):
    idle = threading.Semaphore(0)
    loop = BoundedLoop(
        handler, receive_timeout=2.0, handler_timeout=None, on_idle=idle.release, clock=clock
    )
    with loop:
        for _ in range(3):
            clock.until_waiting(1)
            clock.advance(2.0)
            assert idle.acquire(timeout=PATIENCE)
        clock.until_waiting(1)
    assert loop.stats().idle == 3


def test_a_pause_of_the_budget_is_not_cut_short_by_what_comes(clock, handler):
    budget = LoopBudget(1, clock=clock, uniform=lambda: 0.0)
    handler.hang_on(2)
    loop = BoundedLoop(handler, budget, handler_timeout=None)
    loop.put(1)
    loop.put(2)
    with loop:
        clock.until_waiting(1)
        for item in range(3, 100):
            loop.put(item)
        clock.until_waiting(1)
        assert loop.stats().pauses == 1
        clock.advance(1.1)
        until(handler.entered[2])
        handler.leave[2].set()
    assert loop.stats().handled == 2


def test_a_fault_of_the_clock_is_raised_where_the_loop_runs(handler):
    clock = SteppedClock()
    budget = LoopBudget(5, clock=clock)
    loop = BoundedLoop(handler, budget)

    def broken():
        raise OSError("no time")

    budget._now = broken
    loop.put(1)
    with pytest.raises(OSError, match="no time"):
        loop.run()
    assert not loop.running


def test_many_threads_put_and_nothing_is_lost_or_counted_twice():
    seen = []
    done = threading.Event()

    def handle(item):
        seen.append(item)
        if len(seen) == 4_000:
            done.set()

    with BoundedLoop(handle, LoopBudget(10**6), capacity=4_000, receive_timeout=None) as loop:

        def work(base):
            for item in range(1_000):
                loop.put(base + item)

        threads = [threading.Thread(target=work, args=(1_000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        until(done)
    assert sorted(seen) == list(range(4_000))
    assert [item for item in seen if item < 1_000] == list(range(1_000))
    assert loop.stats().received == loop.stats().handled == 4_000


# Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"handler": 5}, "handler must be callable"),
        ({"handler": coroutine_function}, "an AsyncBoundedLoop does"),
        ({"on_idle": coroutine_function}, "on_idle must be a plain function"),
        ({"on_error": coroutine_function}, "on_error must be a plain function"),
        ({"overflow": coroutine_function}, "overflow must be a plain function"),
        ({"budget": 100}, "budget must be a LoopBudget, got int"),
        ({"capacity": 0}, "capacity must be 1 to"),
        ({"capacity": 1.5}, "capacity must be a whole number"),
        ({"overflow": "drop_all"}, "overflow must be one of drop_oldest, drop_newest"),
        ({"overflow": None}, "overflow must be one of"),
        ({"receive_timeout": 0}, "receive_timeout must be above 0"),
        ({"handler_timeout": float("nan")}, "handler_timeout must be above 0"),
        ({"handler_timeout": True}, "handler_timeout must be a number"),
        ({"on_idle": 1}, "on_idle must be callable"),
        ({"on_error": 1}, "on_error must be callable"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InvalidInput, match=message):
        BoundedLoop(**{"handler": print, **settings})
