"""Where the nodes of a cluster meet: from an address, or a client, to its board of pressures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS
from headgate.coordination.redis_address import RedisAddress
from headgate.coordination.redis_pressures import RedisPressures
from headgate.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from headgate.engine.pressures import PressureBoard
    from headgate.settings import Settings

__all__ = ["open_configured_pressures", "open_pressures"]

_TIMEOUT_NS: Final = 50 * NS_PER_MS


def open_pressures(store: object, cluster: str, timeout_ns: int) -> PressureBoard:
    """The board at an address such as ``redis://127.0.0.1:6379/0``, or behind a client of redis-py.

    Raises:
        InvalidInput: it is neither.
        ConfigurationError: redis-py is not installed.
    """
    return RedisPressures(store, cluster, timeout_ns)


def open_configured_pressures(settings: Settings) -> PressureBoard:
    """The board of a service's cluster, on the Redis of its settings.

    Raises:
        ConfigurationError: redis-py is not installed, or the address cannot be read.
    """
    try:
        address = RedisAddress.read(settings.redis_url, settings.redis_ca)
        return RedisPressures(address, settings.cluster, _TIMEOUT_NS)
    except InvalidInput as error:
        raise ConfigurationError(error.message, setting="redis_url") from error
