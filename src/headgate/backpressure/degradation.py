"""When a feature is switched off to save work, and when it is tried again.

::

    ON    the pressure reaches off_at                                     -> OFF
    OFF   the pressure has been below on_below for the whole wait, and
          a health check, if there is one, says yes                       -> ON
          it says no                                                      -> the wait doubles, and begins anew

    wait = min(hold * 2^k, max(hold, 60 s)), give or take 20 %

``k`` counts how often in a row it did not last: it grows each time the feature goes off or a check says no,
and is 0 again after 60 s on. The two thresholds lie apart, because switching a feature off is meant to lower
the pressure: with one threshold it would come back at once, and go. The 20 % are so that not all nodes of a
fleet switch on in the same moment.
"""

from __future__ import annotations

from typing import Final, final

from headgate.clock import NS_PER_SECOND

__all__ = ["CLEAN_NS", "LEVELS", "LONGEST_WAIT_NS", "NORMAL", "DegradationLevel", "FeatureSwitch"]

NORMAL: Final = "normal"
LEVELS: Final = {"elevated": 0.5, "high": 0.8, "critical": 1.0}
"""How badly things stand, by name: the pressure from which each begins."""

ON_BELOW_SHARE: Final = 0.75
"""Of ``off_at``, where nothing is said about ``on_below``."""

LONGEST_WAIT_NS: Final = 60 * NS_PER_SECOND
CLEAN_NS: Final = 60 * NS_PER_SECOND
_JITTER: Final = 0.2
_MOST_DOUBLINGS: Final = 40


@final
class FeatureSwitch:
    """One feature's switch. A new one is on.

    Args:
        off_at: the pressure that switches it off, > 0.
        on_below: the pressure below which it may come back, <= ``off_at``.
        hold_ns: how long the pressure must have been below, the first time.

    Attributes:
        on: whether it is.
        doublings: k, above.
    """

    __slots__ = ("_calm_at", "_since", "_wait", "doublings", "hold_ns", "off_at", "on", "on_below")

    def __init__(self, off_at: float, on_below: float, hold_ns: int) -> None:
        self.off_at = off_at
        self.on_below = on_below
        self.hold_ns = hold_ns
        self.on = True
        self.doublings: int = 0
        self._since: int = 0
        self._calm_at: int = 0
        self._wait: int = 0

    def update(self, pressure: float, now: int, uniform: float) -> bool:
        """Take the pressure in. True: it is off and may be tried, so ask its health and tell `tried`.

        Args:
            pressure: of now; what is no number (NaN) is no pressure.
            now: nanoseconds.
            uniform: a random number in [0, 1).
        """
        if self.on:
            if pressure >= self.off_at:
                if self.is_clean(now):
                    self.doublings = 0
                self._switch_off(now, uniform)
            return False
        if pressure >= self.on_below:
            self._calm_at = now + self._wait
            return False
        return self.left(now) == 0

    def tried(self, now: int, uniform: float, *, healthy: bool) -> None:
        """What the health check said. Without one, it is healthy."""
        if self.on:
            return
        if healthy:
            self.on = True
            self._since = now
        else:
            self._switch_off(now, uniform)

    def is_on_trial(self, now: int) -> bool:
        """Whether it has come back and not yet been on for as long as it had to wait for that."""
        return self.on and 0 <= now - self._since < self._wait

    def is_clean(self, now: int) -> bool:
        """Whether its past does not count any more; a clock that went back clears it."""
        return self.on and not 0 <= now - self._since < CLEAN_NS

    def left(self, now: int) -> int:
        """How long it stays off at least, if the pressure stays low; 0 when it may be tried or is on."""
        if self.on:
            return 0
        left = self._calm_at - now
        if left > self._wait:  # the clock went back: the wait begins anew
            self._calm_at = now + self._wait
            return self._wait
        return max(left, 0)

    def _switch_off(self, now: int, uniform: float) -> None:
        longest = max(self.hold_ns, LONGEST_WAIT_NS)
        wait = min(self.hold_ns << self.doublings, longest)
        self._wait = int(wait * (1.0 - _JITTER + 2.0 * _JITTER * uniform))
        self._calm_at = now + self._wait
        self.on = False
        self.doublings = min(self.doublings + 1, _MOST_DOUBLINGS)


@final
class DegradationLevel:
    """How badly things stand, as one of four words. Up at once, down only with a gap.

    >>> level = DegradationLevel()
    >>> [level.update(pressure) for pressure in (0.3, 0.85, 0.7, 0.55, 0.3)]
    ['normal', 'high', 'high', 'elevated', 'normal']
    """

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = NORMAL

    def update(self, pressure: float) -> str:
        """Take the pressure in; the level."""
        name = NORMAL
        for level, start in LEVELS.items():
            if pressure >= start or (
                LEVELS.get(self.name, 0.0) >= start and pressure >= start * ON_BELOW_SHARE
            ):
                name = level
        self.name = name
        return name
