"""The other nodes of the cluster, as far as their pressure goes (D6).

With a Redis configured each node tells the others how hard pressed it is, and hears them. Nothing of that
is on the way of a request, and a store that fails or hangs leaves each node with its own pressure.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headgate.gates.global_pressure import GlobalPressure
from headgate.wiring.pressures import open_configured_pressures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.server.pressure import Pressure
    from headgate.settings import Settings

__all__ = ["sharing_pressure"]


@contextlib.asynccontextmanager
async def sharing_pressure(
    settings: Settings, node: str, pressure: Pressure
) -> AsyncIterator[None]:
    """Exchange pressures with the nodes of the cluster for the block's duration.

    Without a Redis, and with ``backpressure`` off, there is nothing to do.

    Args:
        settings: of the service.
        node: its name in the cluster.
        pressure: is told from, and raised to the cluster's.

    Raises:
        ConfigurationError: the address of the store cannot be used.
    """
    if not (settings.redis_url and settings.backpressure):
        yield
        return
    board = open_configured_pressures(settings)
    view = GlobalPressure(node, pressure.local, shared=board)
    pressure.join(view)
    telling = asyncio.get_running_loop().create_task(view.run())
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        view.close()
