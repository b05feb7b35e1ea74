"""What the nodes of a cluster tell each other of their pressure, and where they leave it, as types."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final, runtime_checkable

from headgate.clock import NS_PER_MS
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.clock import Clock

__all__ = ["NOTE_TTL_MS", "PressureBoard", "PressureFeed", "PressureNote", "Pressures"]

NOTE_TTL_MS: Final = 1_500
"""Three intervals: a node that tells nothing for so long is not there."""


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


@runtime_checkable
class PressureFeed(PressureBoard, Protocol):
    """A board that also calls out each note in the moment it is left.

    What was left before, or while it could not be heard, is on the board: nothing is lost with a call that
    nobody hears.
    """

    @property
    def live(self) -> bool:
        """Whether notes are being called out now."""

    def follow(self, heard: Callable[[PressureNote], object]) -> None:
        """Have each note told from now on, in a thread of the board's own, until the board is closed.

        It returns at once, and goes on trying for as long as the notes cannot be heard. One's own are among
        them.
        """


@final
class Pressures:
    """A board in this process, for tests and for simulations of clusters.

    Args:
        clock: gives the time.

    Attributes:
        alive: whether it answers.
        live: whether it calls notes out; it does so only while it is alive.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._notes: dict[str, tuple[int, PressureNote]] = {}
        self._followers: list[Callable[[PressureNote], object]] = []
        self._lock = threading.Lock()
        self.alive = True
        self.live = False

    def exchange(self, note: PressureNote | None) -> list[PressureNote]:
        """See `PressureBoard`; raises `StoreUnavailable` when it is not alive."""
        if not self.alive:
            raise StoreUnavailable("the board does not answer")
        now = self._clock.now_ns()
        with self._lock:
            if note is not None:
                self._notes[note.node] = (now, note)
            for node, (left, _) in list(self._notes.items()):
                if not 0 <= now - left < NOTE_TTL_MS * NS_PER_MS:
                    del self._notes[node]
            found = [one for _, one in self._notes.values()]
        if note is not None and self.live:
            for heard in self._followers:
                heard(note)
        return found

    def follow(self, heard: Callable[[PressureNote], object]) -> None:
        """See `PressureFeed`; here the notes are told in the thread that leaves them."""
        self._followers.append(heard)
        self.live = True

    def close(self) -> None:
        """There is nothing to give back."""
