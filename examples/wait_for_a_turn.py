"""Twenty tasks that share one slow service, which bears fifty calls a second.

python examples/wait_for_a_turn.py
"""

from __future__ import annotations

import asyncio

from headgate import AsyncLimiter, RateLimited


async def call(limiter: AsyncLimiter, number: int) -> str:
    try:
        async with limiter.acquire("service", timeout=0.2):
            return f"{number} went through"
    except RateLimited as error:
        # It knew from the start that its turn would come too late, and did not wait in vain.
        return f"{number} gave up at once: {error.decision.retry_after:.2f} s is too long"


async def work(limiter: AsyncLimiter) -> list[str]:
    return await asyncio.gather(*[call(limiter, number) for number in range(20)])


def main() -> None:
    for line in asyncio.run(work(AsyncLimiter("50/second", burst=5))):
        print(line)


if __name__ == "__main__":
    main()
