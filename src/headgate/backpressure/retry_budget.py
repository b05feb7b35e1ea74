"""How much may be retried: as many as one in ten of what goes well, and a few besides.

Retries help when failures are rare and independent, and are the overload itself when they are not. So a
retry costs a token; a success gives a tenth of one. The tokens start at 10 and never exceed 100. While
all goes well every failure can be retried; when all fails, ten retries are all there is, until something
succeeds.

A token is charged when the retry leaves its backoff and not before: who gives up while waiting has cost
nothing, and who comes back from waiting to an empty budget does not retry.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["NO_RETRY", "RetryTokens", "retry_wait"]

NO_RETRY: Final = -1
"""A wait that means: do not retry."""

_UNIT: Final = 1_000_000  # tokens are counted in millionths: sums of tenths stay exact


@final
class RetryTokens:
    """The tokens of one budget.

    Args:
        start: tokens at first.
        most: the most that are kept.
        per_success: what a success gives.
    """

    __slots__ = ("_most", "_per_success", "_tokens")

    def __init__(self, start: float = 10.0, most: float = 100.0, per_success: float = 0.1) -> None:
        self._most = round(most * _UNIT)
        self._tokens = min(round(start * _UNIT), self._most)
        self._per_success = round(per_success * _UNIT)

    @property
    def left(self) -> float:
        """Tokens."""
        return self._tokens / _UNIT

    def has_one(self) -> bool:
        """Whether a retry is worth waiting for."""
        return self._tokens >= _UNIT

    def take(self) -> bool:
        """Pay for a retry that sets out now; False when there is no token for it."""
        if self._tokens < _UNIT:
            return False
        self._tokens -= _UNIT
        return True

    def succeeded(self) -> None:
        """A request went well, at its first attempt or a later one."""
        self._tokens = min(self._tokens + self._per_success, self._most)


def retry_wait(backoff_ns: int, retry_after_ns: int, now: int, deadline: int | None) -> int:
    """Nanoseconds to wait before the next attempt; `NO_RETRY` when it could not begin in time.

    The upstream's wait comes first, and ours after it: those who were sent away together are then spread.

    Args:
        backoff_ns: our own wait.
        retry_after_ns: the upstream's; 0 when it asked for none.
        now: the moment.
        deadline: when the call must be over; None for never.

    >>> retry_wait(100, 0, 1_000, 1_200), retry_wait(100, 300, 1_000, 1_200)
    (100, -1)
    """
    wait = backoff_ns + retry_after_ns
    if deadline is not None and now + wait >= deadline:
        return NO_RETRY
    return wait
