"""What is remembered of each upstream, for so many of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_UPSTREAMS", "UpstreamBook"]

_V = TypeVar("_V")
MAX_UPSTREAMS: Final = 10_000
_LOOKED_AT: Final = 16


@final
class UpstreamBook(Generic[_V]):
    """A bounded table by name. To make room, the one goes that was used longest ago.

    Of the sixteen that were, one that says nothing goes first: a flood of names must not make a client
    forget whom it is to spare.

    Args:
        make: what a name gets that is new.
        says_nothing: whether an entry may be forgotten freely.
        most: names.
    """

    def __init__(
        self, make: Callable[[], _V], says_nothing: Callable[[_V], bool], most: int = MAX_UPSTREAMS
    ) -> None:
        self._make = make
        self._says_nothing = says_nothing
        self._most = most
        self._entries: OrderedDict[str, _V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        return list(self._entries)

    def known(self, name: str) -> _V | None:
        """What is remembered of a name; None when nothing is."""
        return self._entries.get(name)

    def of(self, name: str) -> _V:
        """What is remembered of a name, made when it is new."""
        entry = self._entries.get(name)
        if entry is None:
            if len(self._entries) >= self._most:
                self._make_room()
            entry = self._entries[name] = self._make()
        else:
            self._entries.move_to_end(name)
        return entry

    def _make_room(self) -> None:
        oldest = next(iter(self._entries))
        for _, name in zip(range(_LOOKED_AT), self._entries, strict=False):
            if self._says_nothing(self._entries[name]):
                oldest = name
                break
        del self._entries[oldest]
