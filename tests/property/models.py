"""Naive models of all algorithms: obviously right, with fractions and lists, and as slow as they like.

Time runs forward only. Each model answers four questions from its whole history; the algorithms must
give the same answers from their packed states.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo


class Model:
    """What `passes` says is the definition; the other answers follow from it by search."""

    capacity: int

    def passes(self, cost: int, now: int) -> bool:
        raise NotImplementedError

    def spend(self, cost: int, now: int) -> None:
        raise NotImplementedError

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        raise NotImplementedError

    def is_fresh(self, now: int) -> bool:
        """Whether all that was ever spent is back."""
        raise NotImplementedError

    def delay(self, now: int) -> Fraction:
        return Fraction(0)

    def remaining(self, now: int) -> int:
        low, high = 0, self.capacity
        while low < high:
            middle = (low + high + 1) // 2
            if self.passes(middle, now):
                low = middle
            else:
                high = middle - 1
        return low


def interval_of(limit: int, window_ns: int) -> Fraction:
    """The time of one token, rounded up as the bucket's docstring says."""
    exact = Fraction(window_ns, limit)
    parts = min(exact.denominator, 16)
    return Fraction(ceil(exact * parts), parts)


class BucketModel(Model):
    """Tokens flow in all the time, up to the capacity."""

    def __init__(self, limit: int, window_ns: int, capacity: int) -> None:
        self.window_ns = window_ns
        self.capacity = capacity
        self.rate = 1 / interval_of(limit, window_ns)
        self.tokens = Fraction(capacity)
        self.at = 0

    def _tokens(self, now: int) -> Fraction:
        return min(Fraction(self.capacity), self.tokens + (now - self.at) * self.rate)

    def passes(self, cost: int, now: int) -> bool:
        return cost <= self._tokens(now)

    def spend(self, cost: int, now: int) -> None:
        self.tokens = self._tokens(now) - cost
        self.at = now

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        refill_ns = self.capacity / self.rate
        if now - granted_at < max(self.window_ns, refill_ns):
            self.spend(-cost, now)
            self.tokens = self._tokens(now)

    def is_fresh(self, now: int) -> bool:
        return self._tokens(now) == self.capacity


class QueueModel(Model):
    """A line from which one token leaves every interval; each knows when it will leave."""

    def __init__(self, limit: int, window_ns: int, capacity: int, max_delay_ns: int | None) -> None:
        self.interval = interval_of(limit, window_ns)
        self.window_ns = window_ns
        if max_delay_ns is None:
            self.longest = (capacity - 1) * self.interval
        else:
            self.longest = Fraction(max_delay_ns)
        self.capacity = int(self.longest / self.interval) + 1
        self.free_at = Fraction(0)

    def delay(self, now: int) -> Fraction:
        return max(Fraction(0), self.free_at - now)

    def passes(self, cost: int, now: int) -> bool:
        last_leaves = self.delay(now) + (cost - 1) * self.interval
        return cost == 0 or last_leaves <= self.longest

    def spend(self, cost: int, now: int) -> None:
        self.free_at = now + self.delay(now) + cost * self.interval

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        refill_ns = self.longest + self.interval
        if now - granted_at < max(self.window_ns, refill_ns):
            self.free_at = max(Fraction(now), now + self.delay(now) - cost * self.interval)

    def is_fresh(self, now: int) -> bool:
        return self.free_at <= now


