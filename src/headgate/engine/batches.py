"""What was drawn of a shared counter and may be spent for a while: the oldest goes first, or lapses."""

from __future__ import annotations

from collections import deque
from typing import Final, final

__all__ = ["Batch", "Batches"]

_NEVER: Final = 1 << 62


@final
class Batch:
    """Tokens that were granted together.

    Attributes:
        count: not spent yet.
        at_us: when they were granted, on the store's clock.
        until_ns: until when they may be spent, on this node's.
    """

    __slots__ = ("at_us", "count", "until_ns")

    def __init__(self, count: int, at_us: int, until_ns: int) -> None:
        self.count = count
        self.at_us = at_us
        self.until_ns = until_ns


@final
class Batches:
    """What one node holds.

    Args:
        hold_ns: how long a batch may be spent.

    Attributes:
        left: of all batches together.
        lapsed: those whose time was over before they were spent, to be given back.
    """

    __slots__ = ("_batches", "_hold_ns", "lapsed", "left")

    def __init__(self, hold_ns: int) -> None:
        self._hold_ns = hold_ns
        self._batches: deque[Batch] = deque()
        self.lapsed: list[Batch] = []
        self.left = 0

    @property
    def lapses_ns(self) -> int:
        """When the oldest lapses."""
        return self._batches[0].until_ns if self._batches else _NEVER

    def add(self, count: int, at_us: int, sent_ns: int) -> None:
        """Take in what was granted. Its time runs from the sending: the store debited it later than that."""
        self._batches.append(Batch(count, at_us, sent_ns + self._hold_ns))
        self.left += count

    def spend(self, count: int) -> None:
        """Spend so many, `left` at most."""
        self.left -= count
        while count > 0:
            oldest = self._batches[0]
            part = min(count, oldest.count)
            oldest.count -= part
            count -= part
            if oldest.count == 0:
                self._batches.popleft()

    def lapse(self, now: int) -> None:
        """Put aside what must not be spent any more; also after a clock that went back."""
        while self._batches and not now < self._batches[0].until_ns <= now + self._hold_ns:
            self._put_aside()

    def lapse_all(self) -> None:
        """Put everything aside."""
        while self._batches:
            self._put_aside()

    def _put_aside(self) -> None:
        batch = self._batches.popleft()
        self.left -= batch.count
        self.lapsed.append(batch)
