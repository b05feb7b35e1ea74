"""Other limiters over the same Redis, each asked as its documentation shows: a question, a round trip.

Every one gets a limit that is not reached, as our strict one does in the same run. "64 tasks" means that
so many coroutines ask at the same time, each on a connection of the pool.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AMPLE = 1_000_000_000
TASKS = 64


def in_turn(check: Callable[[], object]) -> Callable[[float], Awaitable[int]]:
    """One after the other, on one connection."""

    async def ask(seconds: float) -> int:
        deadline = time.perf_counter() + seconds
        done = 0
        while time.perf_counter() < deadline:
            for _ in range(50):
                check()
            done += 50
        return done

    return ask


def at_a_time(check: Callable[[], Awaitable[object]]) -> Callable[[float], Awaitable[int]]:
    """Many coroutines, each with one question open."""

    async def ask(seconds: float) -> int:
        deadline = time.perf_counter() + seconds

        async def one() -> int:
            done = 0
            while time.perf_counter() < deadline:
                await check()
                done += 1
            return done

        return sum(await asyncio.gather(*(one() for _ in range(TASKS))))

    return ask


def limits_with(strategy: str) -> Callable[[str], Callable[[float], Awaitable[int]]]:
    def make(url: str) -> Callable[[float], Awaitable[int]]:
        from limits import RateLimitItemPerSecond, storage, strategies

        limiter = getattr(strategies, strategy)(storage.storage_from_string(url))
        item = RateLimitItemPerSecond(AMPLE)
        return in_turn(lambda: limiter.hit(item, "hot"))

    return make


def limits_async(url: str) -> Callable[[float], Awaitable[int]]:
    from limits import RateLimitItemPerSecond
    from limits.aio import storage, strategies

    kept = storage.RedisStorage(f"async+{url}", implementation="redispy", max_connections=TASKS)
    limiter = strategies.FixedWindowRateLimiter(kept)
    item = RateLimitItemPerSecond(AMPLE)
    return at_a_time(lambda: limiter.hit(item, "hot"))


def throttled_with(using: str) -> Callable[[str], Callable[[float], Awaitable[int]]]:
    def make(url: str) -> Callable[[float], Awaitable[int]]:
        from throttled import RedisStore, Throttled, per_sec

        one = Throttled(key="hot", using=using, quota=per_sec(AMPLE), store=RedisStore(server=url))
        return in_turn(one.limit)

    return make


def throttled_async(url: str) -> Callable[[float], Awaitable[int]]:
    from throttled.asyncio import RedisStore, Throttled, per_sec

    store: Any = RedisStore(server=url)
    one = Throttled(key="hot", using="token_bucket", quota=per_sec(AMPLE), store=store)
    return at_a_time(one.limit)


PEERS = {
    "limits, fixed window": limits_with("FixedWindowRateLimiter"),
    "limits, sliding counter": limits_with("SlidingWindowCounterRateLimiter"),
    f"limits, fixed window, asyncio, {TASKS} tasks": limits_async,
    "throttled-py, token bucket": throttled_with("token_bucket"),
    "throttled-py, GCRA": throttled_with("gcra"),
    f"throttled-py, token bucket, asyncio, {TASKS} tasks": throttled_async,
}
