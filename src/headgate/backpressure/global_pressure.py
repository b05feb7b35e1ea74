"""The pressure of others: of the nodes beside this one, and of the services behind it (B8).

::

    told(age)  = p                                          while the report is fresh
               = local + (p - local) * 2^-(stale / 1 s)     after, so it decays to what is known here

    effective  = max(local, mean of all nodes, weighted by capacity)
                 the mean only when >= 60 % of the nodes are above 0.7; else local
    forwarded  = max(own, downstream), for each API

One sick node is an outlier to be left out by whoever spreads the load, and no reason for the others to shed:
that is what the 60 % are for, where a maximum over the nodes would make all of them as sick as the sickest.
A cluster that is in trouble as a whole, though, sheds as one, also on the nodes that happen to be less busy.

Downstream it is a maximum: a call that ends in an overloaded service is in vain, however well this one is.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.pressure import CEILING, OFF_BELOW, ON_AT
from headgate.clock import NS_PER_MS, NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Publisher", "Reports", "effective_pressure", "most_out", "outliers", "told_pressure"]

HALF_LIFE_NS: Final = NS_PER_SECOND
ANY_MEAN_FROM: Final = 0.6
HIGH: Final = 0.7

PUBLISH_EVERY_NS: Final = 500 * NS_PER_MS
PUBLISH_AT_CHANGE: Final = 0.05
FRESH_NS: Final = 3 * PUBLISH_EVERY_NS

_GONE_AFTER_NS: Final = 10 * HALF_LIFE_NS
_MOST_OUT: Final = 3


def told_pressure(pressure: float, local: float, stale_ns: int) -> float:
    """What a report still says, so long after it ceased to be fresh (<= 0: it is fresh).

    >>> told_pressure(1.0, 0.5, -5), told_pressure(1.0, 0.5, 1_000_000_000)
    (1.0, 0.75)
    """
    if stale_ns <= 0:
        return pressure
    left: float = 0.5 ** (stale_ns / HALF_LIFE_NS)
    return local + (pressure - local) * left


def effective_pressure(local: float, nodes: Iterable[tuple[float, float]]) -> float:
    """The pressure to act on.

    >>> effective_pressure(0.4, [(1.5, 1.0), (0.4, 1.0), (0.3, 1.0), (0.4, 1.0)])  # one is sick
    0.4
    >>> effective_pressure(0.4, [(1.5, 1.0), (1.2, 1.0), (0.9, 1.0), (0.4, 1.0)])  # three of four
    1.0

    Args:
        local: of this node.
        nodes: (pressure, capacity) of all nodes, this one among them.
    """
    count = high = 0
    weighted = capacities = 0.0
    for pressure, capacity in nodes:
        count += 1
        high += pressure > HIGH
        weighted += pressure * capacity
        capacities += capacity
    if count == 0 or capacities <= 0.0 or high < ANY_MEAN_FROM * count:
        return local
    return max(local, weighted / capacities)


def outliers(pressures: Mapping[str, float]) -> list[str]:
    """The sick nodes, which get no more work for now: overloaded while the others are not.

    At most a third of the nodes (but one of two or three), the worst first, and none unless the median of
    those that stay is below 0.7: what is taken from the sick ones has to go somewhere.

    >>> outliers({"a": 0.4, "b": 0.5, "c": 1.6, "d": 0.4})
    ['c']
    """
    ranked = sorted(pressures, key=lambda node: (-pressures[node], node))
    sick = [node for node in ranked if pressures[node] >= ON_AT]
    sick = sick[: most_out(len(ranked))]
    stay = [pressures[node] for node in ranked if node not in sick]
    if not stay or median(stay) >= OFF_BELOW:
        return []
    return sick


def most_out(nodes: int) -> int:
    """How many of so many nodes may be left out: a third, but one of two or three."""
    return max(1, nodes // _MOST_OUT)


@final
class Publisher:
    """When to tell the others: when the pressure moved by 0.05, or every 500 ms.

    >>> publisher = Publisher()
    >>> [publisher.due(p, now) for p, now in ((0.2, 0), (0.22, 100_000_000), (0.3, 200_000_000))]
    [True, False, True]
    """

    __slots__ = ("_at", "_told")

    def __init__(self) -> None:
        self._told = -1.0
        self._at: int = 0

    def due(self, pressure: float, now: int) -> bool:
        """Whether to tell now; if so, it is taken for told."""
        # A hair less than the change: 0.95 - 0.90 is not quite 0.05 in binary.
        moved = abs(pressure - self._told) >= PUBLISH_AT_CHANGE - 1e-9
        if self._told >= 0.0 and not moved and 0 <= now - self._at < PUBLISH_EVERY_NS:
            return False
        self._told = pressure
        self._at = now
        return True

    def failed(self) -> None:
        """It could not be told after all: it is due at once."""
        self._told = -1.0


@final
class _Report:
    __slots__ = ("at", "capacity", "fresh_ns", "pressure", "seq")

    def __init__(self, pressure: float, capacity: float, seq: int, at: int, fresh_ns: int) -> None:
        self.pressure = pressure
        self.capacity = capacity
        self.seq = seq
        self.at = at
        self.fresh_ns = fresh_ns

    def stale_ns(self, now: int) -> int:
        """How long it has not been fresh. After a clock that went back, it is as if it had come now."""
        age = now - self.at
        if age < 0:
            self.at = now
            age = 0
        return age - self.fresh_ns

    def is_gone(self, now: int) -> bool:
        return self.stale_ns(now) >= _GONE_AFTER_NS


@final
class Reports:
    """What others told, by name: nodes of the cluster, or APIs behind this service.

    A report of an older number than the one known is late and is not taken, and one of the same number is no
    news. What has been stale for ten seconds is gone: it counts no more, and a lower number than its last
    is then taken for a sender that started anew.

    Args:
        most: how many names are kept. At that many, what is gone makes room; if nothing is, newcomers are
            not taken.
    """

    __slots__ = ("_most", "_reports")

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._reports: dict[str, _Report] = {}

    def take(
        self,
        name: str,
        pressure: float,
        seq: int,
        now: int,
        capacity: float = 1.0,
        fresh_ns: int = FRESH_NS,
    ) -> bool:
        """Take a report in; False when it is late, is no number, or there is no room.

        Args:
            name: whose it is.
            pressure: above the ceiling of 2 is the ceiling, below 0 is 0.
            seq: higher is newer.
            now: when it came.
            capacity: its weight, > 0.
            fresh_ns: how long it is to be believed.
        """
        # Which NaN is not either.
        if not 0.0 < capacity < 1e12 or not -1e12 < pressure < 1e12:
            return False
        known = self._reports.get(name)
        if known is not None:
            if seq == known.seq or (seq < known.seq and not known.is_gone(now)):
                return False
        elif len(self._reports) >= self._most and not self._make_room(now):
            return False
        held = min(max(pressure, 0.0), CEILING)
        self._reports[name] = _Report(held, capacity, seq, now, max(fresh_ns, 0))
        return True

    def remove(self, name: str) -> bool:
        """Forget one that said goodbye; False when it was not known."""
        return self._reports.pop(name, None) is not None

    def told(self, name: str, local: float, now: int) -> float:
        """The pressure of one; ``local`` when nothing is known."""
        report = self._reports.get(name)
        if report is None:
            return local
        return told_pressure(report.pressure, local, report.stale_ns(now))

    def heard_ns(self, name: str) -> int | None:
        """When the report came that is held of one; None when there is none."""
        report = self._reports.get(name)
        return None if report is None else report.at

    def all(self, local: float, now: int) -> dict[str, tuple[float, float]]:
        """(pressure, capacity) of each that is not gone."""
        return {
            name: (told_pressure(report.pressure, local, report.stale_ns(now)), report.capacity)
            for name, report in self._reports.items()
            if not report.is_gone(now)
        }

    def __len__(self) -> int:
        return len(self._reports)

    def _make_room(self, now: int) -> bool:
        for name, report in list(self._reports.items()):
            if report.is_gone(now):
                del self._reports[name]
        return len(self._reports) < self._most
