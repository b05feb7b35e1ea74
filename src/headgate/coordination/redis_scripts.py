"""What everything on a Redis or Valkey has in common: the driver, addresses, and scripts."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, final

from headgate.errors import ConfigurationError, InvalidInput

__all__ = ["Script", "address_of", "driver", "open_client"]

_SCHEMES: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


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


def address_of(store: object) -> str:
    """The address as redis-py reads it; "" for what is none."""
    if not isinstance(store, str) or not store.startswith(_SCHEMES):
        return ""
    return store.replace("valkey", "redis", 1) if store[0] == "v" else store


def open_client(redis: Any, address: str, timeout: float) -> Any:
    """A client that waits so many seconds at most, and sends nothing twice.

    Raises:
        InvalidInput: the address cannot be read.
    """
    from redis.backoff import NoBackoff  # noqa: PLC0415 - the driver is optional
    from redis.retry import Retry  # noqa: PLC0415 - likewise

    options = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    try:
        return redis.Redis.from_url(address, retry=Retry(NoBackoff(), 0), **options)
    except ValueError as error:
        raise InvalidInput(f"the address of the store cannot be read: {error}") from error


@final
class Script:
    """A script of this package, which a store is sent once and then told by its hash.

    Args:
        redis: the driver.
        name: of its file.
    """

    def __init__(self, redis: Any, name: str) -> None:
        self._unknown = redis.exceptions.NoScriptError
        self.text = (files(__package__) / name).read_text("utf-8")
        # What the store knows a script by; nothing is kept secret with it.
        self._sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, *arguments: object) -> Any:
        """Run it on one key, which is the first argument; errors are the driver's."""
        try:
            return client.evalsha(self._sha, 1, *arguments)
        except self._unknown:
            return client.eval(self.text, 1, *arguments)

    async def run_async(self, client: Any, *arguments: object) -> Any:
        """The twin of `run`."""
        try:
            return await client.evalsha(self._sha, 1, *arguments)
        except self._unknown:
            return await client.eval(self.text, 1, *arguments)
