"""Records of a cluster with a copy of the configuration, which answers while their store does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from headgate.coordination.backend import Backend
    from headgate.coordination.last_known import Folders, LastKnown
    from headgate.coordination.own_loop import OwnLoop
    from headgate.engine.records import Key, Record

__all__ = ["KeptRecords"]

T = TypeVar("T")

_FOLDERS: Final = ("policies", "settings", "tokens", "uses")
"""What a copy is kept of: all that a node needs to decide. Histories are not."""


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
        copy: Folders = {}
        for folder in _FOLDERS:
            copy[folder] = {one.name: one for one in await self._backend.list(folder)}
        self._copy = copy
        await asyncio.to_thread(self._file.write, copy)

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
