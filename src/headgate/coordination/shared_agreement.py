"""Agreement of many nodes, on an etcd or a Redis alike: see `Backend`.

Three tasks on a loop of their own. One follows what changes. One takes a copy of the configuration after
that and tells the node; what changes meanwhile makes one more copy, not many. One beats: three times in a
lease, and whenever the roll changed. All go on whatever happens; what is wrong is said once, as is its end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.coordination.bell import Bell
from headgate.coordination.kept_records import KeptRecords
from headgate.coordination.own_loop import OwnLoop, end
from headgate.coordination.roster import Roster, card_of
from headgate.errors import Conflict, HeadgateError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from headgate.clock import Clock
    from headgate.coordination.backend import Backend, Card, News
    from headgate.coordination.last_known import LastKnown
    from headgate.engine.agreement import Member
    from headgate.engine.ports import Store
    from headgate.engine.records import Records

__all__ = ["TTL_NS", "SharedAgreement"]

_log = logging.getLogger("headgate.coordination")

TTL_NS: Final = 5 * NS_PER_SECOND
"""How long a member that says nothing is still there."""
_SOONEST: Final = 0.1
_LATEST: Final = 1.0
"""Seconds between two attempts to follow again: the first and the longest."""


@final
class SharedAgreement:
    """An `Agreement` on a backend. Making it does no input or output.

    Args:
        backend: an etcd or a Redis.
        clock: gives the time of this node; its wall plays no part.
        open_store: makes a store of records.
        file: keeps the last known configuration.
        ttl_ns: how long a member that says nothing is still there; etcd may give more.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        open_store: Callable[[Records], Store],
        file: LastKnown,
        ttl_ns: int = TTL_NS,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._ttl_ns = ttl_ns
        self._own = OwnLoop("headgate-agreement")
        self._bell = Bell()
        self._roster = Roster(clock)
        self._troubles: dict[str, str] = {}
        # A name that is taken, or a beat that failed, says nothing about the records.
        self._records = KeptRecords(
            backend, self._own, file, lambda: self._troubles.get("follow", "")
        )
        self._store = open_store(self._records)
        self._tasks: list[asyncio.Task[None]] = []
        self._answered = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._stale = asyncio.Event()
        self._beating = asyncio.Lock()
        self._closed = False

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def store(self) -> Store | None:
        return self._store

    @property
    def trouble(self) -> str:
        return self._why()

    async def open(self) -> None:
        await self._own.ask(self._open())

    async def changes(self) -> AsyncIterator[None]:
        if not self._closed:
            await self.open()
        async with aclosing(self._bell.rings()) as rings:
            async for _ in rings:
                yield

    async def announce(self) -> None:
        await self._own.ask(self._announce())

    async def join(self, member: Member) -> None:
        await self.open()
        await self._own.ask(self._join(card_of(member, secrets.token_hex(8))))

    async def leave(self) -> None:
        await self._own.ask(self._leave())

    def members(self) -> Sequence[Member]:
        return self._roster.members()

    def leader(self) -> str:
        return self._roster.leader()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._records.close()
        await self._own.ask(self._end())
        await asyncio.to_thread(self._own.close)
        self._bell.close()

    # From here on, all is on the loop of its own.

    async def _open(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            work = (self._follow(), self._copy(), self._keep())
            self._tasks = [loop.create_task(each) for each in work]
        await self._answered.wait()

    async def _announce(self) -> None:
        await self._backend.change({}, {("meta", "announced"): secrets.token_hex(8)}, ())

    async def _follow(self) -> None:
        """Never ends."""
        pause = _SOONEST
        while True:
            try:
                async with aclosing(self._backend.follow()) as stream:
                    async for news in stream:
                        self._hear(news)
                        pause = _SOONEST
            except Exception as error:  # noqa: BLE001 - whatever it is, it must go on
                self._cut_off("follow", error)
            self._answered.set()
            await _at_most(pause, asyncio.Event())
            pause = min(2 * pause, _LATEST)

    def _hear(self, news: News) -> None:
        if news.roll:
            self._beat_now.set()
        if news.records:
            self._stale.set()
        self._reached("follow")

    async def _copy(self) -> None:
        """Never ends."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._records.refresh()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must go on
                self._cut_off("copy", error)
                self._stale.set()
                self._answered.set()
                await _at_most(_SOONEST, asyncio.Event())
                continue
            self._reached("copy")
            self._bell.ring()
            if not self._answered.is_set():
                await self._beat_once()
                self._answered.set()

    async def _keep(self) -> None:
        """Never ends."""
        await self._answered.wait()
        while True:
            await _at_most(self._ttl_ns / NS_PER_SECOND / 3, self._beat_now)
            await self._beat_once()

    async def _beat_once(self) -> None:
        async with self._beating:
            self._beat_now.clear()
            asked_ns = self._clock.now_ns()
            try:
                roll = await self._backend.beat(self._roster.card, self._ttl_ns)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must go on
                self._cut_off("beat", error)
                return
            self._roster.take(roll, asked_ns)
            self._reached("beat")
            self._look_for_a_namesake()

    async def _join(self, card: Card) -> None:
        await self._leave()  # what it was before
        self._roster.card = card
        loop = asyncio.get_running_loop()
        # Its predecessor's lease, and what the store takes to notice that it ran out.
        until = loop.time() + 1.5 * self._ttl_ns / NS_PER_SECOND + 1
        await self._beat_once()
        while other := self._roster.other():
            if loop.time() > until:
                raise Conflict(
                    f"another live node is called {card.node!r}, at {other.address or 'no address'}; "
                    "give this one a name of its own with --node or HEADGATE_NODE. It is no member until the "
                    "name is free",
                    node=card.node,
                    address=other.address,
                )
            await _at_most(0.25, self._beat_now)
            await self._beat_once()

    async def _leave(self) -> None:
        card, self._roster.card = self._roster.card, None
        if card is None:
            return
        try:
            async with self._beating:
                await self._backend.leave(card)
        except StoreUnavailable as error:
            _log.info("could not say goodbye, so the lease has to run out: %s", error)
        else:
            self._troubles.pop("name", None)
            await self._beat_once()

    async def _end(self) -> None:
        if self._troubles:
            self._roster.card = None  # nobody is there to say goodbye to
        await self._leave()
        await end(self._tasks)
        await self._backend.close()

    def _look_for_a_namesake(self) -> None:
        other = self._roster.other()
        if other is None:
            if self._troubles.pop("name", None) and self._roster.is_member:
                _log.info("the name is free, and this node is a member")
        elif "name" not in self._troubles:
            self._troubles["name"] = (
                f"another live node is called {other.node!r}, at {other.address or 'no address'}"
            )
            _log.warning("%s; this one is no member until that is gone", self._troubles["name"])

    def _why(self) -> str:
        return next(iter(list(self._troubles.values())), "")

    def _cut_off(self, what: str, error: Exception) -> None:
        if not isinstance(error, HeadgateError):
            _log.error("a defect of the agreement (%s); it is tried again", what, exc_info=error)
        if not self._troubles and not self._closed:
            _log.warning("cut off; the last known configuration holds on: %s", error)
        self._troubles[what] = str(error) or type(error).__name__

    def _reached(self, what: str) -> None:
        if self._troubles.pop(what, None) and not self._troubles:
            _log.info("the %s at %s answers again", self.kind, self._backend.where)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, so long at most; by the loop's time, for the clock may be one that a test moves."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
