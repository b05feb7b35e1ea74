"""When those in a line will pass: the limits are played through ahead of time, on copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.decision import NEVER

if TYPE_CHECKING:
    from headgate.algorithms.base import Algorithm

__all__ = ["Forecast"]


@final
class Forecast:
    """One key's limits, some way into the future.

    Exact if nobody else spends. Callers that do not stand in line can make it too early, never too
    late; what is given back can, and then it has to be made anew.

    Args:
        limits: each limit's algorithm, with a copy of the key's state.
        now: the time of the copies.
    """

    def __init__(self, limits: list[tuple[Algorithm, object]], now: int) -> None:
        self._algorithms = [algorithm for algorithm, _ in limits]
        self._states = [state for _, state in limits]
        self._at = now

    def passing(self, cost: int) -> int:
        """The moment at which a cost passes after all that were added; `NEVER` if it cannot."""
        moment = self._at
        while True:
            wait = 0
            for algorithm, state in zip(self._algorithms, self._states, strict=True):
                one = algorithm.wait(state, cost, moment)
                if one == NEVER:
                    return NEVER
                wait = max(wait, one)
            if wait == 0:
                return moment
            moment += wait

    def proceeding(self, cost: int) -> int:
        """The moment at which a cost that passes may proceed, which for a queueing limit is later."""
        moment = self.passing(cost)
        if moment == NEVER or cost == 0:
            return moment
        delays = [
            algorithm.delay(state, cost, moment)
            for algorithm, state in zip(self._algorithms, self._states, strict=True)
        ]
        return moment + max(delays)

    def add(self, cost: int) -> None:
        """Let a cost pass, as soon as it does."""
        moment = self.passing(cost)
        if moment == NEVER:
            return
        self._at = moment
        for place, algorithm in enumerate(self._algorithms):
            self._states[place] = algorithm.consume(self._states[place], cost, moment)
