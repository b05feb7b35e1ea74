"""Start, serve, drain, stop.

Whatever can be wrong with a configuration is found before the first connection is accepted, and said in
one line. On SIGTERM or SIGINT the service stops accepting, answers what is on its way, keeps its counters
and ends with exit code 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.server.auth import REFRESH_SECONDS, Gatekeeper
from headgate.server.backpressure_desk import BackpressureDesk
from headgate.server.binding import bind, cannot_listen, listen, raise_file_limit
from headgate.server.connections import Connections
from headgate.server.context import Context
from headgate.server.features import own_features
from headgate.server.guarded_store import GuardedStore
from headgate.server.heads import HeadBook
from headgate.server.lane import CheckLane
from headgate.server.listener import HttpServer, http_config
from headgate.server.neighbours import sharing_pressure
from headgate.server.overload import Overload
from headgate.server.policies import PolicyDesk
from headgate.server.pressure import Pressure, own_monitor
from headgate.server.resp import build_resp
from headgate.server.service import CheckService
from headgate.server.station import REST
from headgate.server.wire import decode_check
from headgate.wiring import keep_snapshot, open_configured_store, read_snapshot, wire

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.engine.ports import Store
    from headgate.gates.load_monitor import LoadMonitor
    from headgate.server.station import Station
    from headgate.settings import Settings

__all__ = ["Running", "run", "serve"]

_log = logging.getLogger("headgate.server")
_SPARE_FILES = 256


@dataclass(frozen=True)
class Running:
    """A service that serves.

    Attributes:
        port: of REST.
        resp_port: of RESP; None without.
        stop: drains and ends it; call it on the loop's thread.
        context: what it works with.
    """

    port: int
    resp_port: int | None
    stop: Callable[[], None]
    context: Context


def run(settings: Settings) -> None:
    """Serve until a signal comes, and all is drained.

    Raises:
        ConfigurationError: the service cannot start as it is configured.
    """
    _configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings, _begin))


async def serve(
    settings: Settings,
    started: Callable[[Running], None],
    clock: Clock | None = None,
    station: Station | None = None,
) -> None:
    """Serve until stopped.

    Args:
        settings: the configuration.
        started: is called once connections are accepted.
        clock: for tests; the system's when left out. With one of a test's own the service does not
            watch its load: the test says what the pressure is.
        station: of a worker, which has its listeners from its supervisor.

    Raises:
        ConfigurationError: the service cannot start as it is configured.
    """
    watched = clock is None and settings.backpressure
    monitor = own_monitor() if watched else None
    clock = clock or SystemClock()
    listener = bind(settings.host, settings.port) if station is None else station.listeners[REST]
    try:
        with open_configured_store(settings, clock) as store:
            service = _Service(settings, store, clock, station)
            await service.serve(listener, started, monitor)
    finally:
        listener.close()


class _Service:
    """One service, from its parts to its end."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, station: Station | None = None
    ) -> None:
        self._settings = settings
        store = GuardedStore(store, clock)
        wired = wire(settings, store, clock)
        overload = Overload(clock)
        gatekeeper = Gatekeeper(store.tokens, clock)
        gatekeeper.open(is_loopback=settings.is_loopback)
        self._context = context = Context(
            settings=settings,
            store=store,
            service=CheckService(wired.engine, settings.max_key_bytes, overload),
            gatekeeper=gatekeeper,
            policies=PolicyDesk(wired.engine, store.policies),
            backpressure=BackpressureDesk(store, overload),
            pressure=Pressure(overload, clock),
            top_denied=wired.top_keys,
            version=_version(),
            station=station,
        )
        if settings.fast_lane:
            heads = HeadBook(gatekeeper, settings.max_check_bytes)
            context.lane = CheckLane(
                context.service, context.renderer, decode_check, heads.known, heads.read
            )
        context.connections = self._connections = Connections(settings, context.lane)
        observer = wired.top_keys if settings.top_keys else None
        self._resp = build_resp(context, observer)
        throttles = self._resp.door.throttles
        context.features = own_features(overload, context.service, throttles, observer)
        context.pressure.followers.append(context.features.update)
        context.pressure.followers.append(wired.engine.adapt)
        self._stopping_resp: asyncio.Future[None] | None = None
        self._clock = clock

    async def serve(
        self,
        listener: socket.socket,
        started: Callable[[Running], None],
        monitor: LoadMonitor | None,
    ) -> None:
        self._restore()
        self._begin_backpressure()
        settings = self._settings
        raise_file_limit(settings.max_connections + _SPARE_FILES)
        config = http_config(settings, self._context, self._connections)
        context = self._context
        server = HttpServer(
            config, self._connections, context.pressure, self._begin_drain, context.station
        )
        # Before the first port is open: who sees one may send a signal.
        with server.capture_signals():
            await self._serve(server, listener, started, monitor)

    async def _serve(
        self,
        server: HttpServer,
        listener: socket.socket,
        started: Callable[[Running], None],
        monitor: LoadMonitor | None,
    ) -> None:
        resp_port = await self._start_resp(server)
        loop = asyncio.get_running_loop()
        self._connections.start(loop)
        tasks = [loop.create_task(self._refresh())]

        def begin() -> None:
            started(running)
            if monitor is not None:  # only now: to start takes the loop for a while, and is no load
                tasks.append(loop.create_task(self._watch(monitor)))

        running = Running(listener.getsockname()[1], resp_port, server.stop, self._context)
        try:
            async with sharing_pressure(self._settings, _node(running), self._context.pressure):
                if self._context.station is None:  # else the supervisor does, once all are ready
                    listen(listener)
                await server.serve_until_stopped(listener, begin)
        finally:
            for task in tasks:
                task.cancel()
            await (self._stopping_resp or self._begin_drain())
            self._keep()

    async def _start_resp(self, server: HttpServer) -> int | None:
        settings = self._settings
        if settings.resp_port is None:
            return None
        try:
            return await self._resp.start(settings.host, settings.resp_port, server.tls)
        except OSError as error:
            raise cannot_listen(settings.host, settings.resp_port, "resp_port", error) from error

    def _begin_drain(self) -> asyncio.Future[None]:
        self._context.draining = True
        stopping = asyncio.ensure_future(self._resp.stop(self._settings.drain_seconds))
        self._stopping_resp = stopping
        return stopping

    async def _refresh(self) -> None:
        """Until cancelled. By the loop's time: the clock may be one that a test moves."""
        never = asyncio.Event()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), REFRESH_SECONDS)
            await self._context.gatekeeper.refresh()
            await self._context.backpressure.refresh()

    async def _watch(self, monitor: LoadMonitor) -> None:
        """Go by what the monitor says, until cancelled."""
        monitor.subscribe(self._context.pressure.observe)
        async with monitor:
            await asyncio.Event().wait()

    def _begin_backpressure(self) -> None:
        """Go by the settings that were kept.

        Raises:
            ConfigurationError: the store does not answer.
        """
        try:
            self._context.backpressure.start()
        except StoreUnavailable as error:
            raise ConfigurationError(error.message, **error.context) from error

    def _restore(self) -> None:
        """Take over the counters of the last graceful stop; what cannot be used is left alone."""
        content = read_snapshot(self._settings)
        if content is None:
            return
        engine, now = self._context.service.engine, self._clock.now_ns()
        try:
            keys = engine.restore(content["engine"])
            throttles = self._resp.door.throttles
            keys += throttles.load(content["throttles"], now, self._clock.wall_offset_ns)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _log.warning("the counters could not all be taken over: %r", error)
        else:
            _log.info("took over the counters of %d keys", keys)

    def _keep(self) -> None:
        throttles = self._resp.door.throttles
        content = {
            "engine": self._context.service.engine.snapshot(),
            "throttles": throttles.dump(self._clock.now_ns(), self._clock.wall_offset_ns),
        }
        keep_snapshot(self._settings, content)


def _begin(running: Running) -> None:
    # What was loaded so far stays: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    _announce(running)


def _announce(running: Running) -> None:
    settings = running.context.settings
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    resp = f", RESP on port {running.resp_port}" if running.resp_port else ""
    policies = len(running.context.service.engine.policies())
    sys.stdout.write(
        f"headgate {running.context.version} serves {scheme}://{host}:{running.port}{resp}; "
        f"{policies} policies, data in {settings.data_dir}\n"
    )
    sys.stdout.flush()


def _node(running: Running) -> str:
    """The name of this node among those of its cluster."""
    return running.context.settings.node or f"{socket.gethostname()}:{running.port}"


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # These tell of every malformed request; `headgate_http_*` counts them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    return uvloop.new_event_loop


def _version() -> str:
    return str(sys.modules["headgate"].__version__)  # importing it would load every public name
