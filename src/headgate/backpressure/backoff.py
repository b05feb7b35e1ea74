"""Waits that grow while nothing gets better, with jitter so that many do not wait in step.

The k-th wait is drawn from the upper half of ``min(first * factor^k, most)``: long enough to be a pause, and
spread enough that those who failed together do not come back together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["Backoff"]

_SPREAD: Final = 0.5


@final
class Backoff:
    """Where one series of waits has got to.

    Args:
        first_ns: the longest that the first wait may be, >= 1.
        factor: by which each ceiling grows, >= 1.
        most_ns: the highest ceiling.
    """

    __slots__ = ("_ceiling", "_factor", "_first", "_most")

    def __init__(self, first_ns: int, factor: float, most_ns: int) -> None:
        self._first = float(first_ns)
        self._factor = factor
        self._most = float(most_ns)
        self._ceiling = self._first

    def next(self, uniform: float) -> i64:
        """The next wait in nanoseconds; ``uniform`` is drawn from [0, 1)."""
        ceiling = min(self._ceiling, self._most)
        self._ceiling = min(ceiling * self._factor, self._most)
        wait: i64 = int(ceiling * (1.0 - _SPREAD * uniform))
        return max(1, wait)

    def reset(self) -> None:
        """Begin anew, because something went well."""
        self._ceiling = self._first
