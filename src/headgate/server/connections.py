"""What all HTTP connections share, and what stands between each of them and uvicorn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from headgate.server.lane import CheckLane
    from headgate.server.protocol import HttpConnection
    from headgate.settings import Settings

__all__ = ["Connections", "GentleTransport", "PatientFlow"]

_FAREWELL_SECONDS: Final = 2.0
"""How long a peer that was refused may take to read why and to close."""
_IDLE_WHEN_DRAINING: Final = 0.5
"""How long an idle connection stays open when the service stops, for a request that is on its way."""


class Connections:
    """What all HTTP connections share.

    Args:
        settings: the limits.
        lane: the fast lane; None to do without.
    """

    def __init__(self, settings: Settings, lane: CheckLane | None) -> None:
        self.lane = lane
        self.draining = False
        self.max_connections = settings.max_connections
        self.max_head = settings.max_header_bytes
        self.max_url = settings.max_header_bytes // 2
        self.max_check = settings.max_check_bytes
        self.tick_seconds = min(1.0, settings.request_timeout / 4, settings.keep_alive_timeout / 4)
        self.request_ticks = self._ticks(settings.request_timeout)
        self.idle_ticks = self._ticks(settings.keep_alive_timeout)
        self.farewell_ticks = self._ticks(_FAREWELL_SECONDS)
        self.open: set[HttpConnection] = set()
        self.refused = 0
        self.timed_out = 0

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.tick_seconds))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch over the time that connections take."""

        def sweep() -> None:
            for connection in list(self.open):
                connection.tick()
            loop.call_later(self.tick_seconds, sweep)

        loop.call_later(self.tick_seconds, sweep)

    def drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what comes in, close after it, and close what stays idle."""
        self.draining = True

        def close_idle() -> None:
            for connection in list(self.open):
                connection.close_if_idle()

        loop.call_later(_IDLE_WHEN_DRAINING, close_idle)

    def close_later(self, connection: HttpConnection) -> None:
        """The same for one that was still waited for when the others were closed."""
        asyncio.get_running_loop().call_later(_IDLE_WHEN_DRAINING, connection.close_if_idle)


class GentleTransport:
    """A transport whose ``close`` lets the peer read the answer first; for uvicorn's eyes."""

    __slots__ = ("_connection", "_transport", "write")

    def __init__(self, transport: asyncio.Transport, connection: HttpConnection) -> None:
        self._transport = transport
        self._connection = connection
        self.write = transport.write

    def close(self) -> None:
        self._connection.close()

    def is_closing(self) -> bool:
        return self._connection.leaving or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientFlow(FlowControl):
    """Flow control that keeps the peer waiting while requests or answers of its are waiting.

    uvicorn resumes reading whenever a request asks for its body, even one that is complete.
    """

    def __init__(self, connection: HttpConnection, transport: GentleTransport) -> None:
        super().__init__(transport)  # type: ignore[arg-type]
        self._connection = connection

    def resume_reading(self) -> None:
        if not self.write_paused and not self._connection.is_behind():
            super().resume_reading()
