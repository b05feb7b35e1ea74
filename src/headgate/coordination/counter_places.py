"""The places that shared counters live in when there are several, as a type: see `spread_counters`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from headgate.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.engine.counters import Answer, Counter, Question

__all__ = ["CANCEL", "CONFIRM", "HOLD_NS", "Places"]

CONFIRM: Final = 16
"""A kind of question to a place: end a hold, and leave spent what it spent."""
CANCEL: Final = 17
"""A kind of question to a place: end a hold, and give back on these levels what it spent."""
HOLD_NS: Final = 10 * NS_PER_SECOND
"""After which what was reserved for a question is released by itself."""


class Places(Protocol):
    """Where counters live."""

    def place_of(self, key: str) -> int:
        """The place of a key."""

    async def ask(
        self, asked: Mapping[int, Sequence[Question]]
    ) -> Mapping[int, Sequence[Answer | None]]:
        """Ask each place; None for a question of which it is not known what became of it.

        A `SETTLE` names no levels: the place knows them from the hold.
        """

    async def note(self, holds: Mapping[str, tuple[Sequence[int], int]]) -> set[str]:
        """Note for each hold the places of its levels, for so many microseconds; those that were noted."""

    async def find(self, holds: Sequence[str]) -> dict[str, Sequence[int] | None]:
        """What was noted for these holds, None for nothing; one that cannot be found out is left out."""

    async def leases(self, counter: Counter, key: str) -> list[tuple[str, int, int]]:
        """See `CounterStore`."""

    async def release_expired(self, most: int) -> int:
        """See `CounterStore`."""

    async def ping(self) -> None:
        """See `CounterStore`."""

    async def close(self) -> None:
        """See `CounterStore`."""
