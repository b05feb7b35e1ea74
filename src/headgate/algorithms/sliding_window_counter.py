"""Sliding window, approximated by a few counters per key.

Time is cut into slots of ``s = window / g`` (rounded up to a nanosecond), with ``g`` the granularity.
``g + 1`` slots are counted: ``c[0]`` the current one, of which ``e`` has elapsed, to ``c[g]`` the
oldest, which the window still covers in part. What was admitted in a slot is taken to be spread evenly::

    count(now)    = c[0] + ... + c[g-1] + c[g] * (s - e) / s
    cost c passes   iff   count(now) + c <= limit

compared exactly, in whole numbers. With g = 1 this is the well-known two-counter window. What holds for
sure, however traffic is spread: at most ``limit`` in any interval of ``window * (1 - 1/g)``, and at
most ``2 * limit`` in any window. Where every window must hold, choose the log.

The state is one int: the slot's index, then the running sums ``c[0] + ... + c[i]`` in fields of equal
width, for i from g down to 0. With running sums a decision reads two fields, whatever g is; moving on
by j slots is a shift by j fields; spending adds the cost to all fields, which is one multiplication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from headgate.algorithms.base import Algorithm, checked
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["SlidingWindowCounter"]


@final
class SlidingWindowCounter(Algorithm):
    """A2: the window's count estimated from ``granularity + 1`` counters. State: one packed int.

    Args:
        limit: the quota per window.
        window_ns: the window.
        granularity: the slots that the window is cut into, 1 to 60.
        wall_offset_ns: where the clock's origin lies on the wall; slots are aligned to the Unix epoch.
    """

    def __init__(
        self, limit: int, window_ns: int, granularity: int = 1, wall_offset_ns: int = 0
    ) -> None:
        super().__init__(limit, window_ns, limit, atomic=True)
        # Plain ints, not i64: with many slots the packed int is longer than 64 bits, and a product
        # with an i64 would be one.
        slot = -(-window_ns // granularity)
        bits = (2 * limit).bit_length()
        self._quota: int = limit
        self._slot: int = slot
        self._slots: int = granularity
        self._phase: int = wall_offset_ns % slot
        self._bits: int = bits
        self._size: int = bits * (granularity + 1)
        self._field: int = (1 << bits) - 1
        self._fields: int = (1 << self._size) - 1
        self._ones: int = self._fields // self._field

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        packed = self._standing(state, now)
        if cost == 0 or cost <= self._room(packed, now):
            return 0
        return self._passes_at(packed, cost) - now

    def consume(self, state: object, cost: i64, now: i64) -> object:
        spent: int = cost
        return self._standing(state, now) + spent * self._ones

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        packed = self._standing(state, now)
        spent_in = self._index_at(granted_at)
        place = max(0, (packed >> self._size) - spent_in)
        # From the slot in which it was spent, then from older ones.
        newer = self._sum(packed, place - 1)
        back: int = cost
        while place <= self._slots:
            here = self._sum(packed, place) - newer
            packed -= min(back, here) << place * self._bits
            place += 1
        return packed

    def remaining(self, state: object, now: i64) -> i64:
        return max(0, self._room(self._standing(state, now), now))

    def reset(self, state: object, now: i64) -> i64:
        packed = self._standing(state, now)
        if packed & self._fields == 0:
            return 0
        # The newest slot that counts is the lowest field that is not 0.
        place = 0
        while self._sum(packed, place) == 0:
            place += 1
        return self._start((packed >> self._size) - place + self._slots + 1) - now

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        packed = cast("int", state)
        counts = [
            self._sum(packed, place) - self._sum(packed, place - 1)
            for place in range(self._slots + 1)
        ]
        return [self._start(packed >> self._size) + wall_offset_ns, *counts]

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        start, *counts = values
        if len(counts) != self._slots + 1 or min(counts) < 0 or max(counts) > self._quota:
            raise ValueError("a dumped counter holds its start and one count for each slot")
        if sum(counts[:-1]) > self._quota:
            raise ValueError("a dumped counter holds at most the limit")
        packed = self._index_at(start - wall_offset_ns) << self._size
        for place in range(self._slots + 1):
            packed += (counts[place] * self._ones << place * self._bits) & self._fields
        return packed

    def _standing(self, state: object, now: i64) -> int:
        """The state moved on to the current slot; if the clock went back, the state as it is."""
        current = self._index_at(now)
        if state is not None:
            packed = cast("int", state)
            behind = current - (packed >> self._size)
            if behind == 0 or -self._slots <= behind < 0:
                return packed
            if 0 < behind <= self._slots:
                return current << self._size | (packed << behind * self._bits) & self._fields
        return current << self._size

    def _room(self, packed: int, now: i64) -> int:
        """How much of the limit is left by the count at now, rounded down; may be below 0."""
        whole = self._sum(packed, self._slots - 1)
        oldest = self._sum(packed, self._slots) - whole
        if oldest == 0:
            return self._quota - whole
        moment: int = now
        ahead = min(self._slot, self._start((packed >> self._size) + 1) - moment)
        return self._quota - whole - -(-oldest * ahead // self._slot)

    def _passes_at(self, packed: int, cost: int) -> int:
        """The first moment at which ``cost`` passes, from the start of the state's slot on."""
        # Slots ahead are told by the place that is the oldest then: from the highest, which is now,
        # down to 0, when only the current slot still counts. We look for the highest in which the
        # cost passes; it may be the end of the last one.
        low = 0
        high = self._slots
        while low < high:
            middle = (low + high + 1) // 2
            if self._passes_after(packed, cost, middle) < self._slot:
                low = middle
            else:
                high = middle - 1
        slots = (packed >> self._size) + self._slots - low
        return self._start(slots) + self._passes_after(packed, cost, low)

    def _passes_after(self, packed: int, cost: int, place: int) -> int:
        """How much of a slot elapses before ``cost`` passes; all of it when it does not pass in it."""
        whole = self._sum(packed, place - 1)
        oldest = self._sum(packed, place) - whole
        room = self._quota - cost - whole
        if room < 0:
            return self._slot
        if oldest <= room:
            return 0
        return self._slot - room * self._slot // oldest

    def _sum(self, packed: int, place: int) -> int:
        """What was admitted in the slots from the current one back to ``place``."""
        if place < 0:
            return 0
        return (packed >> place * self._bits) & self._field

    def _index_at(self, moment: int) -> int:
        """The slot that a moment lies in."""
        return (moment + self._phase) // self._slot

    def _start(self, index: int) -> int:
        """When a slot starts."""
        return index * self._slot - self._phase
