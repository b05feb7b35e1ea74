"""Connections to a Redis or Valkey: the one place where clients of redis-py are opened.

Nothing is sent twice behind the back of who asked: a question that may have arrived must not be counted
again, so no client retries. A connection that failed is closed and opened anew when it is needed next; with
Sentinels they are asked again where the primary is, and a cluster is asked again who has which slots.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from headgate.coordination.redis_address import (
    CLUSTER,
    SENTINEL,
    UNIX,
    RedisAddress,
    is_address,
)
from headgate.errors import ConfigurationError, HeadgateError, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LazyClient",
    "RedisAddress",
    "address_of",
    "driver",
    "heal",
    "heal_async",
    "open_async_client",
    "open_client",
    "store_errors",
]

_log = logging.getLogger("headgate.coordination")
_CLUSTER_DRIVER: Final = 8
_EXPECTED: Final = (OSError, EOFError, ValueError, RuntimeError)


def driver(what: str) -> Any:
    """redis-py.

    Raises:
        ConfigurationError: it is not installed; ``what`` needs it.
    """
    try:
        import redis  # noqa: PLC0415 - the driver is optional
    except ImportError as error:
        raise ConfigurationError(f"{what} needs redis-py; pip install 'headgate[redis]'") from error
    return redis


def address_of(store: object, what: str) -> RedisAddress | None:
    """The address that a text is, or that was read already; None for anything else, perhaps a client.

    Raises:
        InvalidInput: it is a text and no address, in words of ``what`` was wanted.
    """
    if isinstance(store, RedisAddress):
        return store
    if not isinstance(store, str):
        return None
    if not is_address(store):
        scheme, separator, _ = store.partition("://")
        got = f"{scheme[:40]!r}://..." if separator else "a text without '://'"
        raise InvalidInput(f"{what}, got {got}")
    return RedisAddress.read(store)


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Around a call of the driver: whatever it fails with is `StoreUnavailable`, "``what`` did not answer".

    Cancelling passes, and so do errors of Headgate's own.
    """
    try:
        yield
    except HeadgateError:
        raise
    except Exception as error:
        if not (isinstance(error, _EXPECTED) or _of_driver(error)):
            _log.exception("a defect: %s failed with what no driver announces", what)
        message = f"{what} did not answer: {type(error).__name__}: {error}"
        raise StoreUnavailable(message) from error


def open_client(address: RedisAddress, timeout: float) -> Any:
    """A client for threads that waits so many seconds at most, and sends nothing twice.

    Nothing is connected yet. It has the methods of ``redis.Redis``.

    Raises:
        ConfigurationError: the driver is too old for a cluster.
    """
    import redis  # noqa: PLC0415 - the driver is optional
    from redis.backoff import NoBackoff  # noqa: PLC0415 - likewise
    from redis.retry import Retry  # noqa: PLC0415 - likewise

    options = _options(address, timeout, Retry(NoBackoff(), 0))
    if address.kind == CLUSTER:
        # Unlike the others it connects as soon as it is made.
        return LazyClient(
            lambda: redis.RedisCluster(startup_nodes=_nodes(redis, address), **options)
        )
    if address.kind == SENTINEL:
        sentinel = _sentinel(redis.Sentinel, address, timeout, options)
        return sentinel.master_for(address.service)
    return redis.Redis(**_place(address), **options)


def open_async_client(address: RedisAddress, timeout: float) -> Any:
    """The twin of `open_client` for tasks of one event loop, with the methods of ``redis.asyncio.Redis``."""
    from redis import asyncio as redis  # noqa: PLC0415 - the driver is optional
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - likewise
    from redis.backoff import NoBackoff  # noqa: PLC0415 - likewise

    options = _options(address, timeout, Retry(NoBackoff(), 0))
    if address.kind == CLUSTER:
        return redis.RedisCluster(startup_nodes=_nodes(redis, address), **options)
    if address.kind == SENTINEL:
        from headgate.coordination.redis_sentinels import FollowingPool  # noqa: PLC0415 - likewise

        sentinel = _sentinel(redis.Sentinel, address, timeout, options)
        client = sentinel.master_for(address.service, connection_pool_class=FollowingPool)
        return _closing_both(client, sentinel)
    return redis.Redis(**_place(address), **options)


def heal(client: Any, error: BaseException | None) -> None:
    """After an error: let go of connections to a server that may no longer be the right one.

    A primary that became a replica, or that loads its data, keeps its connections; whoever stays on them is
    refused for ever. The name behind an address may lead to another server by now.
    """
    if _is_elsewhere(error) and hasattr(client, "connection_pool"):
        client.connection_pool.disconnect(inuse_connections=False)


async def heal_async(client: Any, error: BaseException | None) -> None:
    """The twin of `heal`."""
    if _is_elsewhere(error) and hasattr(client, "connection_pool"):
        await client.connection_pool.disconnect(inuse_connections=False)


@final
class LazyClient:
    """A client that is opened when it is used first: a store that is away keeps no program from starting."""

    def __init__(self, opening: Any) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._opening()
        return getattr(self._client, name)

    def close(self) -> None:
        """Close it if it was opened."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _options(address: RedisAddress, timeout: float, retry: object) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry,
    }
    if address.kind == CLUSTER:
        _require_cluster_driver()
        # A cluster that lost some of its slots answers for the others.
        options["require_full_coverage"] = False
    else:
        options["db"] = address.db
    if address.tls:
        options["ssl"] = True
        options.update(address.tls_options)
    return options


def _require_cluster_driver() -> None:
    """Earlier ones leave connections open, and retry what they were told not to."""
    import redis  # noqa: PLC0415 - the driver is optional

    if int(redis.__version__.partition(".")[0]) < _CLUSTER_DRIVER:
        raise ConfigurationError(
            f"a Redis Cluster needs redis-py {_CLUSTER_DRIVER} or later, and this is {redis.__version__}; "
            "pip install -U redis"
        )


def _place(address: RedisAddress) -> dict[str, Any]:
    if address.kind == UNIX:
        return {"unix_socket_path": address.path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port, "socket_keepalive": True}


def _nodes(redis: Any, address: RedisAddress) -> list[Any]:
    return [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]


def _sentinel(kind: Any, address: RedisAddress, timeout: float, options: dict[str, Any]) -> Any:
    """Sentinels are asked one after the other: one that hangs must leave time for the others."""
    patience = timeout / (len(address.hosts) + 1)
    asking = {
        **options,
        "db": 0,
        "username": address.sentinel_username or None,
        "password": address.sentinel_password or None,
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
    }
    return kind(address.hosts, sentinel_kwargs=asking, **options)


def _closing_both(client: Any, sentinel: Any) -> Any:
    """The client, which closes the connections to the Sentinels with its own."""
    close = client.aclose

    async def aclose(*arguments: object, **options: object) -> None:
        await close(*arguments, **options)
        for one in sentinel.sentinels:
            await one.aclose()

    client.aclose = aclose
    return client


def _of_driver(error: BaseException) -> bool:
    from redis import exceptions  # noqa: PLC0415 - the driver is optional

    return isinstance(error, (exceptions.RedisError, exceptions.RedisClusterException))


def _is_elsewhere(error: BaseException | None) -> bool:
    from redis import exceptions  # noqa: PLC0415 - the driver is optional

    if isinstance(error, StoreUnavailable):
        error = error.__cause__
    return isinstance(
        error,
        (exceptions.ReadOnlyError, exceptions.BusyLoadingError, exceptions.MasterDownError),
    )
