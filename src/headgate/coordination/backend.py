"""What etcd and a Redis are each made into, so that one agreement fits both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from headgate.engine.records import Key, Record

__all__ = ["QUIET_FOLDERS", "Backend", "Card", "News", "Roll"]

QUIET_FOLDERS: Final = ("history", "uses", "born")
"""The beginnings of folders whose changes nobody needs to be told of: many, and no configuration."""


@final
@dataclass(frozen=True, slots=True)
class News:
    """What may have changed.

    Attributes:
        records: the configuration.
        roll: the members, or who leads.
        gap: nothing is known of what came before; not a change, a beginning.
    """

    records: bool = False
    roll: bool = False
    gap: bool = False


@final
@dataclass(frozen=True, slots=True)
class Card:
    """How a process presents itself.

    Attributes:
        node: its name.
        run: no other process, not even its own predecessor, has the same.
        text: the rest, for people and other nodes to read.
    """

    node: str
    run: str
    text: str


@final
@dataclass(frozen=True, slots=True)
class Roll:
    """Who is there.

    Attributes:
        members: in the order of their names.
        leader: the name of the one that leads; "" for none.
        lease_ns: how long this process stays a member, counted from when it asked; 0: it is none, because
            it did not want to be or because its name is taken.
        leads: whether it is this very process that leads.
    """

    members: Sequence[Card]
    leader: str
    lease_ns: int = 0
    leads: bool = False


class Backend(Protocol):
    """Used on one event loop. Every method may raise `StoreUnavailable`, and no driver's own error."""

    @property
    def kind(self) -> str:
        """``etcd`` or ``redis``."""

    @property
    def where(self) -> str:
        """Where it is, without passwords."""

    async def get(self, key: Key) -> Record | None:
        """See `Records`."""

    async def list(self, folder: str) -> Sequence[Record]:
        """See `Records`."""

    async def change(
        self, expected: Mapping[Key, int], puts: Mapping[Key, str], deletes: Collection[Key]
    ) -> bool:
        """See `Records`."""

    def follow(self) -> AsyncGenerator[News]:
        """Tell of a gap at first, and then of every change; it ends only by `StoreUnavailable`.

        A gap is told of once changes after it cannot be missed any more, so whoever then reads all has all.
        """

    async def beat(self, card: Card | None, ttl_ns: int) -> Roll:
        """Be there for that much longer, lead if nobody does, and see who is there; None: only see."""

    async def leave(self, card: Card) -> None:
        """Be there no more, and lead no more."""

    async def close(self) -> None:
        """Let go of all connections."""