class LogModel(Model):
    """A list of what was spent and when; also the permits of a concurrency limit."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self.capacity = limit
        self.window_ns = window_ns
        self.spent: list[list[int]] = []

    def _counts(self, time: int, now: int) -> bool:
        return now - self.window_ns < time

    def passes(self, cost: int, now: int) -> bool:
        count = sum(spent for time, spent in self.spent if self._counts(time, now))
        return count + cost <= self.capacity

    def spend(self, cost: int, now: int) -> None:
        self.spent.append([now, cost])

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        for entry in reversed(self.spent):
            if entry[0] <= granted_at and self._counts(entry[0], now):
                back = min(cost, entry[1])
                entry[1] -= back
                cost -= back

    def is_fresh(self, now: int) -> bool:
        return not any(spent for time, spent in self.spent if self._counts(time, now))


class CounterModel(Model):
    """One count for each slot, the oldest of them weighted by its share in the window."""

    def __init__(self, limit: int, window_ns: int, granularity: int, wall_offset_ns: int) -> None:
        self.capacity = limit
        self.granularity = granularity
        self.slot_ns = -(-window_ns // granularity)
        self.offset = wall_offset_ns
        self.counts: dict[int, int] = {}

    def _slot(self, time: int) -> int:
        return (time + self.offset) // self.slot_ns

    def _count(self, now: int) -> Fraction:
        current = self._slot(now)
        whole = sum(self.counts.get(current - back, 0) for back in range(self.granularity))
        oldest = self.counts.get(current - self.granularity, 0)
        elapsed = (now + self.offset) % self.slot_ns
        return whole + oldest * (1 - Fraction(elapsed, self.slot_ns))

    def passes(self, cost: int, now: int) -> bool:
        return self._count(now) + cost <= self.capacity

    def spend(self, cost: int, now: int) -> None:
        slot = self._slot(now)
        self.counts[slot] = self.counts.get(slot, 0) + cost

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        for slot in sorted(self.counts, reverse=True):
            if self._slot(now) - self.granularity <= slot <= self._slot(granted_at):
                back = min(cost, self.counts[slot])
                self.counts[slot] -= back
                cost -= back

    def is_fresh(self, now: int) -> bool:
        return self._count(now) == 0


class WindowModel(Model):
    """One count for each window, told apart by a label."""

    def __init__(self, limit: int) -> None:
        self.capacity = limit
        self.counts: dict[object, int] = {}

    def label(self, time: int) -> object:
        raise NotImplementedError

    def passes(self, cost: int, now: int) -> bool:
        return self.counts.get(self.label(now), 0) + cost <= self.capacity

    def spend(self, cost: int, now: int) -> None:
        label = self.label(now)
        self.counts[label] = self.counts.get(label, 0) + cost

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        label = self.label(now)
        if label == self.label(granted_at):
            self.counts[label] = max(0, self.counts.get(label, 0) - cost)

    def is_fresh(self, now: int) -> bool:
        return self.counts.get(self.label(now), 0) == 0


class FixedModel(WindowModel):
    """Windows are counted from the Unix epoch."""

    def __init__(self, limit: int, window_ns: int, wall_offset_ns: int) -> None:
        super().__init__(limit)
        self.window_ns = window_ns
        self.offset = wall_offset_ns

    def label(self, time: int) -> object:
        return (time + self.offset) // self.window_ns


class CalendarModel(WindowModel):
    """A window is what a calendar and a clock on the wall say the same about."""

    def __init__(self, limit: int, period: str, tz: str, wall_offset_ns: int) -> None:
        super().__init__(limit)
        self.period = period
        self.zone = ZoneInfo(tz)
        self.offset = wall_offset_ns

    def label(self, time: int) -> object:
        seconds = (time + self.offset) // 10**9
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(
            self.zone
        )
        return {
            "hour": (local.date(), local.hour, local.utcoffset()),
            "day": local.date(),
            "week": local.isocalendar()[:2],
            "month": (local.year, local.month),
            "year": local.year,
        }[self.period]


class DualModel(Model):
    """Both, or nothing."""

    def __init__(self, bucket: Model, window: Model) -> None:
        self.bucket = bucket
        self.window = window
        self.capacity = min(bucket.capacity, window.capacity)

    def passes(self, cost: int, now: int) -> bool:
        return self.bucket.passes(cost, now) and self.window.passes(cost, now)

    def spend(self, cost: int, now: int) -> None:
        self.bucket.spend(cost, now)
        self.window.spend(cost, now)

    def refund(self, cost: int, now: int, granted_at: int) -> None:
        self.bucket.refund(cost, now, granted_at)
        self.window.refund(cost, now, granted_at)

    def is_fresh(self, now: int) -> bool:
        return self.bucket.is_fresh(now) and self.window.is_fresh(now)
