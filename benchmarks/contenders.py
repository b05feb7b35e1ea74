# ruff: noqa: ARG001 - all are made alike, whether or not they need to know how many keys will come
"""The limiters that are compared, each behind one shape: take a run of keys, check each once.

All get a limit that the traffic does not reach, so that every check is a yes and spends, over a day, so
that what was spent stays spent meanwhile and nothing may be forgotten. Only the moving window of
`limits`, which keeps an entry for each request, gets a limit that bounds its log.
What they answer differs: ours and throttled-py's is the complete decision, that of `limits` and
pyrate-limiter a yes or no, and aiolimiter's nothing (it waits).
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# More than any run spends in all, within what every library takes.
AMPLE = 1_000_000_000
LOGGED = 1_000
# Room beyond the keys, so that no limiter comes near its cap.
SPARE = 1_000


def ample_for(keys: int) -> int:
    """The daily limit of each of so many keys."""
    return max(LOGGED, AMPLE // keys)


def each(check: Callable[[str], object]) -> Callable[[Iterable[str]], object]:
    """The loop that all are measured in."""

    def run(keys: Iterable[str]) -> None:
        for key in keys:
            check(key)

    return run


# Ours --------------------------------------------------------------------------------------------


def headgate(keys: int) -> Callable[[Iterable[str]], object]:
    from headgate import Limiter

    return each(Limiter(f"{ample_for(keys)}/day", max_keys=keys + keys // 10 + SPARE).check)


def headgate_denied(keys: int) -> Callable[[Iterable[str]], object]:
    from headgate import Limiter

    return each(Limiter("1/day", max_keys=keys + keys // 10 + SPARE).check)


# Theirs ------------------------------------------------------------------------------------------


def limits_strategy(name: str, limit: int) -> Callable[[Iterable[str]], object]:
    from limits import RateLimitItemPerDay, storage, strategies

    strategy = getattr(strategies, name)(storage.MemoryStorage())
    return each(partial(strategy.hit, RateLimitItemPerDay(limit)))


def limits_fixed(keys: int) -> Callable[[Iterable[str]], object]:
    return limits_strategy("FixedWindowRateLimiter", ample_for(keys))


def limits_moving(keys: int) -> Callable[[Iterable[str]], object]:
    return limits_strategy("MovingWindowRateLimiter", LOGGED)


def limits_sliding(keys: int) -> Callable[[Iterable[str]], object]:
    return limits_strategy("SlidingWindowCounterRateLimiter", ample_for(keys))


def throttled(using: str, keys: int) -> Callable[[Iterable[str]], object]:
    from throttled import MemoryStore, Throttled, per_day

    store = MemoryStore(options={"MAX_SIZE": keys + keys // 10 + SPARE})
    return each(Throttled(using=using, quota=per_day(ample_for(keys)), store=store).limit)


def throttled_bucket(keys: int) -> Callable[[Iterable[str]], object]:
    return throttled("token_bucket", keys)


def throttled_gcra(keys: int) -> Callable[[Iterable[str]], object]:
    return throttled("gcra", keys)


def pyrate(keys: int) -> Callable[[Iterable[str]], object]:
    from pyrate_limiter import (
        AbstractBucket,
        BucketFactory,
        Duration,
        Limiter,
        MonotonicClock,
        Rate,
        RateItem,
        StateBucket,
    )

    clock = MonotonicClock()
    rates = [Rate(ample_for(keys), Duration.DAY)]
    buckets: dict[str, AbstractBucket] = {}

    class OneForEachKey(BucketFactory):
        """As its documentation shows: a bucket for each name."""

        def wrap_item(self, name: str, weight: int = 1) -> RateItem:
            return RateItem(name, clock.now(), weight=weight)

        def get(self, item: RateItem) -> AbstractBucket:
            bucket = buckets.get(item.name)
            if bucket is None:
                bucket = buckets[item.name] = StateBucket(rates)
            return bucket

    return each(partial(Limiter(OneForEachKey()).try_acquire, weight=1, blocking=False))


def aiolimiter(keys: int) -> Callable[[Iterable[str]], object]:
    from aiolimiter import AsyncLimiter

    limiters: dict[str, AsyncLimiter] = {}
    limit = ample_for(keys)
    loop = asyncio.new_event_loop()

    async def check_all(requests: Iterable[str]) -> None:
        for key in requests:
            limiter = limiters.get(key)
            if limiter is None:
                limiter = limiters[key] = AsyncLimiter(limit, 86_400)
            await limiter.acquire()

    def run(requests: Iterable[str]) -> None:
        loop.run_until_complete(check_all(requests))

    weakref.finalize(run, loop.close)
    return run


# The floor ---------------------------------------------------------------------------------------


def empty_loop(keys: int) -> Callable[[Iterable[str]], object]:
    def run(requests: Iterable[str]) -> None:
        for _key in requests:
            pass

    return run


def empty_call(keys: int) -> Callable[[Iterable[str]], object]:
    def nothing(key: str) -> None:
        pass

    return each(nothing)


# label -> (the build of ours that it needs, or "", the module that it needs, how to make it)
CONTENDERS: dict[str, tuple[str, str, Callable[[int], Callable[[Iterable[str]], object]]]] = {
    "headgate, compiled": ("compiled", "headgate", headgate),
    "headgate, compiled, denied": ("compiled", "headgate", headgate_denied),
    "headgate, plain Python": ("plain", "headgate", headgate),
    "limits, fixed window": ("", "limits", limits_fixed),
    "limits, moving window": ("", "limits", limits_moving),
    "limits, sliding counter": ("", "limits", limits_sliding),
    "throttled-py, token bucket": ("", "throttled", throttled_bucket),
    "throttled-py, GCRA": ("", "throttled", throttled_gcra),
    "pyrate-limiter, GCRA": ("", "pyrate_limiter", pyrate),
    "aiolimiter": ("", "aiolimiter", aiolimiter),
    "(an empty function)": ("", "", empty_call),
    "(an empty loop)": ("", "", empty_loop),
}


def traffic(keys: list[str], operations: int) -> Iterable[str]:
    """So many requests over these keys, without building a list of them."""
    if len(keys) == 1:
        return repeat(keys[0], operations)
    from itertools import chain

    whole, rest = divmod(operations, len(keys))
    return chain(chain.from_iterable(repeat(keys, whole)), keys[:rest])
