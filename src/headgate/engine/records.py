"""Records that all nodes have: short texts in folders, changed together or not at all.

The least that etcd and a Redis have in common. What the texts say is the business of the store above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["Key", "Record", "Records"]

Key: TypeAlias = tuple[str, str]
"""A folder, of ``A-Z a-z 0-9 . _ : -``, and a name in it, which is any text."""


@final
@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is kept.

    Attributes:
        name: in its folder.
        text: what it says, in ASCII.
        revision: which change made it; another record may have been made by the same one. Above 0.
    """

    name: str
    text: str
    revision: int


class Records(Protocol):
    """Where records are kept. Safe to use from several threads; each method may raise `StoreUnavailable`."""

    def get(self, key: Key) -> Record | None:
        """One record; None when there is none."""

    def list(self, folder: str) -> Sequence[Record]:
        """All records of a folder, in no order."""

    def change(
        self, expected: Mapping[Key, int], puts: Mapping[Key, str], deletes: Collection[Key] = ()
    ) -> bool:
        """Write and remove records if all that is expected holds, as one step that nobody sees half of.

        Args:
            expected: key -> the revision that it must be at; 0: it must not be there.
            puts: key -> text. The first text must be like no other that is ever put there: when an answer
                was lost, it tells whether the change was made.
            deletes: keys that are gone afterwards; they need not have been there.

        Returns:
            Whether it was made. False: something is not as expected, and nothing was changed.

        Raises:
            TooLarge: it holds more than can be changed at once.
        """

    def ping(self) -> None:
        """Return when the store of the records answers."""

    def close(self) -> None:
        """Refuse from now on."""
