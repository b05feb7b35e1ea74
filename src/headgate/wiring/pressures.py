"""Where the nodes of a cluster meet: from an address, or a client, to its board of pressures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.coordination.redis_pressures import RedisPressures

if TYPE_CHECKING:
    from headgate.engine.pressures import PressureBoard

__all__ = ["open_pressures"]


def open_pressures(store: object, cluster: str, timeout_ns: int) -> PressureBoard:
    """The board at an address such as ``redis://127.0.0.1:6379/0``, or behind a client of redis-py.

    Raises:
        InvalidInput: it is neither.
        ConfigurationError: redis-py is not installed.
    """
    return RedisPressures(store, cluster, timeout_ns)
