"""Start, serve, drain, stop.

Whatever can be wrong with a configuration is found before the first connection is accepted, and said in
one line. On SIGTERM or SIGINT the service stops accepting, answers what is on its way, keeps its counters
and ends with exit code 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.server.auth import REFRESH_SECONDS, Gatekeeper
from headgate.server.backpressure_desk import BackpressureDesk
from headgate.server.binding import bind, cannot_listen, listen, raise_file_limit
from headgate.server.cluster_desk import ClusterDesk
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
from headgate.server.process import announce, configure_logging, loop_factory, settle_memory
from headgate.server.resp import build_resp
from headgate.server.service import CheckService
from headgate.server.station import REST
from headgate.server.wire import decode_check
from headgate.wiring import keep_snapshot, open_configured_store, read_snapshot, wire
from headgate.wiring.cluster import advertised, node_name, open_cluster

if TYPE_CHECKING:
    import socket

    from headgate.clock import Clock
    from headgate.engine.ports import Store
    from headgate.gates.load_monitor import LoadMonitor
    from headgate.server.station import Station
    from headgate.settings import Settings
    from headgate.wiring.cluster import Cluster

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
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
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
        cluster = await _open_cluster(settings, listener.getsockname()[1], clock, station)
        try:
            with cluster.agreement.store or open_configured_store(settings, clock) as store:
                service = _Service(settings, store, clock, cluster, station)
                await service.serve(listener, started, monitor)
        finally:
            await cluster.close()
    finally:
        listener.close()


async def _open_cluster(
    settings: Settings, port: int, clock: Clock, station: Station | None
) -> Cluster:
    """What this process shares with other nodes, and with the other workers of its own."""
    if station is None:
        return await open_cluster(settings, node_name(settings, port), clock)
    return await open_cluster(
        settings,
        f"{station.node}.{station.number}",
        clock,
        agreement=station.agreement,
        local_scope=station.scope,
    )


class _Service:
    """One service, from its parts to its end."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        cluster: Cluster,
        station: Station | None = None,
    ) -> None:
        self._settings = settings
        is_agreed = store is cluster.agreement.store
        store = GuardedStore(store, clock)
        wired = wire(settings, store, clock, cluster.share, is_agreed=is_agreed)
        overload = Overload(clock)
        gatekeeper = Gatekeeper(store.tokens, clock)
        gatekeeper.open(is_loopback=settings.is_loopback, may_be_away=is_agreed)
        self._context = context = Context(
            settings=settings,
            store=store,
            service=CheckService(wired.engine, settings.max_key_bytes, overload),
            gatekeeper=gatekeeper,
            policies=PolicyDesk(wired.engine, store.policies, wired.versions),
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
        context.cluster = self._desk = desk = ClusterDesk(
            cluster, context, is_configured=wired.versions is not None
        )
        context.policies.announce = context.backpressure.announce = desk.announce
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
        await self._desk.greet()
        resp_port = await self._start_resp(server)
        loop = asyncio.get_running_loop()
        self._connections.start(loop)
        tasks = [loop.create_task(self._refresh())]

        def begin() -> None:
            started(running)
            if monitor is not None:  # only now: to start takes the loop for a while, and is no load
                tasks.append(loop.create_task(self._watch(monitor)))

        port = listener.getsockname()[1]
        running = Running(port, resp_port, server.stop, self._context)
        self._desk.start(advertised(self._settings, port))
        node = self._desk.cluster.node
        try:
            async with sharing_pressure(self._settings, node, self._context.pressure):
                if self._context.station is None:  # else the supervisor does, once all are ready
                    listen(listener)
                await server.serve_until_stopped(listener, begin)
        finally:
            for task in tasks:
                task.cancel()
            await (self._stopping_resp or self._begin_drain())
            await self._desk.stop()
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
            ConfigurationError: the store does not answer, and is this node's own.
        """
        try:
            self._context.backpressure.start()
        except StoreUnavailable as error:
            if self._desk.cluster.agreement.store is not None:
                return  # they are read as soon as it does
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
    settle_memory()
    _announce(running)


def _announce(running: Running) -> None:
    context = running.context
    policies = len(context.service.engine.policies())
    announce(
        context.settings, context.version, (running.port, running.resp_port), policies=policies
    )


def _version() -> str:
    return str(sys.modules["headgate"].__version__)  # importing it would load every public name
