"""asyncio in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from headgate.lab.virtual_loop import run_virtual


def test_sleepers_wake_in_order_at_their_moments():
    async def main(clock):
        seen = []

        async def sleeper(seconds):
            await clock.sleep_async(seconds)
            seen.append((seconds, clock.now_ns()))

        await asyncio.gather(*map(sleeper, (3600, 0.25, 60)))
        return seen

    assert run_virtual(main) == [
        (0.25, 250_000_000),
        (60, 60_000_000_000),
        (3600, 3_600_000_000_000),
    ]


def test_timeouts_fire_and_loop_time_is_the_clocks():
    async def main(clock):
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        assert loop.time() == clock.now_ns() / 1e9
        return clock.now_ns()

    assert run_virtual(main) == 5_000_000_000


def test_computing_takes_no_time():
    async def main(clock):
        for _ in range(100):
            await clock.sleep_async(0)
        return clock.now_ns()

    assert run_virtual(main) == 0


def test_a_run_in_which_all_wait_for_nothing_fails():
    async def main(clock):
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="the simulation is stuck"):
        run_virtual(main)


def test_tiny_waits_pass():
    async def main(clock):
        for _ in range(10):
            await clock.sleep_async(1e-9)
        return clock.now_ns()

    assert 10 <= run_virtual(main) <= 10_000
