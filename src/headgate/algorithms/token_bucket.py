"""Token bucket: bursts up to the capacity, and a constant rate over time.

The bucket holds ``b`` tokens at most and starts full; tokens flow in at ``limit`` per window, worked out
when somebody asks. With TAT and T as in `headgate.algorithms.gcra`, and a span of ``b*T``::

    tokens(now)   = b - (max(TAT, now) - now) / T
    cost c passes   iff   tokens(now) >= c

So over any interval ``dt`` at most ``b + dt * limit / window`` are admitted.
"""

from __future__ import annotations

from typing import final

from headgate.algorithms.gcra import Gcra

__all__ = ["TokenBucket"]


@final
class TokenBucket(Gcra):
    """A1: ``limit`` tokens flow in per window, up to ``capacity``. State: TAT in ticks, an int."""
