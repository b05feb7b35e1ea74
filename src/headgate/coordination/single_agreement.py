"""Agreement of a node with itself: nothing is shared, so there is nothing to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.coordination.bell import Bell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.engine.agreement import Member
    from headgate.engine.ports import Store

__all__ = ["SingleAgreement"]


@final
class SingleAgreement:
    """An `Agreement` for one node: it is all members, and it leads."""

    kind: Final = "single"
    trouble: Final = ""

    def __init__(self) -> None:
        self._bell = Bell()
        self._member: Member | None = None

    @property
    def store(self) -> Store | None:
        return None

    async def open(self) -> None:
        pass

    def changes(self) -> AsyncIterator[None]:
        return self._bell.rings()

    async def announce(self) -> None:
        self._bell.ring()

    async def join(self, member: Member) -> None:
        self._member = member

    async def leave(self) -> None:
        self._member = None

    def members(self) -> Sequence[Member]:
        return () if self._member is None else (self._member,)

    def leader(self) -> str:
        return "" if self._member is None else self._member.node

    async def close(self) -> None:
        await self.leave()
        self._bell.close()
