"""From a URL to a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.engine.ports import Store

__all__ = ["open_store"]

_KNOWN = "memory://, sqlite:///path/to/file.db, postgresql://user@host/database"


def open_store(url: str, clock: Clock | None = None, busy_timeout: float = 5.0) -> Store:
    """Open a store, create it if it is not there, and bring its schema up to date.

    Args:
        url: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or
            ``postgresql://user:password@host:port/database``.
        clock: what dates the records; the system's when left out.
        busy_timeout: seconds that a statement waits for another process before `StoreUnavailable`.

    Raises:
        ConfigurationError: the URL is not understood, a driver is missing, or the store was written
            by a newer Headgate.
        StoreUnavailable: it cannot be reached, read or written.
    """
    clock = clock or SystemClock()
    scheme = url.partition("://")[0]
    if scheme == "memory":
        from headgate.storage.memory import MemoryStore  # noqa: PLC0415 - one adapter is enough

        return MemoryStore(clock)
    if scheme.partition("+")[0] in {"sqlite", "postgresql", "postgres"}:
        # SQLAlchemy takes 0.1 to 0.2 s to import: only who opens such a store pays.
        from headgate.storage.sql import open_sql_store  # noqa: PLC0415

        return open_sql_store(url, clock, busy_timeout)
    message = f"the store's URL must be one of {_KNOWN}, got the scheme {scheme[:40]!r}"
    raise ConfigurationError(message)
