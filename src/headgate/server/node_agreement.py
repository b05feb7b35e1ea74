"""How the workers of a node agree that has nothing configured to agree by: through their supervisor.

Their records are one database, so all that has to be said is that something changed in it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

from headgate.engine.agreement import Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headgate.engine.ports import Store
    from headgate.server.link import Link

__all__ = ["NodeAgreement"]


@final
class NodeAgreement:
    """An `Agreement` of workers, each of which is a member.

    The one with the lowest number leads.

    Args:
        link: to the supervisor.
        node: the name of the node.
        number: of this worker.
    """

    kind: Final = "single"

    def __init__(self, link: Link, node: str, number: int) -> None:
        self._link = link
        self._node = node
        self._number = number
        self._workers: list[int] = [number]
        self._member: Member | None = None
        self._listeners: set[asyncio.Event] = set()
        self._is_closed = False
        link.on("changed", lambda _: self._ring())
        link.on("workers", self._take_workers)

    @property
    def store(self) -> Store | None:
        return None

    @property
    def trouble(self) -> str:
        return "the supervisor of the workers is gone" if self._link.is_cut else ""

    async def open(self) -> None:
        """There is nothing to wait for."""

    async def changes(self) -> AsyncIterator[None]:
        heard = asyncio.Event()
        heard.set()
        self._listeners.add(heard)
        try:
            while True:
                await heard.wait()
                if self._is_closed:
                    return
                heard.clear()
                yield
        finally:
            self._listeners.discard(heard)

    async def announce(self) -> None:
        self._link.tell("changed")
        self._ring()

    async def join(self, member: Member) -> None:
        self._member = member

    async def leave(self) -> None:
        self._member = None

    def members(self) -> Sequence[Member]:
        if self._member is None:
            return ()
        return [replace(self._member, node=self._name(number)) for number in self._workers]

    def leader(self) -> str:
        return "" if self._member is None else self._name(self._workers[0])

    async def close(self) -> None:
        await self.leave()
        self._is_closed = True
        self._ring()

    def _name(self, number: int) -> str:
        return f"{self._node}.{number}"

    def _ring(self) -> None:
        for heard in self._listeners:
            heard.set()

    def _take_workers(self, message: dict[str, Any]) -> None:
        self._workers = sorted({*message["numbers"], self._number})
