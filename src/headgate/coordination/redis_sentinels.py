"""A pool of connections that follows the primary which Sentinels name. Needs redis-py; imported when wanted.

The driver asks the Sentinels when it opens a connection. After a failover in good order, or once a partition
has healed, the old primary may take what it is sent for some ten seconds more, until a Sentinel tells it; all
that time a connection to it works, and what is counted there is lost. So the Sentinels are asked once a
second beside the work, and whoever is connected elsewhere connects anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.asyncio.sentinel import SentinelConnectionPool

__all__ = ["FollowingPool"]

_log = logging.getLogger("headgate.coordination")
_LOOK_SECONDS: Final = 1.0


class FollowingPool(SentinelConnectionPool):
    """The driver's pool, which notices within a second that another server is the primary."""

    _looked_at = float("-inf")
    _looking: asyncio.Task[None] | None = None

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection to the primary."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked_at >= _LOOK_SECONDS and self._looking is None:
            self._looked_at = loop.time()
            self._looking = loop.create_task(self._look())
        pool: Any = super()
        connection = await pool.get_connection(*arguments, **options)
        if (connection.host, connection.port) != self.master_address:
            try:
                await connection.disconnect()
                await connection.connect()
            except BaseException:
                await self.release(connection)
                raise
        return connection

    async def aclose(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
        await super().aclose()

    async def _look(self) -> None:
        pool: Any = self
        try:
            await pool.get_master_address()
        except Exception as error:  # noqa: BLE001 - then things are left as they are
            _log.debug("the Sentinels do not say who is the primary: %r", error)
        finally:
            self._looking = None
