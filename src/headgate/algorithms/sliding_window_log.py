"""Sliding window, exact: every admission is remembered until it is a window old.

An admission at time ``t`` counts from ``t`` up to, and not at, ``t + window``::

    cost c passes   iff   c + sum of costs admitted in (now - window, now]  <=  limit

so that no window, wherever it is laid, ever holds more than the limit. The price is memory: one entry
for each admission that counts, up to ``limit`` of them (and as many again that await being dropped).
"""

from __future__ import annotations

from typing import final

from headgate.algorithms.event_log import EventLog

__all__ = ["SlidingWindowLog"]


@final
class SlidingWindowLog(EventLog):
    """A2: at most ``limit`` in any window, exactly. State: a log of the admissions that count."""
