"""Limits whose rate is worked out per call: 100 a minute for some, 1,000 for others.

There is one limiter for each rate that comes up. So a key whose rate changes starts with the whole
allowance of its new rate, and one that changes back finds what it had left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import SystemClock
from headgate.errors import InvalidRate
from headgate.gates.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.clock import Clock
    from headgate.rate import Rate

__all__ = ["MAX_RATES", "Limiters"]

MAX_RATES: Final = 256


@final
class Limiters:
    """One limiter for each rate.

    >>> limiters = Limiters(name="api")
    >>> limiters.of("100/minute") is limiters.of("100/minute")
    True

    Args:
        clock: see `Limiter`; one for all.
        settings: the other arguments of `Limiter`.

    Attributes:
        clock: gives the time.
        holds_permits: see `Limiter`.
    """

    def __init__(self, clock: Clock | None = None, **settings: Any) -> None:
        self.clock = SystemClock() if clock is None else clock
        self.holds_permits = settings.get("algorithm") == "concurrency"
        self._settings = settings
        self._limiters: dict[object, Limiter] = {}

    def of(self, rate: str | Rate | Sequence[Rate]) -> Limiter:
        """The limiter of this rate.

        Raises:
            InvalidRate: it is none, or one of too many.
        """
        known = rate if not isinstance(rate, list) else tuple(rate)
        limiter = self._limiters.get(known)
        if limiter is None:
            if len(self._limiters) >= MAX_RATES:
                raise InvalidRate(
                    f"at most {MAX_RATES} different rates may come up in one limit; "
                    "choose from a few plans instead of computing the number"
                )
            # Two threads may get here at once: the first one's limiter is the one that stays.
            named = {"name": str(rate)} | self._settings
            limiter = self._limiters.setdefault(known, Limiter(rate, clock=self.clock, **named))
        return limiter
