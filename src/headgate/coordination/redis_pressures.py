"""The notes of a cluster on a Redis or Valkey, by one script (``pressures.lua``), through redis-py.

The script leaves a note in a hash, calls it out on a channel of the same name, and reads the hash. Who
listens knows a note at once; who comes later, or was cut off, reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.coordination.redis_connections import (
    address_of,
    driver,
    heal,
    open_client,
    store_errors,
)
from headgate.coordination.redis_scripts import Script
from headgate.coordination.redis_subscription import Subscription
from headgate.engine.pressures import NOTE_TTL_MS, PressureNote
from headgate.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RedisPressures"]

_KEY: Final = "headgate:pressure:"
_WHAT: Final = "the store of pressures"
_WANTED: Final = (
    "shared must be an address such as redis://127.0.0.1:6379/0, a redis.Redis, or an object with "
    "exchange() and close()"
)


@final
class RedisPressures:
    """A board for one cluster, and a feed. One round trip leaves a note, calls it out and reads all.

    Args:
        store: the address (see `headgate.coordination.redis_address`), or a client: ``redis.Redis``.
        cluster: the nodes of one name see each other.
        timeout_ns: how long to wait for an answer. A client that was handed in brings its own.
    """

    def __init__(self, store: object, cluster: str, timeout_ns: int) -> None:
        self._redis = driver("a shared pressure")
        self._opened = isinstance(store, str)
        self._client: Any = self._open(store, timeout_ns / NS_PER_SECOND)
        self._key = _KEY + cluster
        self._script = Script(self._redis, "pressures.lua")
        self._subscriptions: list[Subscription] = []

    @property
    def live(self) -> bool:
        """Whether notes are being heard now."""
        return bool(self._subscriptions) and all(one.live for one in self._subscriptions)

    def exchange(self, note: PressureNote | None) -> list[PressureNote]:
        """See `PressureBoard`.

        Raises:
            StoreUnavailable: the store did not answer, or not as the script does.
        """
        told = ("", "") if note is None else (note.node, _packed(note))
        arguments = (self._key, *told, NOTE_TTL_MS)
        try:
            with store_errors(_WHAT):
                reply = self._script.run(self._client, *arguments)
        except StoreUnavailable as error:
            heal(self._client, error)
            raise
        if not isinstance(reply, list):
            raise StoreUnavailable(f"{_WHAT} answered a {type(reply).__name__} in place of a list")
        notes = [_read(node, text) for node, text in zip(reply[::2], reply[1::2], strict=False)]
        return [note for note in notes if note is not None]

    def follow(self, heard: Callable[[PressureNote], object]) -> None:
        """See `PressureFeed`; it takes a thread and a connection."""

        def take(text: object) -> None:
            note = _read_called(text)
            if note is not None:
                heard(note)

        self._subscriptions.append(Subscription(self._open_channel, self._key, take))

    def _open_channel(self) -> Any:
        # Looked up when it is wanted: the client of a cluster connects as soon as it is touched.
        return self._client.pubsub()

    def close(self) -> None:
        """Close the connections that were opened here."""
        for subscription in self._subscriptions:
            subscription.close()
        if self._opened:
            self._client.close()

    def _open(self, store: object, timeout: float) -> Any:
        address = address_of(store, _WANTED)
        if address is not None:
            return open_client(address, timeout)
        if isinstance(store, (self._redis.Redis, self._redis.RedisCluster)):
            return store
        raise InvalidInput(f"{_WANTED}, got {type(store).__name__}")


def _packed(note: PressureNote) -> str:
    return f"{note.pressure:.6f} {note.capacity:.6g} {note.seq:d}"


def _read(node: object, text: object) -> PressureNote | None:
    """A note; None for what somebody else wrote into the hash."""
    try:
        pressure, capacity, seq = _text(text).split(" ")
        return PressureNote(_text(node), float(pressure), float(capacity), int(seq))
    except ValueError:
        return None


def _read_called(message: object) -> PressureNote | None:
    """A note as it is called out: what stands in the hash, and the node, which may have spaces."""
    try:
        pressure, capacity, seq, node = _text(message).split(" ", 3)
    except ValueError:
        return None
    return _read(node, f"{pressure} {capacity} {seq}")


def _text(value: object) -> str:
    """A client answers with bytes or, when it was told to decode, with text."""
    return value.decode() if isinstance(value, bytes) else str(value)
