"""Two clocks: the machine's, which no step of the wall moves, and the tests' own."""

from __future__ import annotations

import threading

import pytest

from headgate.clock import Clock, SystemClock, seconds_to_ns
from headgate.testing import ManualClock


@pytest.mark.parametrize(
    ("seconds", "nanoseconds"), [(0, 0), (1, 10**9), (1e-9, 1), (0.1, 10**8), (-1.5, -15 * 10**8)]
)
def test_seconds_are_rounded_to_whole_nanoseconds(seconds, nanoseconds):
    assert seconds_to_ns(seconds) == nanoseconds


def test_the_machines_clock_never_goes_back():
    clock = SystemClock()
    readings = [clock.now_ns() for _ in range(1_000)]
    assert readings == sorted(readings)


def test_it_knows_the_wall():
    clock = SystemClock()
    assert clock.wall_ns() > 1_700_000_000 * 10**9
    assert abs(clock.wall_ns() - clock.now_ns() - clock.wall_offset_ns) < 10**9


def test_a_clock_may_be_made_of_any_function():
    clock = Clock(lambda: 5, 100)
    assert (clock.now_ns(), clock.wall_ns()) == (5, 105)


def test_waiting_ends_with_the_signal():
    signal = threading.Event()
    signal.set()
    SystemClock().wait_for(signal, 100)
    SystemClock().wait_for(threading.Event(), 0)


class TestManualClock:
    def test_it_stands_still(self):
        clock = ManualClock()
        assert clock.now_ns() == clock.now_ns() == 0

    def test_it_moves_when_told_to_in_either_direction(self):
        clock = ManualClock(start_ns=10)
        clock.advance(1.5)
        clock.advance_ns(-3)
        assert clock.now_ns() == 1_500_000_007
        clock.set_ns(4)
        assert clock.now_ns() == 4

    def test_sleeping_moves_it(self):
        clock = ManualClock()
        clock.sleep(2.5)
        assert clock.now_ns() == 2_500_000_000

    async def test_so_does_sleeping_in_a_task(self):
        clock = ManualClock()
        await clock.sleep_async(2.5)
        assert clock.now_ns() == 2_500_000_000

    def test_its_wall_starts_with_2026(self):
        assert ManualClock().wall_ns() == 1_767_225_600 * 10**9
        assert ManualClock(7, wall_offset_ns=1).wall_ns() == 8
