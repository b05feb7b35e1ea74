"""Who is denied most: the space-saving algorithm, in bounded memory.

A fixed number of counters. A key that has one is counted; a key that has none takes over the smallest
counter, with its count as the error that the new key may be over-counted by. So each count is at least the
truth, and the count less its error is at most the truth: that is what is reported, because a key must not
be accused of what others did. Whoever was denied more than once in ``capacity`` denials is among them.

Source: Metwally, Agrawal, El Abbadi: Efficient computation of frequent and top-k elements in data streams,
2005. Their linked buckets find the smallest counter; here a heap does, whose entries are put right when
they come to the top. An entry is put right at most once for each time its key was counted, so the work is
amortised logarithmic in the number of counters.
"""

from __future__ import annotations

from heapq import heappush, heapreplace, nlargest
from typing import Final, final

__all__ = ["TopKeys"]

_CAPACITY: Final = 1_024


@final
class TopKeys:
    """Counts denials by policy and key. A `headgate.engine.ports.DenialObserver`.

    >>> top = TopKeys(capacity=2)
    >>> for key in ["a", "b", "a", "a", "c"]:
    ...     top.denied("api", key)
    >>> top.top(1)
    [('api', 'a', 3)]

    Args:
        capacity: how many keys are counted at the same time.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._counts: dict[tuple[str, str], int] = {}
        self._errors: dict[tuple[str, str], int] = {}
        self._smallest: list[tuple[int, tuple[str, str]]] = []

    def denied(self, policy: str, key: str) -> None:
        """Count one denial."""
        item = (policy, key)
        count = self._counts.get(item)
        if count is not None:
            self._counts[item] = count + 1
        elif len(self._counts) < self._capacity:
            self._counts[item] = 1
            heappush(self._smallest, (1, item))
        else:
            self._take_over(item)

    def top(self, count: int) -> list[tuple[str, str, int]]:
        """(policy, key, at least how often), the most denied first."""
        errors = self._errors
        sure = ((held - errors.get(item, 0), item) for item, held in self._counts.items())
        return [(policy, key, times) for times, (policy, key) in nlargest(count, sure)]

    def _take_over(self, item: tuple[str, str]) -> None:
        """Give the smallest counter to another key."""
        heap = self._smallest
        smallest, victim = heap[0]
        while self._counts[victim] != smallest:
            heapreplace(heap, (self._counts[victim], victim))
            smallest, victim = heap[0]
        del self._counts[victim]
        self._errors.pop(victim, None)
        self._counts[item] = smallest + 1
        self._errors[item] = smallest
        heapreplace(heap, (smallest + 1, item))
