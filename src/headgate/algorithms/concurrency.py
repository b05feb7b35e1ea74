"""Concurrency limit: so many permits in flight at once, each of which expires.

A permit is taken by `consume` and released by `refund` with the time at which it was granted. One that
nobody releases (its holder died) comes back after the lease::

    cost c passes   iff   c + permits taken in (now - lease, now] and not released  <=  limit

which is the exact sliding window, with the lease for a window: so both keep the same log. A release
that comes after the lease is over gives back nothing, because the permit is back already.
"""

from __future__ import annotations

from typing import final

from headgate.algorithms.event_log import EventLog

__all__ = ["Concurrency"]


@final
class Concurrency(EventLog):
    """A7: ``limit`` permits in flight, each for ``window_ns`` at most. State: a log of the permits."""

    def can_be_paced(self) -> bool:
        """It limits no rate, and a lease lasts as long as it was said to."""
        return False
