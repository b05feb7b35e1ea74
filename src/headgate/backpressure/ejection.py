"""Which nodes get no work for now, remembered over time.

`headgate.backpressure.global_pressure.outliers` says who is sick at a moment. But a sick node that gets no
work is soon idle, says so, and would be flooded again a second later. So a node that was left out stays out
for a second after its pressure fell, and each time it falls sick again for twice as long, up to a minute; the
rule is that of `headgate.backpressure.degradation`.

At most a third of the nodes are out. One that has come back and has not yet stayed for as long as it was out
counts as one of them: while it shows whether it is well, no other is left out for a burst of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.degradation import FeatureSwitch
from headgate.backpressure.global_pressure import most_out, outliers
from headgate.backpressure.pressure import OFF_BELOW, ON_AT
from headgate.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Ejector"]

HOLD_NS: Final = NS_PER_SECOND


@final
class Ejector:
    """Follows the pressures of the nodes.

    >>> ejector = Ejector()
    >>> sick = {"a": 0.4, "b": 1.6, "c": 0.5}
    >>> idle = {"a": 0.6, "b": 0.0, "c": 0.7}
    >>> [
    ...     ejector.update(told, now, 0.5)
    ...     for told, now in ((sick, 0), (idle, 100), (idle, 2_000_000_000))
    ... ]
    [['b'], ['b'], []]
    """

    __slots__ = ("_hold_ns", "_switches")

    def __init__(self, hold_ns: int = HOLD_NS) -> None:
        self._hold_ns = hold_ns
        # Only of nodes that were sick within the memory of their switches.
        self._switches: dict[str, FeatureSwitch] = {}

    def update(self, pressures: Mapping[str, float], now: int, uniform: float) -> list[str]:
        """The nodes to leave out, given what all told; those that are sick and at most a third.

        Args:
            pressures: of the nodes, by name. One that is out and of which nothing is known any more counts
                as idle.
            now: nanoseconds.
            uniform: a random number in [0, 1).
        """
        self._return(pressures, now, uniform)
        held = [s for s in self._switches.values() if not s.on or s.is_on_trial(now)]
        room = most_out(len(pressures)) - len(held)
        for node in outliers(pressures):
            switch = self._switches.get(node)
            if switch is None:
                switch = self._switches[node] = FeatureSwitch(ON_AT, OFF_BELOW, self._hold_ns)
            on_trial = switch.is_on_trial(now)
            if switch.on and (on_trial or room > 0):
                room -= not on_trial
                switch.update(pressures[node], now, uniform)
        return self._out()

    def _return(self, pressures: Mapping[str, float], now: int, uniform: float) -> None:
        """Let those back in whose time has come, and forget who has been well for long."""
        for node, switch in list(self._switches.items()):
            if switch.on:
                if switch.is_clean(now):
                    del self._switches[node]
            elif switch.update(pressures.get(node, 0.0), now, uniform):
                switch.tried(now, uniform, healthy=True)

    def _out(self) -> list[str]:
        return [node for node, switch in self._switches.items() if not switch.on]
