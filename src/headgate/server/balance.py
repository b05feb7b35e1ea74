"""How many connections each worker has, where all workers of a node can see it.

A few integers in memory that the supervisor makes and every worker inherits. A worker writes its own seat and
reads the others'. The numbers steer who accepts next and nothing else, so one that is a little old does no
harm.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DOORS", "Balance", "Column", "Seat"]

DOORS: Final = 2
"""REST and RESP: connections of the one say nothing about the other."""
_INT: Final = 4


@final
class Balance:
    """The table of all seats.

    Args:
        handle: of a file that all workers have open.
        seats: how many processes may be there at the same time, those included that are being replaced.
    """

    def __init__(self, handle: int, seats: int) -> None:
        self.handle = handle
        self.seats = seats
        self._memory = mmap.mmap(handle, seats * DOORS * _INT)
        self._values = memoryview(self._memory).cast("i")

    @classmethod
    def create(cls, handle: int, seats: int) -> Self:
        """A fresh table in this empty file."""
        os.ftruncate(handle, seats * DOORS * _INT)
        return cls(handle, seats)

    def column(self, door: int) -> Column:
        """The seats of one door."""
        return Column(self._values[door * self.seats : (door + 1) * self.seats])

    def clear(self, seat: int) -> None:
        """Whoever had this seat is gone."""
        for door in range(DOORS):
            self._values[door * self.seats + seat] = 0


@final
class Column:
    """The connections of one door, by seat: 0 for nobody, else one more than there are."""

    def __init__(self, values: memoryview) -> None:
        self._values = values

    def seat(self, number: int) -> Seat:
        """The view from one seat."""
        return Seat(self._values, number)


@final
class Seat:
    """What one worker says about itself, and sees of the others."""

    def __init__(self, values: memoryview, number: int) -> None:
        self._values = values
        self._number = number

    def write(self, connections: int) -> None:
        """I accept, and have so many."""
        self._values[self._number] = connections + 1

    def leave(self) -> None:
        """I accept no more."""
        self._values[self._number] = 0

    def lead(self, connections: int) -> int:
        """How many more than somebody else, who should have the next one; 0 when it is this one's turn.

        With few connections the shares are kept equal; with many, an eighth more or less is let be: to step
        back costs time, and connections that come and go even out by themselves.
        """
        own = self._number
        least = min(
            (value for place, value in enumerate(self._values) if value and place != own),
            default=0,
        )
        lead = connections - (least - 1)
        return lead if least > 0 and lead > connections // 8 else 0
