"""When a process that died is started again, and when that is pointless.

Pure: what happened and when goes in, the wait comes out.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["GIVE_UP_AFTER", "HEALTHY_SECONDS", "Restarts"]

HEALTHY_SECONDS: Final = 10.0
"""A process that lived for so long did not die of its start."""
GIVE_UP_AFTER: Final = 3
"""Deaths in a row of each process, all within `HEALTHY_SECONDS`, that are a crash loop."""
_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 5.0


@final
class Restarts:
    """The deaths of processes that do the same work.

    A death after a long life is answered at once: it was an accident, and requests are waiting. Deaths soon
    after the start wait longer each time: 0, 0.1, 0.2, ... 5 s.

    Args:
        processes: how many there are; all of them may have one accident together.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._in_a_row = 0
        self.total = 0

    def died(self, lived_seconds: float) -> float:
        """A process ended that should not have; seconds to wait before the next one starts."""
        self.total += 1
        if lived_seconds >= HEALTHY_SECONDS:
            self._in_a_row = 0
            return 0.0
        rounds = self._in_a_row // self._processes
        self._in_a_row += 1
        if rounds == 0:
            return 0.0
        return float(min(_FIRST_SECONDS * 2.0 ** (rounds - 1), _LONGEST_SECONDS))

    @property
    def is_loop(self) -> bool:
        """Whether they die faster than they can be of use."""
        return self._in_a_row >= GIVE_UP_AFTER * self._processes
