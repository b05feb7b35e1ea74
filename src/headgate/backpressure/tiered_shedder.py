"""A shedder that lets through what can be done in time, the most important first.

Every arrival has a *level*, and a low one is important::

    level = tier * 128 + hash(user, hour) mod 128          (4 tiers, so 0 to 511)

The second part orders the users of a tier, anew every hour: while some must go, the same ones pass each
time, so that work of several requests comes to an end instead of every one being cut short.

Every period (100 ms) the controller corrects which part of the arrivals is to be shed::

    e = [passed - completed + 0.5 (queue - wanted)] / arrivals           within -1 to 1
    wanted = max(C * 20 ms, 3 sqrt(C * 100 ms))
    r = clamp(r + 0.5 e, 0, 0.99)
    threshold = the level below which 1 - r of the arrivals lately were

``passed - completed`` is how fast the backlog grows. The second term draws the queue towards 20 ms of work,
so that there is always something to do and never much. Chance alone moves the queue by sqrt(C * 100 ms)
before the next correction; a server that is slow, below 2250 a second, needs three times that lest it stand
idle now and then (ADR 64). C is the capacity; it is learnt from the completions while there is a queue,
unless it is given. The arrivals lately are the last 1000, or those of the last second when they are more (of
1000, the share of a tier of one in five is off by 6 %); older ones fade.

At the threshold itself a level passes with just the probability that makes the part right, so that it is
right too where all arrivals have one level. Above it 1 % of the lowest tier still passes: nobody is shut
out for good, and whoever tries can see that there is room again.

Beyond a queue of 300 nothing passes, whatever its level. What is turned away there was let through by the
threshold, and counts as passed: the threshold is what is at fault, and learns it.

From Zhou et al., Overload Control for Scaling WeChat Microservices (DAGOR, 2018: levels), and Uber's Cinnamon
(2023: the controller and the threshold).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.priority import TIERS

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["LEVELS_OF_A_TIER", "TieredShedder"]

# Literals, so that compiled code has them built in.
LEVELS_OF_A_TIER: Final = 128
_USER_BITS: Final = 127
_LEVELS: Final = 512
_LAST_LEVEL: Final = 511
_LOWEST_TIER: Final = 384
_REMEMBERED: Final = 1000.0
_PERIODS: Final = 10.0
_GAIN: Final = 0.5
_QUEUE_GAIN: Final = 0.5
_SWINGS: Final = 3.0
_MOST_SHED: Final = 0.99
_LEARN: Final = 0.2
_LATE: Final = 10
"""Periods after which a correction is too late to learn the capacity from."""

assert _LEVELS == TIERS * LEVELS_OF_A_TIER  # noqa: S101 - the literals above belong together


@final
class TieredShedder:
    """The rule, and what it remembers. Nothing here is checked: whoever calls has done so.

    Args:
        capacity_per_second: completions per second that are possible; learnt when None.
        target_delay_ns: how much work, in time, the queue is to hold.
        max_queue: the queue at which nothing more passes.
        keep_lowest: the part of the lowest tier that passes whatever the threshold.
        period_ns: between two corrections.

    Attributes:
        threshold: levels below pass, levels above are shed, this one in part; 511 when all pass.
        rejection_ratio: the part of the arrivals that is to be shed, 0 to 0.99.
        capacity_per_second: as given, or as learnt so far; 0 when nothing is known.
        max_queue: as given.
    """

    def __init__(
        self,
        capacity_per_second: float | None = None,
        target_delay_ns: int = 20_000_000,
        max_queue: int = 300,
        keep_lowest: float = 0.01,
        period_ns: int = 100_000_000,
    ) -> None:
        self.capacity_per_second: float = (
            0.0 if capacity_per_second is None else capacity_per_second
        )
        self.max_queue: i64 = max_queue
        self.threshold: i64 = _LAST_LEVEL
        self.rejection_ratio: float = 0.0
        self._learns = capacity_per_second is None
        self._target_seconds: float = target_delay_ns / 1e9
        self._keep_lowest: float = keep_lowest
        self._period_ns: i64 = period_ns
        self._period_seconds: float = period_ns / 1e9
        self._share: float = 1.0
        self._levels: list[int] = [0] * _LEVELS
        self._weights: list[float] = [0.0] * _LEVELS
        self._weight: float = 0.0
        self._arrivals: i64 = 0
        self._passed: i64 = 0
        self._completed: i64 = 0
        self._started = False
        self._last_ns: i64 = 0

    def level(self, tier: i64, key_hash: i64) -> i64:
        """The level of an arrival; ``key_hash`` is of its user and the hour, any number."""
        return tier * LEVELS_OF_A_TIER + (key_hash & _USER_BITS)

    def admit(self, level: i64, queue: i64, uniform: float) -> bool:
        """Whether an arrival passes; it counts either way.

        Args:
            level: its level, 0 to 511.
            queue: how much waits before it.
            uniform: a random number in [0, 1); any will do while ``rejection_ratio`` is 0.
        """
        self._arrivals += 1
        self._levels[level] += 1
        if level >= self.threshold and not self._is_spared(level, uniform):
            return False
        self._passed += 1
        return queue < self.max_queue

    def completed(self, count: i64 = 1) -> None:
        """So much of what had passed is over, however it ended."""
        self._completed += count

    def update(self, queue: i64, now: i64) -> None:
        """Correct the threshold, once per period; to call it late or often does no harm."""
        elapsed = now - self._last_ns
        if not self._started or elapsed < 0:  # below 0: the clock went back
            self._started = True
            self._last_ns = now
            return
        if elapsed < self._period_ns:
            return
        self._last_ns = now
        if self._learns and elapsed < _LATE * self._period_ns:
            self._learn(float(self._completed) * 1e9 / float(elapsed), queue)
        self._correct(queue)
        self._remember()
        self._move_threshold()
        self._arrivals = 0
        self._passed = 0
        self._completed = 0

    def _is_spared(self, level: i64, uniform: float) -> bool:
        """Whether one passes that is not below the threshold."""
        if level == self.threshold and uniform < self._share:
            return True
        return level >= _LOWEST_TIER and uniform < self._keep_lowest

    def _learn(self, rate: float, queue: i64) -> None:
        """Completions show the capacity while there is enough to do, and a lower bound else."""
        known = self.capacity_per_second
        if known == 0.0:
            self.capacity_per_second = rate
        elif rate > known or queue > 0:
            self.capacity_per_second = known + _LEARN * (rate - known)

    def _correct(self, queue: i64) -> None:
        beyond = float(queue) - self._wanted_queue()
        if self._arrivals == 0:
            if beyond <= 0.0:
                self.rejection_ratio = 0.0
            return
        growth = self._passed - self._completed
        error = (float(growth) + _QUEUE_GAIN * beyond) / float(self._arrivals)
        error = min(max(error, -1.0), 1.0)
        self.rejection_ratio = min(max(self.rejection_ratio + _GAIN * error, 0.0), _MOST_SHED)

    def _wanted_queue(self) -> float:
        capacity = self.capacity_per_second
        swing: float = (capacity * self._period_seconds) ** 0.5
        return max(capacity * self._target_seconds, _SWINGS * swing)

    def _remember(self) -> None:
        """Take the levels of this period in; what is older counts the less, the more there is."""
        if self._arrivals == 0:
            return
        together = self._weight + float(self._arrivals)
        kept = min(max(_REMEMBERED, _PERIODS * float(self._arrivals)), together)
        scale = kept / together
        for level in range(_LEVELS):
            self._weights[level] = scale * (self._weights[level] + float(self._levels[level]))
            self._levels[level] = 0
        self._weight = kept

    def _move_threshold(self) -> None:
        """The threshold under which the right part of the recent arrivals was."""
        self.threshold = _LAST_LEVEL
        self._share = 1.0
        if self.rejection_ratio == 0.0:
            return
        left = (1.0 - self.rejection_ratio) * self._weight
        for level in range(_LEVELS):
            weight = self._weights[level]
            if weight > left:
                self.threshold = level
                self._share = left / weight
                return
            left -= weight
