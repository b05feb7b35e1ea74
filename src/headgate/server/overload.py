"""What the service does when it has more to do than it can: the least important goes first.

Every door asks `Overload.sheds`, a plain attribute that is brought up to date ten times a second. While it
is False that is all a request has to do with this. While it is True the request is given its tier, and may be
refused before anything is decided about it, so that nothing is spent.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_MS
from headgate.decision import Decision
from headgate.errors import Overloaded
from headgate.gates.load_shedder import LoadShedder
from headgate.priority import PRIORITIES, TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_extensions import i64

    from headgate.clock import Clock

__all__ = ["MULTIPLIERS", "RETRY_SECONDS", "SHEDDING_RATE", "THRESHOLD", "Overload"]

# In force until others are set. The threshold is the limit itself: a service that nobody told anything
# should not turn work away because of one stall.
THRESHOLD: Final = 1.0
SHEDDING_RATE: Final = 0.1
# (The compiler loses a constant that is a tuple of so many floats; one of any number it keeps.)
MULTIPLIERS: Final[tuple[float, ...]] = (0.1, 0.5, 1.0, 1.0)

RETRY_SECONDS: Final = 2.0
"""What a refusal names, half of it more or less: 1 to 3 whole seconds in Retry-After."""


@final
class Overload:
    """The service's own shedder, and what it shed.

    Args:
        clock: gives the time.
        uniform: gives random numbers in [0, 1).

    Attributes:
        sheds: whether any request may be refused now.
        pressure: of the service, as it was last told.
        shed: how many requests were refused, by tier.
        asked: how many requests asked to be decided.
    """

    def __init__(self, clock: Clock, uniform: Callable[[], float] = random.random) -> None:
        self.sheds = False
        self.pressure: float = 0.0
        self._now: float = 0.0
        self.shed: list[int] = [0] * TIERS
        self.asked: i64 = 0
        self.uniform = uniform
        self.threshold: float = THRESHOLD
        self.rate: float = SHEDDING_RATE
        self.multipliers: list[float] = list(MULTIPLIERS)
        self._clock = clock
        # One for each tier, so that a refusal says what it was taken for. No policy can have such a name.
        self._names = [f"(overload, {priority})" for priority in PRIORITIES]
        self._shedder = self._build()

    def apply(self, threshold: float, rate: float, multipliers: Sequence[float]) -> None:
        """Go by other settings from now on; what was added up begins anew.

        Args:
            threshold: of the pressure.
            rate: how much more is shed every 100 ms, for each unit of pressure above the threshold.
            multipliers: for each tier, its part of that.
        """
        wanted = list(multipliers)
        if (threshold, rate, wanted) == (self.threshold, self.rate, self.multipliers):
            return
        self.threshold = threshold
        self.rate = rate
        self.multipliers = wanted
        self._shedder = self._build()
        self.sheds = False

    def look(self, pressure: float, now: float) -> None:
        """Take in the pressure, every 100 ms.

        Args:
            pressure: as it is shown.
            now: as it is shed by.
        """
        self.pressure = pressure
        self._now = now
        self._shedder.refresh()
        self.sheds = not self._shedder.is_calm

    def parts(self) -> list[float]:
        """For each tier, the part of its requests that is being refused."""
        return self._shedder.parts()

    def refusal(self, tier: i64) -> Decision | None:
        """The answer to a request that is shed; None when it may go on."""
        decision = self._shedder.allow(tier)
        if decision.allowed:
            return None
        self.shed[tier] += 1
        # In whole milliseconds, which is how it is shown.
        wait: i64 = (decision.retry_after_ns + NS_PER_MS - 1) // NS_PER_MS * NS_PER_MS
        return Decision(False, 0, 0, wait, wait, 0, self._names[tier], 0)

    def is_refusal(self, decision: Decision) -> bool:
        """Whether a decision is one of `refusal`; no policy's name begins so."""
        return decision.policy.startswith("(overload,")

    def require_room(self, tier: i64) -> None:
        """Raise `Overloaded` when a request of this tier is to be shed."""
        decision = self.refusal(tier)
        if decision is not None:
            raise Overloaded(decision)

    def _build(self) -> LoadShedder:
        return LoadShedder(
            "pressure",
            load=self._load,
            threshold=self.threshold,
            rate=self.rate,
            multipliers=self.multipliers,
            retry_after=RETRY_SECONDS,
            clock=self._clock,
            uniform=self._chance,
        )

    def _load(self) -> float:
        return self._now

    def _chance(self) -> float:
        return self.uniform()
