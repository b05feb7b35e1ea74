"""What algorithms share that remember every admission until it is too old to count.

The state of a key is one array of whole numbers: for each entry the total admitted before it and its
time, and at the end the total of all: ``before[0], time[0], before[1], time[1], ..., total``. Both run
upwards, so every question is a binary search, and an entry takes 16 bytes. Entries of the same moment
are one. Entries that are too old are dropped in bulk, once they are half of all, so that each costs
constant work.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, cast

from headgate.algorithms.base import Algorithm, checked
from headgate.decision import NEVER

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["EventLog"]


class EventLog(Algorithm):
    """At most ``limit`` in any window. State: an array, altered only by `consume` and `refund`."""

    def __init__(self, limit: int, window_ns: int) -> None:
        super().__init__(limit, window_ns, limit, atomic=False)

    def wait(self, state: object, cost: i64, now: i64) -> i64:
        if cost > self.capacity:
            return NEVER
        log = self._believed(state, now)
        if log is None:
            return 0
        total: i64 = log[-1]
        least = total + cost - self.limit
        if log[0] >= least or cost == 0:
            return 0
        first = _first_after(log, now - self.window_ns)
        if log[2 * first] >= least:
            return 0
        leaves: i64 = log[2 * _first_reaching(log, first, least) - 1]
        return leaves + self.window_ns - now

    def consume(self, state: object, cost: i64, now: i64) -> object:
        log = self._believed(state, now)
        if log is None:
            log = array("q", (0,))
        if cost == 0:
            return log
        entries: i64 = len(log) // 2
        moment = now
        if entries > 0:
            last: i64 = log[-2]
            moment = max(now, last)
            expired = _first_after(log, now - self.window_ns)
            if 2 * expired >= entries:
                del log[: 2 * expired]
                entries -= expired
        total: i64 = log[-1]
        if entries > 0 and log[-2] == moment:
            log[-1] = total + cost
        else:
            log.append(moment)
            log.append(total + cost)
        return log

    def refund(self, state: object, cost: i64, now: i64, granted_at: i64) -> object:
        """See `Algorithm.refund`. Taken from the entry of that moment, then from older ones."""
        log = self._believed(state, now)
        if log is None:
            return array("q", (0,))
        first = _first_after(log, now - self.window_ns)
        behind = _first_after(log, granted_at)
        if behind <= first:
            return log
        level: i64 = log[2 * behind]
        taken = min(cost, level - log[2 * first])
        kept = _first_reaching(log, first, level - taken)
        del log[2 * kept : 2 * behind]
        place: i64 = 2 * kept
        while place < len(log):
            log[place] -= taken
            place += 2
        return log

    def remaining(self, state: object, now: i64) -> i64:
        log = self._believed(state, now)
        if log is None:
            return self.limit
        used: i64 = log[-1] - log[2 * _first_after(log, now - self.window_ns)]
        return max(0, self.limit - used)

    def reset(self, state: object, now: i64) -> i64:
        log = self._believed(state, now)
        if log is None:
            return 0
        last: i64 = log[-2]
        return max(0, last + self.window_ns - now)

    def dump(self, state: object, wall_offset_ns: i64) -> list[int]:
        log = cast("array[int]", state)
        dumped: list[int] = []
        place: i64 = 0
        while place + 2 < len(log):
            dumped.append(log[place + 1] + wall_offset_ns)
            dumped.append(log[place + 2] - log[place])
            place += 2
        return dumped

    def load(self, values: list[int], wall_offset_ns: i64) -> object:
        checked(values)
        if len(values) % 2 != 0:
            raise ValueError("a dumped log holds pairs of a time and a count")
        log = array("q", (0,))
        total = 0
        place: i64 = 0
        while place < len(values):
            moment = values[place] - wall_offset_ns
            count = values[place + 1]
            if not 0 < count <= self.limit or (place > 0 and moment <= log[-2]):
                raise ValueError("a dumped log holds rising times, and counts up to the limit")
            total += count
            log.append(moment)
            log.append(total)
            place += 2
        return log

    def _believed(self, state: object, now: i64) -> array[int] | None:
        """The log, if it has entries and they are not from another time."""
        if state is None:
            return None
        log = cast("array[int]", state)
        if len(log) == 1:
            return None
        last: i64 = log[-2]
        if last - now > self.window_ns:
            return None
        return log


def _first_after(log: array[int], moment: i64) -> i64:
    """The place of the first entry later than a moment; the number of entries when there is none."""
    low: i64 = 0
    high: i64 = len(log) // 2
    while low < high:
        middle = (low + high) // 2
        if log[2 * middle + 1] > moment:
            high = middle
        else:
            low = middle + 1
    return low


def _first_reaching(log: array[int], low: i64, total: i64) -> i64:
    """The place of the first entry, from ``low`` on, before which at least so much was admitted."""
    high: i64 = len(log) // 2
    while low < high:
        middle = (low + high) // 2
        if log[2 * middle] >= total:
            high = middle
        else:
            low = middle + 1
    return low
