"""What nodes have to agree on: configuration, who is there, and who leads (D3, D4), as types.

Configuration is level-triggered: a feed only says *that* something changed, and whoever follows it reads
all of it again. So a watch that was cut off, or that the server compacted away, cannot lose a change: it says
"changed" once it is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.engine.ports import Store

__all__ = ["Agreement", "Member"]


@final
@dataclass(frozen=True, slots=True)
class Member:
    """A node that is there.

    Attributes:
        node: its name, which no other live node has.
        address: where its REST service answers; "" when it has none.
        version: of Headgate.
        started_ms: when it started, in milliseconds since 1970, by its own wall clock: for people to read.
        workers: how many processes it consists of.
    """

    node: str
    address: str = ""
    version: str = ""
    started_ms: int = 0
    workers: int = 1


class Agreement(Protocol):
    """etcd, or a Redis, or (for one node) nothing but this process.

    Adapters pass ``tests/contract/test_agreement.py``; their stores pass the suites of stores. Every method
    may raise `StoreUnavailable`.
    """

    @property
    def kind(self) -> str:
        """``etcd``, ``redis`` or ``single``."""

    @property
    def store(self) -> Store | None:
        """Policies, settings and tokens as all nodes have them; None: each node has its own records."""

    async def open(self) -> None:
        """Begin to follow the others; whatever else is called first does it too.

        Returns when they answered, or when it is known that they do not: then `trouble` says why, the last
        known configuration is in `store`, and the adapter goes on trying. Raises nothing for that.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields when something may have changed: at the start, after every change, after every gap.

        It goes on by itself when the connection is lost, and never ends unless it is closed; what is wrong
        meanwhile is in `trouble`.
        """

    @property
    def trouble(self) -> str:
        """Why this node is cut off from the others; "" while it is not."""

    async def announce(self) -> None:
        """Tell all nodes that something changed in records that they share some other way."""

    async def join(self, member: Member) -> None:
        """Be a member, from now on until `leave`; the adapter keeps it alive, through failures too.

        A process that was killed keeps its name until its lease has run out; its successor waits for that.

        Raises:
            Conflict: another live process has the name, and kept it for longer than a lease lasts. `trouble`
                says so too; this one is a member once the name is free, unless it leaves before.
        """

    async def leave(self) -> None:
        """Be none any more, and lead no more."""

    def members(self) -> Sequence[Member]:
        """The live members as last known, in the order of their names; this one among them if it joined.

        Never waits, and never raises: while the node is cut off, those known last.
        """

    def leader(self) -> str:
        """The node that leads, as last known; "" for none. Never waits."""

    async def close(self) -> None:
        """Leave, and let go of all connections."""
