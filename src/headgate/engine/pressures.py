"""What the nodes of a cluster tell each other of their pressure, and where they leave it, as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PressureBoard", "PressureNote"]


class PressureNote(NamedTuple):
    """What one node tells the others.

    Attributes:
        node: its name.
        pressure: of this node alone.
        capacity: its weight; any unit that all nodes share.
        seq: higher is newer.
    """

    node: str
    pressure: float
    capacity: float
    seq: int


@runtime_checkable
class PressureBoard(Protocol):
    """Where the nodes leave notes for each other: a Redis hash, a file, a dictionary."""

    def exchange(self, note: PressureNote | None) -> Iterable[PressureNote]:
        """Leave a note, if there is one, in place of the node's last; the notes of all nodes.

        It must not take long: give it a deadline, and raise when that has passed. One's own note among the
        answers does no harm. A note that was not renewed for long should be dropped.
        """

    def close(self) -> None:
        """Give back what was opened."""
