"""Waiting for a turn, for threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from headgate.errors import InvalidInput, LineFull, RateLimited
from headgate.gates.limiter import Limiter
from headgate.gates.lines import Lines
from headgate.testing import ManualClock
from tests.support.stepped_clock import PATIENCE, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


class Crowd:
    """Threads that stand in line one after another, and note when their turn came."""

    def __init__(self, limiter: Limiter, clock: SteppedClock, pool: ThreadPoolExecutor) -> None:
        self.limiter = limiter
        self.clock = clock
        self.pool = pool
        self.order: list[str] = []
        self.left: list[Future[None]] = []

    def join(self, name: str, cost: int = 1, timeout: float | None = None) -> Future[None]:
        before = self.limiter.lines.waiting("k") if self.limiter.lines else 0
        future = self.pool.submit(self._take, name, cost, timeout)
        self.clock.until_waiting(before + 1)
        self.left.append(future)
        return future

    def _take(self, name: str, cost: int, timeout: float | None) -> None:
        with self.limiter.acquire("k", cost, timeout):
            self.order.append(name)


def empty(limiter: Limiter) -> None:
    while limiter.check("k"):
        pass


def test_a_free_turn_comes_at_once():
    clock = ManualClock()
    limiter = Limiter("1/second", burst=5, clock=clock)
    with limiter.acquire("k", 2) as decision:
        assert decision.allowed
        assert decision.remaining == 3
    assert clock.now_ns() == 0


def test_it_waits_as_long_as_it_takes_and_no_longer():
    clock = ManualClock()
    limiter = Limiter("1/second", burst=5, clock=clock)
    empty(limiter)
    with limiter.acquire("k", 3):
        assert clock.now_ns() == 3 * 10**9
    assert limiter.peek("k", 0).remaining == 0


def test_a_known_wait_beyond_the_timeout_fails_at_once():
    clock = ManualClock()
    limiter = Limiter("1/second", burst=5, clock=clock)
    empty(limiter)
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", 3, timeout=2.999):
        pytest.fail("it must not pass")
    assert clock.now_ns() == 0
    assert refused.value.decision.retry_after == 3.0
    assert refused.value.key == "k"
    assert len(limiter.lines) == 0


def test_a_wait_that_is_just_the_timeout_is_waited():
    clock = ManualClock()
    limiter = Limiter("1/second", clock=clock)
    empty(limiter)
    with limiter.acquire("k", timeout=1.0):
        assert clock.now_ns() == 10**9


def test_a_cost_that_never_fits_fails_at_once():
    limiter = Limiter("1/second", burst=5, clock=ManualClock())
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", 6):
        pytest.fail("it must not pass")
    assert refused.value.decision.never_fits
    assert limiter.peek("k").remaining == 5


def test_a_timeout_of_zero_never_waits():
    clock = ManualClock()
    limiter = Limiter("1/second", clock=clock)
    with limiter.acquire("k", timeout=0):
        pass
    with pytest.raises(RateLimited), limiter.acquire("k", timeout=0):
        pass
    assert clock.now_ns() == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), True])
def test_a_timeout_that_makes_no_sense_is_refused(timeout: float):
    with pytest.raises(InvalidInput, match="timeout must be >= 0"):
        Limiter("1/second", clock=ManualClock()).acquire("k", timeout=timeout)


def test_turns_come_in_the_order_of_asking(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    for name in "abcd":
        crowd.join(name)
    for served, future in enumerate(crowd.left, 1):
        assert crowd.order == list("abcd")[: served - 1]
        clock.advance(1)
        future.result(PATIENCE)
        clock.until_waiting(4 - served)
    assert crowd.order == list("abcd")
    assert len(limiter.lines) == 0


def test_a_large_cost_is_not_starved_by_small_ones(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", burst=50, clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    large = crowd.join("large", cost=50)
    small = [crowd.join(f"small {number}") for number in range(3)]
    clock.advance(49)  # enough for every small one, many times over
    clock.until_waiting(4)
    assert crowd.order == []
    clock.advance(1)
    large.result(PATIENCE)
    for left, future in zip((2, 1, 0), small, strict=True):
        clock.until_waiting(left + 1)
        clock.advance(1)
        future.result(PATIENCE)
    assert crowd.order == ["large", "small 0", "small 1", "small 2"]


def test_a_newcomer_does_not_overtake_even_if_its_cost_is_there(
    clock: SteppedClock, pool: ThreadPoolExecutor
):
    limiter = Limiter("1/second", burst=10, clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    crowd.join("large", cost=10)
    clock.advance(5)
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", timeout=0):
        pass
    assert not refused.value.decision.allowed
    assert refused.value.decision.retry_after > 0
    clock.until_waiting(1)
    clock.advance(5)
    crowd.left[0].result(PATIENCE)


def test_what_is_known_includes_those_in_front(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", burst=10, clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    crowd.join("four", cost=4)
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", 3, timeout=6.9):
        pass
    assert refused.value.decision.retry_after == 7.0
    second = crowd.join("three", cost=3, timeout=7.0)
    clock.advance(4)
    crowd.left[0].result(PATIENCE)
    clock.until_waiting(1)
    clock.advance(3)
    second.result(PATIENCE)


def test_what_is_known_reaches_beyond_what_fits_at_once(
    clock: SteppedClock, pool: ThreadPoolExecutor
):
    limiter = Limiter("1/second", clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    for name in "abcde":
        crowd.join(name)
    for _ in range(2):
        with pytest.raises(RateLimited) as refused, limiter.acquire("k", timeout=5.9):
            pass
        assert refused.value.decision.retry_after == 6.0
    crowd.join("f", timeout=6.0)
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", timeout=6.9):
        pass
    assert refused.value.decision.retry_after == 7.0
    limiter.refund("k")
    crowd.left[0].result(PATIENCE)
    clock.until_waiting(5)
    crowd.join("g", timeout=6.0)  # what was given back brings everybody forward
    for left in range(5, -1, -1):
        clock.advance(1)
        clock.until_waiting(left)
    assert crowd.order == list("abcdefg")


def test_a_timeout_in_line_leaves_the_line_in_order(clock: SteppedClock, pool: ThreadPoolExecutor):
    """What is known is a lower bound: a head that is overtaken by `check` makes others late."""
    limiter = Limiter("1/second", burst=2, clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    first = crowd.join("first", cost=2)
    late = crowd.join("late", timeout=3.0)  # known to be possible when it asked
    last = crowd.join("last")
    clock.advance(1)
    assert limiter.check("k")
    clock.advance(2)  # the head takes its two; the second is out of time
    first.result(PATIENCE)
    with pytest.raises(RateLimited):
        late.result(PATIENCE)
    clock.until_waiting(1)
    clock.advance(1)
    last.result(PATIENCE)
    assert crowd.order == ["first", "last"]
    assert len(limiter.lines) == 0


def test_lines_of_different_keys_do_not_meet(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", clock=clock)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    waiting = crowd.join("waits")
    with limiter.acquire("other", timeout=0) as decision:
        assert decision.allowed
    clock.advance(1)
    waiting.result(PATIENCE)


def test_a_refund_wakes_the_head(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/hour", clock=clock)
    empty(limiter)
    waiting = Crowd(limiter, clock, pool).join("waits")
    limiter.refund("k")
    waiting.result(PATIENCE)
    assert clock.seconds() == 0


def test_a_reset_wakes_the_head(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/hour", clock=clock)
    empty(limiter)
    waiting = Crowd(limiter, clock, pool).join("waits")
    limiter.reset("k")
    waiting.result(PATIENCE)


def test_a_released_reservation_wakes_the_head(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("2/hour", clock=clock)
    hold = limiter.reserve("k", 2, ttl=3600)
    waiting = Crowd(limiter, clock, pool).join("waits", cost=2)
    hold.release()
    waiting.result(PATIENCE)


def test_permits_are_handed_on(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("2/minute", algorithm="concurrency", clock=clock)
    with limiter.acquire("k"):
        clock.advance(5)
        with limiter.acquire("k"):
            waiting = Crowd(limiter, clock, pool).join("waits")
        waiting.result(PATIENCE)
    assert clock.seconds() == 5
    assert limiter.peek("k", 0).remaining == 2


def test_a_permit_that_nobody_returns_expires(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/minute", algorithm="concurrency", clock=clock)
    limiter.check("k")
    waiting = Crowd(limiter, clock, pool).join("waits")
    clock.advance(60)
    waiting.result(PATIENCE)


def test_waiting_for_a_permit_is_worth_trying_until_the_timeout(
    clock: SteppedClock, pool: ThreadPoolExecutor
):
    limiter = Limiter("1/minute", algorithm="concurrency", clock=clock)
    limiter.check("k")
    crowd = Crowd(limiter, clock, pool)
    head = crowd.join("head", timeout=10)
    second = crowd.join("second", timeout=20)
    clock.advance(10)
    with pytest.raises(RateLimited):
        head.result(PATIENCE)
    clock.until_waiting(1)
    limiter.refund("k")
    second.result(PATIENCE)


def test_a_queueing_limit_is_waited_out():
    clock = ManualClock()
    limiter = Limiter("1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock)
    for passed in range(3):
        with limiter.acquire("k"):
            assert clock.now_ns() == passed * 10**9


def test_a_queue_that_is_too_long_is_not_joined():
    clock = ManualClock()
    limiter = Limiter("1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock)
    limiter.check("k")
    limiter.check("k")
    before = limiter.peek("k", 0)
    with pytest.raises(RateLimited) as refused, limiter.acquire("k", timeout=1.5):
        pass
    assert refused.value.decision.retry_after == 2.0
    assert limiter.peek("k", 0) == before


def test_a_line_has_an_end(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", clock=clock)
    limiter.lines = Lines(max_per_key=2, max_total=3)
    empty(limiter)
    crowd = Crowd(limiter, clock, pool)
    crowd.join("a")
    crowd.join("b")
    with pytest.raises(LineFull, match="retry after") as full, limiter.acquire("k"):
        pass
    assert isinstance(full.value, RateLimited)
    for left in (1, 0):
        clock.advance(1)
        clock.until_waiting(left)


def test_all_lines_together_have_an_end(clock: SteppedClock, pool: ThreadPoolExecutor):
    limiter = Limiter("1/second", clock=clock)
    limiter.lines = Lines(max_per_key=2, max_total=1)
    empty(limiter)
    limiter.check("other")
    waiting = Crowd(limiter, clock, pool).join("a")
    with pytest.raises(LineFull), limiter.acquire("other"):
        pass
    clock.advance(1)
    waiting.result(PATIENCE)


def test_an_exception_inside_returns_the_permit_and_passes():
    limiter = Limiter("1/minute", algorithm="concurrency", clock=ManualClock())
    with pytest.raises(KeyError), limiter.acquire("k"):
        raise KeyError
    assert limiter.peek("k", 0).remaining == 1


def test_an_interrupt_while_delayed_spends_nothing():
    class Interrupted(ManualClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    limiter = Limiter("1/second", burst=3, algorithm="leaky_bucket_queue", clock=Interrupted())
    limiter.check("k")
    before = limiter.peek("k", 0)
    with pytest.raises(KeyboardInterrupt), limiter.acquire("k"):
        pass
    assert limiter.peek("k", 0) == before


def test_an_interrupt_in_line_leaves_it():
    class Interrupted(ManualClock):
        def wait_for(self, signal: threading.Event, seconds: float | None) -> None:
            raise KeyboardInterrupt

    limiter = Limiter("1/second", clock=Interrupted())
    limiter.check("k")
    with pytest.raises(KeyboardInterrupt), limiter.acquire("k"):
        pass
    assert len(limiter.lines) == 0


def test_a_disabled_limiter_lets_everybody_pass():
    limiter = Limiter("1/hour", clock=ManualClock(), enabled=False)
    for _ in range(5):
        with limiter.acquire("k", timeout=0):
            pass


@pytest.mark.slow
def test_real_threads_on_the_real_clock_are_never_more_than_the_limit():
    limiter = Limiter("1/minute", algorithm="concurrency")
    inside = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with limiter.acquire("k"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == 1
    assert not any(thread.is_alive() for thread in threads)
    assert len(limiter.lines) == 0
