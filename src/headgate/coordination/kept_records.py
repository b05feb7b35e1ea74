"""Records of a cluster with a copy of the configuration, which answers while their store does not."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from headgate.coordination.backend import Backend
    from headgate.coordination.last_known import Folders, LastKnown
    from headgate.coordination.own_loop import OwnLoop
    from headgate.engine.records import Key, Record

__all__ = ["KeptRecords"]

_log = logging.getLogger("headgate.coordination")
T = TypeVar("T")

_FOLDERS: Final = ("policies", "settings", "tokens", "uses")
"""What a copy is kept of: all that a node needs to decide. Histories are not."""

_BORN: Final = ("born", "born")
"""A record that every store has which was ever in use."""


@final
class KeptRecords:
    """`Records` of a backend. Reads of the configuration never fail once it was read or found in the file.

    Args:
        backend: where the records are.
        own: the loop that the backend is used on.
        file: keeps the copy over a restart.
        trouble: says whether the backend is known to be away: then nobody waits for it to read.
    """

    def __init__(
        self, backend: Backend, own: OwnLoop, file: LastKnown, trouble: Callable[[], str]
    ) -> None:
        self._backend = backend
        self._own = own
        self._file = file
        self._trouble = trouble
        self._copy: Folders | None = None
        self._closed = False

    def get(self, key: Key) -> Record | None:
        folder, name = key
        return self._read(
            folder, lambda: self._backend.get(key), lambda copy: copy[folder].get(name)
        )

    def list(self, folder: str) -> Sequence[Record]:
        return self._read(
            folder, lambda: self._backend.list(folder), lambda copy: list(copy[folder].values())
        )

    def change(
        self, expected: Mapping[Key, int], puts: Mapping[Key, str], deletes: Collection[Key] = ()
    ) -> bool:
        self._require_open()
        return self._own.wait(self._backend.change(expected, puts, deletes))

    def ping(self) -> None:
        self._require_open()
        trouble = self._trouble()
        if trouble:
            raise StoreUnavailable(trouble)
        self._own.wait(self._backend.get(("meta", "policies")))

    def close(self) -> None:
        self._closed = True

    async def refresh(self) -> None:
        """Take a copy of the configuration; on the backend's loop."""
        copy = await self._taken()
        if await self._backend.get(_BORN) is None:
            await self._bear(copy)
            copy = await self._taken()
        self._copy = copy
        await asyncio.to_thread(self._file.write, copy)

    async def _taken(self) -> Folders:
        copy: Folders = {}
        for folder in _FOLDERS:
            copy[folder] = {one.name: one for one in await self._backend.list(folder)}
        return copy

    async def _bear(self, found: Folders) -> None:
        """Mark the store as one that is in use; and if it lost all that it had, give it back what is known.

        A Redis that was restarted without its data would else take every limit away from every node.
        """
        known = await asyncio.to_thread(self._known) or {}
        lost = {} if any(found.values()) else _puts(known)
        made = await self._backend.change(
            {_BORN: 0, **dict.fromkeys(lost, 0)}, {_BORN: secrets.token_hex(8), **lost}, ()
        )
        if made and lost:
            _log.warning(
                "the store at %s had lost all records; it was given the %d of the last known "
                "configuration (histories are lost)",
                self._backend.where,
                len(lost),
            )

    def _read(
        self,
        folder: str,
        ask: Callable[[], Coroutine[Any, Any, T]],
        look: Callable[[Folders], T],
    ) -> T:
        self._require_open()
        copied = folder in _FOLDERS
        if copied and self._trouble():
            known = self._known()
            if known is not None:
                return look(known)
        try:
            return self._own.wait(ask())
        except StoreUnavailable:
            known = self._known() if copied else None
            if known is None:
                raise
            return look(known)

    def _known(self) -> Folders | None:
        if self._copy is None:
            found = self._file.read()
            if found is not None:
                self._copy = {folder: found.get(folder, {}) for folder in _FOLDERS}
        return self._copy

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store at {self._backend.where} is closed; open another")


def _puts(folders: Folders) -> dict[Key, str]:
    return {
        (folder, name): record.text
        for folder, records in folders.items()
        for name, record in records.items()
    }
