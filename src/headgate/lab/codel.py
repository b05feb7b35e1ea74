"""CoDel as routers run it, for comparison: one line, first come first served, dropped from at its head."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.lab.workload import Request

__all__ = ["CoDelLine"]

_TARGET_NS: Final = 20 * NS_PER_MS
_INTERVAL_NS: Final = 100 * NS_PER_MS


@final
class CoDelLine:
    """RFC 8289, section 5: drops at ever shorter intervals while the least delay stays above the target.

    Made for senders that slow down when a packet is lost. Users do not, and then the intervals shorten too
    slowly.

    Args:
        dropped: told of each request that it drops.
        target_ns: the least delay over an interval that is too much.
        interval_ns: how long it may last.
    """

    def __init__(
        self,
        dropped: Callable[[Request], object],
        target_ns: int = _TARGET_NS,
        interval_ns: int = _INTERVAL_NS,
    ) -> None:
        self._dropped = dropped
        self._target_ns = target_ns
        self._interval_ns = interval_ns
        self._waiting: deque[Request] = deque()
        self._first_above_ns = 0
        self._next_drop_ns = 0
        self._count = 0
        self._last_count = 0
        self._is_dropping = False

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, request: Request, now: int) -> None:
        self._waiting.append(request)

    def pop(self, now: int) -> Request | None:
        request, is_late = self._take(now)
        if self._is_dropping:
            if not is_late:
                self._is_dropping = False
            while self._is_dropping and now >= self._next_drop_ns and request is not None:
                self._dropped(request)
                self._count += 1
                request, is_late = self._take(now)
                if is_late:
                    self._next_drop_ns = self._after(self._next_drop_ns)
                else:
                    self._is_dropping = False
        elif is_late and request is not None:
            self._dropped(request)
            request, _ = self._take(now)
            self._is_dropping = True
            # One that was dropping shortly before goes on at about the rate at which it stopped.
            recent = self._count - self._last_count
            soon = now - self._next_drop_ns < 16 * self._interval_ns
            self._count = recent if recent > 1 and soon else 1
            self._next_drop_ns = self._after(now)
            self._last_count = self._count
        return request

    def _take(self, now: int) -> tuple[Request | None, bool]:
        """The next, and whether the delay has been above the target for an interval."""
        if not self._waiting:
            self._first_above_ns = 0
            return None, False
        request = self._waiting.popleft()
        if now - request.arrived < self._target_ns or not self._waiting:
            self._first_above_ns = 0
            return request, False
        if self._first_above_ns == 0:
            self._first_above_ns = now + self._interval_ns
            return request, False
        return request, now >= self._first_above_ns

    def _after(self, moment: int) -> int:
        return moment + int(self._interval_ns / sqrt(self._count))
