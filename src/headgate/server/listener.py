"""uvicorn as this service runs it: our connections, our signals, an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn import Config, Server

from headgate.errors import ConfigurationError
from headgate.server.acceptor import take_queue
from headgate.server.connections import Connections
from headgate.server.pressure import FIELD, Pressure
from headgate.server.protocol import HttpConnection
from headgate.server.station import REST

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from headgate.server.context import Context
    from headgate.server.station import Station
    from headgate.settings import Settings

__all__ = ["HttpServer", "http_config"]


def http_config(settings: Settings, context: Context, connections: Connections) -> Config:
    """Uvicorn's configuration.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """
    connection: Any = partial(HttpConnection, connections)
    config = Config(
        _application(context),
        http=connection,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("server", "headgate")],
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        message = (
            f"the TLS certificate {settings.tls_certificate} or its key {settings.tls_key} cannot be "
            f"used: {error}; both must be PEM files that belong together"
        )
        raise ConfigurationError(message) from error
    return config


def _application(context: Context) -> ASGIApp:
    from headgate.server.app import create_app  # noqa: PLC0415 - FastAPI loads while others wait

    return create_app(context)


class HttpServer(Server):
    """A uvicorn server that stops the way we want.

    Args:
        config: of uvicorn.
        connections: all connections.
        pressure: goes with every answer.
        on_drain: is called when the service begins to stop.
        station: of a worker, which accepts in turn with others.
    """

    def __init__(
        self,
        config: Config,
        connections: Connections,
        pressure: Pressure,
        on_drain: Callable[[], object],
        station: Station | None = None,
    ) -> None:
        super().__init__(config)
        self._station = station
        self._pressure = pressure
        self._fields: list[tuple[bytes, bytes]] = []
        self._connections = connections
        self._on_drain = on_drain
        self._on_start: Callable[[], None] = _nothing

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context of TLS, if the service speaks it."""
        return self.config.ssl if self.config.is_ssl else None

    async def serve_until_stopped(
        self, listener: socket.socket, started: Callable[[], None]
    ) -> None:
        """Accept connections on this socket until `stop`."""
        self._on_start = started
        await self.serve(sockets=[listener] if self._station is None else [])

    def stop(self) -> None:
        """Begin to stop."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._station is not None:
            self._station.attend(REST, self._connection, self._held, self.tls)
        await self.on_tick(0)  # the date header is there before the first request
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: the header fields that every answer begins with, the lane's too."""
        ending = await super().on_tick(counter)
        state, field = self.server_state, self._pressure.field
        # uvicorn writes the list anew every second, for the date.
        if state.default_headers is not self._fields or state.default_headers[-1][1] is not field:
            others = [one for one in state.default_headers if one[0] != FIELD]
            self._fields = state.default_headers = [*others, (FIELD, field)]
        return ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._on_drain()
        self._connections.drain(loop)
        if self._station is not None:
            self._station.close(REST)
        # Who was let into the queue is answered; to close the listener would cut them off.
        for waiting in [one for listener in sockets or () for one in take_queue(listener)]:
            task = loop.create_task(self._take(waiting))
            self.server_state.tasks.add(task)  # which are waited for
            task.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)

    async def _take(self, accepted: socket.socket) -> None:
        """A connection that nobody accepted yet; one that is gone is no loss."""
        loop = asyncio.get_running_loop()
        accepted.settimeout(0)
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(self._connection, accepted, ssl=self.tls)

    def _connection(self) -> asyncio.Protocol:
        """The protocol of a new connection, as uvicorn makes them."""
        build: Any = self.config.http_protocol_class
        connection: asyncio.Protocol = build(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return connection

    def _held(self) -> int:
        return len(self._connections.open)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal. uvicorn would raise it again at the end, and the exit code would not be 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.should_exit:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop()


def _nothing() -> None:
    """Nobody waits for the start."""
