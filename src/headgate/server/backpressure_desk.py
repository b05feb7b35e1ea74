"""Changes of the settings of backpressure: first the store, then what goes by them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, final

from headgate.errors import InvalidInput, StoreUnavailable
from headgate.server.backpressure import BACKPRESSURE, BackpressureRules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.engine.ports import StoredSetting
    from headgate.server.guarded_store import GuardedStore
    from headgate.server.overload import Overload

__all__ = ["BackpressureDesk"]

_log = logging.getLogger("headgate.server")


async def _nobody() -> None:
    """Nobody else has to know."""


@final
class BackpressureDesk:
    """Keeps the settings and puts them in force.

    Args:
        store: where they are kept; its breaker goes by them.
        overload: likewise.

    Attributes:
        rules: in force.
        version: of the settings in force; 0 when none were ever put.
        announce: is awaited after each change.
    """

    def __init__(self, store: GuardedStore, overload: Overload) -> None:
        self._store = store
        self._overload = overload
        self.version = 0
        self._one_at_a_time = asyncio.Lock()
        self.rules = BackpressureRules()
        self.announce: Callable[[], Awaitable[None]] = _nobody

    def start(self) -> None:
        """Put in force what is kept; for the start of the service, when nobody waits yet.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        self._take(self._store.settings.get(BACKPRESSURE))

    async def put(self, document: dict[str, Any]) -> StoredSetting:
        """Keep a document that `decode_backpressure` took, and put it in force.

        Raises:
            StoreUnavailable: it could not be kept, and is not in force.
        """
        async with self._one_at_a_time:
            stored = await asyncio.to_thread(self._store.settings.put, BACKPRESSURE, document)
            self._take(stored)
            await self.announce()
            return stored

    async def stored(self) -> StoredSetting | None:
        """What is kept; None when nothing ever was."""
        return await asyncio.to_thread(self._store.settings.get, BACKPRESSURE)

    async def refresh(self) -> None:
        """Put in force what another process may have kept; while the store is away, nothing changes."""
        try:
            async with self._one_at_a_time:
                self._take(await self.stored())
        except StoreUnavailable:
            return  # the tokens are read at the same time, and tell of it

    def _take(self, stored: StoredSetting | None) -> None:
        if stored is None or stored.version == self.version:
            return
        self.version = stored.version
        try:
            self.rules = rules = BackpressureRules.of(stored.document)
        except InvalidInput as error:
            _log.warning("the settings of backpressure were left as they are: %s", error)
            return
        self._overload.apply(rules.load_threshold, rules.shedding_rate, rules.multipliers)
        self._store.apply(rules.failure_threshold, rules.recovery_threshold, rules.timeout)
