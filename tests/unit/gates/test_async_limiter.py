"""The names and the arguments of `AsyncLimiter` are those of `Limiter`."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from headgate.errors import RateLimited, UnknownReservation
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.build import is_compiled
from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_it_has_the_names_of_the_limiter():
    inner = {"clock", "enabled", "holds_permits", "limits", "lines", "settle"}
    inner |= {"answered", "set_pace"}  # for AdaptiveRate, which takes the sync one out
    assert public(Limiter) - inner <= public(AsyncLimiter)


@pytest.mark.skipif(is_compiled(), reason="compiled code does not tell its signature")
def test_it_takes_the_arguments_of_the_limiter():
    ours = inspect.signature(AsyncLimiter.__init__).parameters
    theirs = inspect.signature(Limiter.__init__).parameters
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


async def test_the_answers_are_those_of_the_limiter():
    clock = ManualClock()
    ours = AsyncLimiter("3/second", clock=clock, name="api")
    theirs = Limiter("3/second", clock=clock, name="api")
    for cost in (1, 0, 2, 1):
        assert await ours.peek("k", cost) == theirs.peek("k", cost)
        assert await ours.check("k", cost) == theirs.check("k", cost)
    await ours.refund("k", 2)
    theirs.refund("k", 2)
    assert await ours.peek("k") == theirs.peek("k")
    assert (await ours.usage("k"))[0].used == theirs.usage("k")[0].used
    await ours.reset("k")
    assert (await ours.peek("k", 0)).remaining == 3
    assert (ours.name, ours.clock, ours.stats().keys) == ("api", clock, 1)


async def test_it_can_share_a_limiter_with_threads():
    limiter = Limiter("3/second", clock=ManualClock())
    limiter.check("k")
    assert (await AsyncLimiter.of(limiter).check("k")).remaining == 1


async def test_concurrent_tasks_never_get_more_than_there_is():
    limiter = AsyncLimiter("10/second", clock=ManualClock())
    decisions = await asyncio.gather(*[limiter.check("k") for _ in range(50)])
    assert sum(decision.allowed for decision in decisions) == 10


async def test_a_reservation_is_settled():
    limiter = AsyncLimiter("100/minute", clock=ManualClock())
    async with limiter.reserve("k", 60) as hold:
        assert hold
        assert hold.decision.remaining == 40
        await hold.commit(10)
    assert (await limiter.peek("k", 0)).remaining == 90


async def test_a_reservation_is_released_when_the_work_fails():
    limiter = AsyncLimiter("100/minute", clock=ManualClock())
    with pytest.raises(KeyError):
        async with limiter.reserve("k", 60):
            raise KeyError
    assert (await limiter.peek("k", 0)).remaining == 100


async def test_a_reservation_may_be_awaited():
    limiter = AsyncLimiter("100/minute", clock=ManualClock())
    hold = await limiter.reserve("k", 60)
    await hold.release()
    with pytest.raises(UnknownReservation):
        await hold.release()
    assert not await limiter.reserve("k", 101)


async def test_a_reservation_that_was_not_awaited_says_so():
    hold = AsyncLimiter("100/minute", clock=ManualClock()).reserve("k", 60)
    with pytest.raises(RuntimeError, match="await"):
        bool(hold)


async def test_refused_turns_carry_the_decision():
    limiter = AsyncLimiter("1/hour", clock=ManualClock(), name="api")
    await limiter.check("k")
    with pytest.raises(RateLimited, match="'api'") as refused:
        await limiter.acquire("k", timeout=1)
    assert refused.value.decision.retry_after == 3600
