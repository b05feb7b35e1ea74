"""The simple rules of shedding: by the length of a queue, and by load and priority.

::

    by queue   p = queue / max_queue - 1                            within 0 to 1
    by load    p = (load - threshold) * rate * multiplier[tier]     within 0 to 1

Both say with which probability an arrival is shed. They settle where the load is above the threshold by as
much as it takes: at a rate of 0.1 and a load that ends at 2, not more than 12 % is ever shed. `AddedShedding`
adds the second rule up instead, once per period, so that what is shed grows for as long as the load stays
above the threshold. Choose `headgate.backpressure.tiered_shedder` where completions can be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i64

__all__ = ["MOST_SHED", "AddedShedding", "load_probability", "queue_probability"]

MOST_SHED: Final = 0.99
"""What is left shows whether there is room again."""

_EASING: Final = 0.1
_MOST_STEPS: Final = 10.0


def queue_probability(queue: i64, max_queue: i64) -> float:
    """The part of the arrivals to shed at this length of the queue.

    >>> queue_probability(100, 100), queue_probability(150, 100), queue_probability(500, 100)
    (0.0, 0.5, 1.0)
    """
    return _within_one(float(queue) / float(max_queue) - 1.0)


def load_probability(load: float, threshold: float, rate: float, multiplier: float) -> float:
    """The part of a tier's arrivals to shed at this load; 0 when it is not known (NaN).

    >>> load_probability(0.8, 0.8, 1.0, 1.0), load_probability(1.3, 0.8, 1.0, 0.5)
    (0.0, 0.25)
    """
    return _within_one((load - threshold) * rate * multiplier)


@final
class AddedShedding:
    """The rule by load, added up.

    ::

        level += (load - threshold) * rate             each period; below the threshold, then:
        level *= 0.9
        level  within 0 to 1
        part of a tier = level * multiplier[tier]      at most 0.99

    So a multiplier says how fast a tier is shed beside the others, and how much of it at most. That there is
    a most matters where shedding does not help (callers who were refused ask again at once, another program
    took the processor): then all would be refused for nothing. Below the threshold it eases off faster
    than it came.

    Args:
        threshold: of the load.
        rate: how much is added per period, for each unit of load above the threshold.
        multipliers: for each tier; 0 never sheds it.
        period_ns: what a step is made for; `update` may come at any interval.

    Attributes:
        level: what was added up, 0 to 1.
        parts: for each tier, the part of its arrivals to shed, 0 to 0.99.
    """

    def __init__(
        self,
        threshold: float,
        rate: float,
        multipliers: Sequence[float],
        period_ns: int = 100_000_000,
    ) -> None:
        self.level: float = 0.0
        self.parts: list[float] = [0.0 for _ in multipliers]
        self._threshold: float = threshold
        self._rate: float = rate
        self._multipliers: list[float] = list(multipliers)
        self._period_ns: i64 = period_ns
        self._started = False
        self._last_ns: i64 = 0

    def update(self, load: float, now: i64) -> None:
        """Take in the load; a load that is not known (NaN) changes nothing.

        An update that comes late adds no more than one in time: often it is late because all stood still, and
        then nothing was let in meanwhile. It eases off for all the time that passed, up to ten periods. A
        clock that went back counts as one period.
        """
        elapsed = now - self._last_ns
        steps: float = 1.0
        if self._started and elapsed >= 0:
            steps = min(float(elapsed) / float(self._period_ns), _MOST_STEPS)
        self._started = True
        self._last_ns = now
        if load != load:  # noqa: PLR0124 - NaN
            return
        excess = load - self._threshold
        level = self.level + min(steps, 1.0) * excess * self._rate
        if excess < 0.0:
            level = (self.level + steps * excess * self._rate) * (1.0 - _EASING) ** steps
        self.level = min(max(level, 0.0), 1.0)
        for tier in range(len(self.parts)):
            self.parts[tier] = min(self.level * self._multipliers[tier], MOST_SHED)


def _within_one(probability: float) -> float:
    if probability > 0.0:
        return min(probability, 1.0)
    return 0.0  # NaN too
