"""The controlled-delay queue: a line that stays short in time, whatever its length.

The rule of Facebook's servers (B. Maurer, "Fail at Scale", ACM Queue 2015), which simplifies CoDel
(K. Nichols, V. Jacobson, 2012) for requests, each of which can be refused::

    standing     the line was never empty for more than the interval (100 ms)
    patience     the target (20 ms) while it stands and for an interval after it stood, the interval
                 otherwise; set on joining
    next         the newest while it stands, the oldest otherwise

A line that empties now and then is a burst being worked off: it may have its interval. One that stands is
overload: then whoever waited for long is served too late to be of use, and would make those behind it late as
well. Newest first serves those who still care; the others time out.

"Newest first" goes by the line's being empty, and never by whether CoDel's own minimum is above its
target: newest-first makes that minimum small at once, so that the two would switch each other off and on.

A line under a modest overload empties by chance every now and then, since those who wait time out. Hence the
interval after it stood, which Facebook's rule does not have: or each such moment would let the line grow for
another interval with the longer patience.

Choose a target above the time between two seats coming free (the service time over the seats).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.backpressure.waiting_order import Ranking, ServiceTime, WaitingOrder

if TYPE_CHECKING:
    from headgate.backpressure.waiting_order import Candidate

__all__ = ["ControlledDelay", "ControlledDelayOrder"]


@final
class ControlledDelay:
    """The rule, told when a line begins and ends.

    Args:
        target_ns: what may be waited while the line stands.
        interval_ns: how long a line may be there before it stands; what may be waited before.
    """

    def __init__(self, target_ns: int, interval_ns: int) -> None:
        self._target_ns = target_ns
        self._interval_ns = interval_ns
        self._since = 0
        self._short_until = -1
        self._is_empty = True

    def began(self, now: int) -> None:
        """Somebody waits where nobody did."""
        self._since = now
        self._is_empty = False

    def emptied(self, now: int) -> None:
        """Nobody waits any more."""
        if self.is_standing(now):
            self._short_until = now + self._interval_ns
        self._is_empty = True

    def is_standing(self, now: int) -> bool:
        """Whether somebody has been waiting for more than the interval, the same one or not."""
        return not self._is_empty and now - self._since > self._interval_ns

    def patience(self, now: int) -> int:
        """What one that joins now may wait, in nanoseconds."""
        is_short = now <= self._short_until or self.is_standing(now)
        return self._target_ns if is_short else self._interval_ns


@final
class ControlledDelayOrder(WaitingOrder):
    """One line for all, under `ControlledDelay`.

    While it stands, the oldest gives way to a newcomer when there is no room; otherwise the newcomer does.
    Whoever was first and did not fit stays first, so that the seats which come free add up for it.
    """

    def __init__(self, target_ns: int, interval_ns: int) -> None:
        self._rule = ControlledDelay(target_ns, interval_ns)
        self._line = Ranking()
        self._chosen: Candidate | None = None
        self._service = ServiceTime()

    def prepare(self, candidate: Candidate, now: int) -> None:
        candidate.charge = candidate.cost * self._service.mean_ns

    def patience(self, candidate: Candidate, now: int) -> int:
        return self._rule.patience(now)

    def add(self, candidate: Candidate, now: int) -> None:
        if not len(self._line):
            self._rule.began(now)
        self._line.add(0.0, candidate)

    def first(self, now: int) -> Candidate | None:
        if self._chosen is None:
            newest = self._rule.is_standing(now)
            self._chosen = self._line.last() if newest else self._line.first()
        return self._chosen

    def victim(self, newcomer: Candidate, now: int) -> Candidate | None:
        return self._line.first() if self._rule.is_standing(now) else None

    def remove(self, candidate: Candidate, now: int, *, seated: bool) -> None:
        self._line.remove(0.0, candidate)
        if self._chosen is candidate:
            self._chosen = None
        if not len(self._line):
            self._rule.emptied(now)

    def finished(self, candidate: Candidate, served_ns: int, now: int) -> None:
        self._service.observe(served_ns)
