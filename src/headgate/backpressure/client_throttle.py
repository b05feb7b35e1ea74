"""Refuse at the client what the upstream would refuse anyway.

From "Handling Overload" (Google, Site Reliability Engineering, chapter 21)::

    p_reject = max(0, (requests - K * accepts) / (requests + 1))        over 30 s, at most .9

``requests`` are all that the program wanted to send, those refused here among them; ``accepts`` are
those that the upstream did not refuse for overload. Errors of any other kind are accepts: the upstream
had time for them. So the upstream sees about K times what it can do, which is enough to notice when it
recovers; and as at most nine in ten are refused here, some always ask.

A request counts when its outcome is known. Counting it when it is sent would take a slow upstream
for one that refuses: a hundred requests in flight would be a hundred without an accept.

Below ten requests a second nothing is refused: there is nothing to save, and too little to judge by.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["AcceptWindow", "ThrottleRule"]

_SLOTS: Final = 30
_KEPT: Final = 31  # the present slot besides
_NS: Final = 1_000_000_000


@final
class AcceptWindow:
    """What became of the requests to one upstream, of one tier, over a window of 30 slots.

    A clock that goes back leaves the counts as they are; they last one window from the new time on.

    Attributes:
        requests: wanted, over the window.
        accepts: not refused for overload, over the window.
    """

    __slots__ = (
        "_accepts",
        "_at",
        "_first",
        "_requests",
        "_slot_ns",
        "_start",
        "accepts",
        "requests",
    )

    def __init__(self, window_ns: int) -> None:
        self._slot_ns = -(-window_ns // _SLOTS)
        self.requests = self.accepts = 0
        self._requests = [0] * _KEPT
        self._accepts = [0] * _KEPT
        self._at = self._start = self._first = 0

    def add(self, requests: int, accepts: int, now: int) -> None:
        """Count outcomes, at their moment."""
        self.move_to(now)
        if self.requests == 0:
            self._first = now
        self._requests[self._at] += requests
        self._accepts[self._at] += accepts
        self.requests += requests
        self.accepts += accepts

    def rate(self, now: int) -> float:
        """Requests per second, over the window or as much of it as there was; no less than a second."""
        self.move_to(now)
        seen = min(max(now - self._first, _NS), _SLOTS * self._slot_ns)
        return self.requests * _NS / max(seen, 1)

    def move_to(self, now: int) -> None:
        """Forget what is over."""
        elapsed = now - self._start
        if 0 <= elapsed < self._slot_ns:
            return
        if elapsed < 0 and self.requests > 0:
            self._first -= self._start - now
            self._start = now
            return
        slots = elapsed // self._slot_ns
        if self.requests == 0 or slots >= _KEPT:
            self._clear(now)
            return
        self._start += slots * self._slot_ns
        for _ in range(slots):
            self._at = (self._at + 1) % _KEPT
            self.requests -= self._requests[self._at]
            self.accepts -= self._accepts[self._at]
            self._requests[self._at] = self._accepts[self._at] = 0

    def _clear(self, now: int) -> None:
        self.requests = self.accepts = 0
        self._requests = [0] * _KEPT
        self._accepts = [0] * _KEPT
        self._start = self._first = now


@final
class ThrottleRule:
    """The rule, for any number of windows.

    Args:
        multiplier: K, >= 1: how many times what it accepts an upstream may see.
        min_rate: requests per second below which nothing is refused.
        most: the largest share that is refused, below 1.
    """

    def __init__(self, multiplier: float, min_rate: float, most: float) -> None:
        self.multiplier = multiplier
        self._min_rate = min_rate
        self._most = most

    def refusal(self, window: AcceptWindow, now: int, multiplier: float) -> float:
        """The probability with which the next request is to be refused, 0 to ``most``.

        Args:
            window: what became of those before it.
            now: the moment, in nanoseconds on the clock of the window.
            multiplier: K; the rule's own, or a lower one for an upstream that says it is pressed.
        """
        if window.rate(now) < self._min_rate:
            return 0.0
        excess = window.requests - multiplier * window.accepts
        return min(max(excess / (window.requests + 1), 0.0), self._most)
