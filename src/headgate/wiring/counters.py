"""Shared counters for gates in somebody's program: from an address, or a store, to who asks it.

The store is asked from an event loop in a thread of its own, one for each store, so that gates may be used by
threads and by any event loop, and none of them waits.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from headgate.coordination.own_loop import OwnLoop
from headgate.coordination.redis_connections import RedisAddress, address_of
from headgate.coordination.redis_counter_stores import counters_at
from headgate.engine.counters import CounterStore
from headgate.errors import ConfigurationError, HeadgateError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

__all__ = ["CounterLink", "open_counters"]

T = TypeVar("T")

_PATIENCE: Final = 0.25
_WANTED: Final = "shared must be an address such as redis://127.0.0.1:6379/0, or a CounterStore"


@final
class CounterLink:
    """A store of counters, with the loop that it is asked from. Those who share one each close it once.

    Attributes:
        store: to be asked on the loop only.
        users: how many share it.
    """

    def __init__(self, name: object, store: CounterStore, *, opened: bool) -> None:
        self.store = store
        self.users = 0
        self._name = name
        self._opened = opened
        self._loop = OwnLoop("headgate-counters")

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do something on its loop; raises `StoreUnavailable` once it is closed."""
        return self._loop.begin(work)

    def close(self) -> None:
        """One user less; with the last one the connections are closed and the thread ends."""
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            _links.pop(self._name, None)
        if self._opened:
            with suppress(HeadgateError, TimeoutError):
                self._loop.begin(self.store.close()).result(_PATIENCE)
        self._loop.close()


_links: dict[object, CounterLink] = {}
_lock = threading.Lock()


def open_counters(shared: object, cluster: str) -> CounterLink:
    """The counters at an address such as ``redis://127.0.0.1:6379/0``, or a store of counters.

    Those who name the same ones share a connection and a thread.

    Raises:
        InvalidInput: it is neither.
        ConfigurationError: redis-py is not installed.
    """
    given = shared if isinstance(shared, CounterStore) else _address(shared)
    name = (given, cluster) if isinstance(given, RedisAddress) else id(given)
    with _lock:
        link = _links.get(name)
        if link is None:
            store = _opened(given, cluster) if isinstance(given, RedisAddress) else given
            link = _links[name] = CounterLink(name, store, opened=store is not shared)
        link.users += 1
        return link


def _opened(address: RedisAddress, cluster: str) -> CounterStore:
    try:
        return counters_at(address, cluster)
    except ImportError as error:
        message = f"shared counters need {error.name}; pip install 'headgate[redis]'"
        raise ConfigurationError(message) from error


def _address(shared: object) -> RedisAddress:
    address = address_of(shared, _WANTED)
    if address is None:
        raise InvalidInput(f"{_WANTED}, got {type(shared).__name__}")
    return address
