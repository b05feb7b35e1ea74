"""Where a shared circuit lives: from an address, or a client, to its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.coordination.redis_circuits import RedisCircuits

if TYPE_CHECKING:
    from headgate.engine.circuits import CircuitStore

__all__ = ["open_circuits"]


def open_circuits(store: object, timeout_ns: int) -> CircuitStore:
    """The store at an address such as ``redis://127.0.0.1:6379/0``, or behind a client of redis-py.

    Raises:
        InvalidInput: it is neither.
        ConfigurationError: redis-py is not installed.
    """
    return RedisCircuits(store, timeout_ns)
