"""Several processes that serve as one node: the supervisor (D7).

It binds the ports once and hands them to its workers, so that nobody who connects is refused while one worker
goes and another comes. It takes part in no request. A worker that dies is replaced; so is the private Valkey,
where the workers count together when no Redis is configured.

SIGTERM and SIGINT end everything, after what is on its way was answered; a second one ends it at once. SIGHUP
replaces the workers, one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError
from headgate.server.balance import Balance
from headgate.server.binding import bind, listen
from headgate.server.crew import Crew, WorkerProcess
from headgate.server.private_store import PrivateStore, find_valkey
from headgate.server.process import announce, configure_logging
from headgate.server.restarts import Restarts
from headgate.server.switchboard import Switchboard
from headgate.server.worker import Orders

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from headgate.settings import Settings

__all__ = ["run_workers"]

_log = logging.getLogger("headgate.workers")
_GRACE_SECONDS: Final = 5.0
"""What a worker may take beyond `drain_seconds` before it is killed."""


def run_workers(settings: Settings) -> None:
    """Serve with several workers until a signal comes, and all is drained.

    Raises:
        ConfigurationError: the service cannot start as it is configured, or its workers keep dying.
    """
    configure_logging(settings.log_level, "supervisor")
    _require_possible(settings)
    handle, path = tempfile.mkstemp(prefix="headgate-")
    os.unlink(path)  # noqa: PTH108 - only the handle is wanted
    rest = bind(settings.host, settings.port)
    resp = _bind_resp(settings)
    store = None
    try:
        if not settings.redis_url:
            keep = settings.data_dir if settings.snapshot else None
            store = PrivateStore(find_valkey(), keep, settings.max_keys, SystemClock())
        balance = Balance.create(handle, 2 * settings.workers + 1)
        supervisor = _Supervisor(settings, (rest, resp), balance, store)
        asyncio.run(supervisor.run())
    finally:
        if store is not None:
            store.remove()
        for listener in (rest, resp):
            if listener is not None:
                listener.close()


def _require_possible(settings: Settings) -> None:
    if os.name != "posix":
        message = "several workers need a system that hands sockets on; serve with --workers 1"
        raise ConfigurationError(message, setting="workers")
    if settings.database_url.startswith("memory:") and not (
        settings.redis_url or settings.etcd_endpoints
    ):
        message = (
            "memory:// keeps the records in one process, and several workers would each have their own; "
            "leave --database-url out, or serve with --workers 1"
        )
        raise ConfigurationError(message, setting="database_url")


def _bind_resp(settings: Settings) -> socket.socket | None:
    if settings.resp_port is None:
        return None
    return bind(settings.host, settings.resp_port, "resp_port")


@final
class _Supervisor:
    """One node, from its first worker to its last."""

    def __init__(
        self,
        settings: Settings,
        listeners: tuple[socket.socket, socket.socket | None],
        balance: Balance,
        store: PrivateStore | None,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._balance = balance
        self._store = store
        self._node = settings.node or f"{socket.gethostname()}-{listeners[0].getsockname()[1]}"
        self._crew = Crew(balance.seats)
        self._switchboard = Switchboard(self._crew)
        self._restarts = Restarts(settings.workers)
        self._store_restarts = Restarts()
        self._store_over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._is_open = False
        self._has_served = False
        self._is_replacing = False
        self._trouble: ConfigurationError | None = None

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            ConfigurationError: the workers cannot start, or keep dying.
        """
        self._hear_signals()
        try:
            if self._store is not None:
                await self._store.start_with_kept()
                self._spawn(self._look_after_store(self._store))
            await self._begin()
            await self._stopping.wait()
        finally:
            await self._end()
        if self._trouble is not None:
            raise self._trouble

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_signal_handler(signal.SIGHUP, self._on_replace)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)

    # Starting ------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Start all workers; open the ports when the last of them is ready."""
        starting = [self._start_worker() for _ in range(self._settings.workers)]
        crew = [await one for one in starting]
        for worker in crew:
            if not await worker.is_ready() and not self._stopping.is_set():
                message = worker.failure or f"a worker does not start: {worker.how_it_ended()}"
                raise ConfigurationError(message)
        if self._stopping.is_set():
            return
        for listener in self._listeners:
            if listener is not None:
                listen(listener)
        self._is_open = self._has_served = True
        self._crew.tell({"do": "accept"})
        said = crew[0].ready.result() or {}
        rest, resp = self._listeners
        ports = rest.getsockname()[1], None if resp is None else resp.getsockname()[1]
        announce(self._settings, said["version"], ports, policies=said["policies"])

    async def _start_worker(self) -> WorkerProcess:
        number = self._crew.free_number()
        rest, resp = self._listeners
        # The counters are the node's, and not any one worker's to keep.
        settings = replace(
            self._settings,
            node=f"{self._node}.{number}",
            snapshot=False,
            max_connections=-(-self._settings.max_connections // self._settings.workers),
        )
        if self._store is not None:
            settings = replace(settings, redis_url=self._store.url)
        orders = Orders(
            number=number,
            node=self._node,
            settings=settings,
            rest=rest.fileno(),
            resp=None if resp is None else resp.fileno(),
            balance=self._balance.handle,
            seats=self._balance.seats,
            private="" if self._store is None else str(self._store.directory),
        )
        worker = await WorkerProcess.start(orders)
        self._crew.all[number] = worker
        self._spawn(self._attend(worker))
        return worker

    async def _attend(self, worker: WorkerProcess) -> None:
        """Hear a worker until it is gone; start another in its place if it should not have gone."""
        while (message := await worker.line.receive()) is not None:
            self._hear(worker, message)
        self._reap()
        await worker.over.wait()
        worker.became(None)
        worker.line.close()
        del self._crew.all[worker.number]
        self._balance.clear(worker.number)
        self._switchboard.gone(worker)
        is_missed = not worker.is_retired and not worker.is_on_trial
        if is_missed and self._is_open and not self._stopping.is_set():
            await self._replace_dead(worker)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        word = message["say"]
        if word == "ready":
            worker.became(message)
            self._switchboard.tell_numbers()
            if self._is_open:
                worker.line.send({"do": "accept"})
        elif word == "failed":
            worker.failure = message["message"]
        else:
            self._switchboard.hear(worker, message)

    # Dying ---------------------------------------------------------------------------------------

    def _reap(self) -> None:
        self._crew.reap()
        store = self._store
        if store is not None and store.process is not None and store.process.poll() is not None:
            self._store_over.set()

    async def _replace_dead(self, worker: WorkerProcess) -> None:
        lived = asyncio.get_running_loop().time() - worker.started
        wait = self._restarts.died(lived)
        self._switchboard.worker_deaths = self._restarts.total
        _log.error(
            "worker %d is gone after %.1f s: %s; another starts in %.1f s",
            *(worker.number, lived, worker.how_it_ended(), wait),
        )
        if self._restarts.is_loop and not self._crew.working():
            self._give_up(worker)
            return
        while not await self._is_stopped_within(wait):
            try:
                await self._start_worker()
            except OSError as error:  # the system has no room for a process just now
                wait = max(1.0, self._restarts.died(0.0))
                _log.error("no worker can be started, and it is tried again: %s", error)
            else:
                return

    def _give_up(self, worker: WorkerProcess) -> None:
        message = (
            "the workers keep dying as soon as they start, and none is left; of the last one: "
            f"{worker.how_it_ended()}. The log above says more"
        )
        self._trouble = ConfigurationError(message)
        self._stopping.set()

    async def _look_after_store(self, store: PrivateStore) -> None:
        """Start the private Valkey again whenever it dies; the workers find it at the same place."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self._store_over.wait()
            self._store_over.clear()
            if self._stopping.is_set():
                return
            wait = self._store_restarts.died(loop.time() - started)
            self._switchboard.store_deaths = self._store_restarts.total
            _log.error(
                "the private Valkey died; the workers go by themselves until it is back, in %.1f s",
                wait,
            )
            if await self._is_stopped_within(wait):
                return
            try:
                await store.start()
            except (ConfigurationError, OSError) as error:
                _log.error("%s", error)
                self._store_over.set()
            else:
                _log.info("the private Valkey is back, with counters that start afresh")

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    # Replacing and ending ------------------------------------------------------------------------

    def _on_replace(self) -> None:
        if self._is_open and not self._is_replacing and not self._stopping.is_set():
            self._is_replacing = True
            self._spawn(self._replace_all())

    async def _replace_all(self) -> None:
        """New workers for old ones, one at a time; what was ready stays until its successor is."""
        try:
            for old in self._crew.working():
                if not await self._replace_one(old):
                    return
            _log.info("all workers were replaced")
        finally:
            self._is_replacing = False

    async def _replace_one(self, old: WorkerProcess) -> bool:
        new = await self._start_worker()
        new.is_on_trial = True
        if not await new.is_ready():
            if not self._stopping.is_set():
                _log.error(
                    "a new worker does not start, and the old ones stay: %s", new.how_it_ended()
                )
            return False
        new.is_on_trial = False
        # One that died meanwhile has its successor already.
        leaving = old if self._crew.all.get(old.number) is old else new
        leaving.drain(final=False)
        await self._await_end([leaving])
        return not self._stopping.is_set()

    def _on_stop(self, number: int) -> None:
        if self._stopping.is_set():
            self._end_at_once(number)
        self._stopping.set()

    async def _end(self) -> None:
        """Drain the workers, keep the counters, end the Valkey."""
        self._stopping.set()
        self._is_open = False
        # Whoever connects from here on is refused once the last worker has closed its copy.
        for listener in self._listeners:
            if listener is not None:
                listener.close()
        crew = list(self._crew.all.values())
        for worker in crew:
            worker.drain(final=True)
        await self._await_end(crew)
        if self._store is not None:
            if self._has_served and self._trouble is None:
                await self._store.keep()
            await self._store.stop()
        for task in list(self._tasks):
            task.cancel()

    async def _await_end(self, workers: list[WorkerProcess]) -> None:
        """Return when all of these are over; kill those that take too long."""
        patience = self._settings.drain_seconds + _GRACE_SECONDS
        waiting = [asyncio.ensure_future(one.over.wait()) for one in workers]
        if waiting:
            await asyncio.wait(waiting, timeout=patience)
        for worker in workers:
            if not worker.over.is_set():
                _log.error("worker %d did not end in %g s and is killed", worker.number, patience)
                worker.process.kill()
                await worker.over.wait()

    def _end_at_once(self, number: int) -> None:
        for worker in self._crew.all.values():
            worker.process.kill()
        if self._store is not None:
            self._store.remove()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
