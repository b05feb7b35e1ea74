"""The admission queue, for threads."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from headgate.backpressure.waiting_order import Candidate, Standing
from headgate.errors import Evicted, InvalidInput, LineFull, QueuedTooLong, RateLimited
from headgate.gates.admission_queue import AdmissionQueue
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


class Crowd:
    """Threads that are let in one after another, and stay until they are told to go."""

    def __init__(self, pool: ThreadPoolExecutor, seats: int = 1, **settings: object) -> None:
        self.clock = SteppedClock()
        self.queue = AdmissionQueue(seats, clock=self.clock, **settings)
        self.pool = pool
        self.order: list[str] = []
        self.doors: dict[str, threading.Event] = {}
        self.inside: dict[str, threading.Event] = {}
        self.futures: dict[str, Future[None]] = {}

    def join(self, name: str, *, waits: bool = True, **asking: object) -> Future[None]:
        self.doors[name] = threading.Event()
        self.inside[name] = threading.Event()
        before = self.queue.waiting
        self.futures[name] = self.pool.submit(self._visit, name, asking)
        if waits:
            self.clock.until_waiting(before + 1)
        else:
            assert self.inside[name].wait(PATIENCE)
        return self.futures[name]

    def go(self, name: str, follower: str | None = None) -> None:
        self.doors[name].set()
        self.futures[name].result(PATIENCE)
        if follower is not None:
            assert self.inside[follower].wait(PATIENCE)

    def _visit(self, name: str, asking: dict[str, object]) -> None:
        with self.queue.admit(**asking):
            self.order.append(name)
            self.inside[name].set()
            assert self.doors[name].wait(PATIENCE)


def assert_empty(queue: AdmissionQueue) -> None:
    assert (queue.in_flight, queue.waiting) == (0, 0)


def test_those_who_wait_come_in_when_others_leave(pool):
    crowd = Crowd(pool)
    crowd.join("a", waits=False)
    for name in "bcd":
        crowd.join(name)
    for name, follower in zip("abc", "bcd", strict=True):
        crowd.go(name, follower)
    crowd.go("d")
    assert crowd.order == list("abcd")
    assert_empty(crowd.queue)


def test_a_deadline_that_passes_raises_and_leaves():
    clock = ManualClock()
    queue = AdmissionQueue(1, clock=clock)
    with queue.admit():
        with pytest.raises(QueuedTooLong, match="no seat free in time"), queue.admit(deadline=0.25):
            pytest.fail("it must not be let in")
        assert clock.now_ns() == 250_000_000
        assert queue.waiting == 0
    assert_empty(queue)


def test_one_is_evicted_while_it_waits(pool):
    crowd = Crowd(pool, max_waiting=1)
    crowd.join("a", waits=False)
    low = crowd.join("low", priority="low")
    crowd.doors["high"] = threading.Event()
    crowd.inside["high"] = threading.Event()
    crowd.futures["high"] = pool.submit(crowd._visit, "high", {"priority": 0})
    with pytest.raises(Evicted):
        low.result(PATIENCE)
    crowd.go("a", "high")
    crowd.go("high")
    assert crowd.order == ["a", "high"]
    assert_empty(crowd.queue)


def test_time_that_passes_sends_several_away_and_lets_the_next_in(pool):
    crowd = Crowd(pool, max_wait=10.0)
    crowd.join("a", waits=False)
    hasty = [crowd.join(f"hasty {n}", deadline=1.0) for n in range(3)]
    crowd.join("patient", deadline=5.0)
    crowd.clock.advance(1.0)
    for future in hasty:
        with pytest.raises(QueuedTooLong):
            future.result(PATIENCE)
    crowd.go("a", "patient")
    crowd.go("patient")
    assert_empty(crowd.queue)


def test_releasing_early_lets_the_next_in_and_again_is_harmless(pool):
    crowd = Crowd(pool)
    with crowd.queue.admit() as admission:
        crowd.join("b")
        for _ in range(3):
            admission.release()
        assert crowd.inside["b"].wait(PATIENCE)
        assert crowd.queue.in_flight == 1
    assert crowd.queue.in_flight == 1
    crowd.go("b")
    assert_empty(crowd.queue)


def test_one_that_was_released_before_it_was_entered_is_not_let_in():
    queue = AdmissionQueue(1)
    admission = queue.admit()
    admission.release()
    with pytest.raises(InvalidInput, match="entered once"), admission:
        pytest.fail("it must not be let in")
    assert_empty(queue)


def test_an_admission_is_entered_once():
    queue = AdmissionQueue(2)
    admission = queue.admit()
    with admission:
        with pytest.raises(InvalidInput, match="entered once"), admission:
            pytest.fail("it must not be let in")
        assert queue.in_flight == 1
    with pytest.raises(InvalidInput, match="entered once"), admission:
        pytest.fail("it must not be let in")
    assert_empty(queue)


def test_all_own_refusals_are_rate_limited_and_none_is_the_callees_failure():
    queue = AdmissionQueue(1, max_waiting=1, clock=ManualClock())
    with queue.admit():
        for _ in range(2):
            with pytest.raises(RateLimited), queue.admit():
                pytest.fail("it must not be let in")


@pytest.mark.parametrize("places", range(3))
def test_an_interrupt_while_waiting_leaves(places: int):
    """As Ctrl-C does: raised out of the wait, wherever it is."""

    class Interrupting(ManualClock):
        waits = 0

        def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
            self.waits += 1
            if self.waits > places:
                raise KeyboardInterrupt
            signal.set()  # woken for nothing

    queue = AdmissionQueue(1, clock=Interrupting())
    holder = queue.admit()
    holder.__enter__()
    with pytest.raises(KeyboardInterrupt), queue.admit():
        pytest.fail("it must not be let in")
    assert (queue.in_flight, queue.waiting) == (1, 0)
    holder.release()
    assert_empty(queue)


def test_interrupted_in_the_very_moment_it_is_seated_it_passes_the_seat_on():
    class Interrupting(ManualClock):
        def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
            holder.release()
            assert queue.in_flight == 1
            raise KeyboardInterrupt

    queue = AdmissionQueue(1, clock=Interrupting())
    holder = queue.admit()
    holder.__enter__()
    with pytest.raises(KeyboardInterrupt), queue.admit():
        pytest.fail("it must not be let in")
    assert_empty(queue)


def test_time_that_goes_on_between_two_looks_does_not_let_it_in():
    """The clock reaches the deadline after the seating was asked and before the caller reads it."""
    moments = iter([0, 0, 0, *[10**9 - 1] * 2, *[10**9] * 50])
    clock = ManualClock()
    clock.now_ns = lambda: next(moments)
    clock.wait_for = lambda signal, seconds: None
    queue = AdmissionQueue(1, clock=clock)
    with queue.admit(), pytest.raises(QueuedTooLong), queue.admit():
        pytest.fail("it must not be let in")


def test_a_signal_handler_that_gives_seats_back_in_the_middle_of_a_change():
    """What interrupts a change in the same thread must neither deadlock nor spoil it."""
    queue = AdmissionQueue(2)
    admissions = [queue.admit() for _ in range(2)]
    for admission in admissions:
        admission.__enter__()
    inner = queue._seating.leave
    interrupted = []

    def leave(candidate: Candidate, now: int) -> list[Candidate]:
        if not interrupted:
            interrupted.append(True)
            admissions[1].release()  # as if a handler ran here
            assert queue.in_flight == 2
            with pytest.raises(LineFull), queue.admit():  # and it may not wait for itself
                pytest.fail("it must not be let in")
        return inner(candidate, now)

    queue._seating = _With(queue._seating, leave=leave)
    admissions[0].release()
    assert interrupted
    assert_empty(queue)


def test_one_that_leaves_after_the_last_look_of_a_change_is_not_forgotten():
    queue = AdmissionQueue(2)
    admissions = [queue.admit() for _ in range(2)]
    for admission in admissions:
        admission.__enter__()
    late = [admissions[1]._candidate]

    class Late(deque):
        """Somebody leaves just after it was seen to be empty, as a handler between two bytecodes does."""

        def __bool__(self) -> bool:
            is_filled = len(self) > 0
            if not is_filled and late:
                self.append(late.pop())
            return is_filled

    queue._leaving = Late()
    admissions[0].release()
    assert_empty(queue)


class _With:
    """Something with some of its methods replaced; compiled classes cannot be patched."""

    def __init__(self, inner: object, **replaced: object) -> None:
        self.__dict__.update(replaced)
        self.__dict__["_inner"] = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["_inner"], name)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_under_a_rain_of_signals_that_come_and_go_nothing_is_lost():
    queue = AdmissionQueue(2, max_waiting=5)
    handled = []

    def handler(number: int, frame: object) -> None:
        try:
            with queue.admit(deadline=0):
                handled.append(True)
        except RateLimited:
            handled.append(False)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        for _ in range(3000):
            with queue.admit(deadline=0):
                pass
    except RateLimited:
        pass  # the handler held both seats
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    assert_empty(queue)


@pytest.mark.slow
@pytest.mark.parametrize("discipline", ["priority", "fair", "codel"])
def test_many_threads_at_the_smallest_switch_interval(discipline: str):
    queue = AdmissionQueue(
        3, max_waiting=6, discipline=discipline, max_wait=0.05, target_delay=0.02
    )
    inside = threading.Semaphore(3)
    wrong: list[str] = []
    counts = {"in": 0, "out": 0}
    lock = threading.Lock()

    together = threading.Barrier(12)

    def visit(n: int) -> None:
        together.wait(PATIENCE)
        for turn in range(60):
            try:
                with queue.admit(
                    priority=(n + turn) % 4,
                    flow=f"{n % 3}",
                    deadline=None if turn % 3 else 0.0005,
                ):
                    if not inside.acquire(blocking=False):
                        wrong.append("more inside than seats")
                        return
                    for _ in range(300):  # at most, so that others come to wait meanwhile
                        if queue.waiting > (n + turn) % 6:
                            break
                    inside.release()
                with lock:
                    counts["in"] += 1
            except RateLimited:
                with lock:
                    counts["out"] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=visit, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert counts["in"] + counts["out"] == 12 * 60
    assert counts["in"] > 0
    stats = queue.stats()
    assert sum(stats.admitted) == counts["in"]
    assert sum(stats.refused) + sum(stats.evicted) + sum(stats.expired) == counts["out"]
    assert_empty(queue)
    assert queue._seating.outcomes[Standing.LEFT] == list(stats.admitted)
