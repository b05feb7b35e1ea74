"""One of several processes that serve as one node: ``python -m headgate.server.worker HANDLE``.

Started by `headgate.server.workers`. Its orders come over the socket with that handle, which it keeps: when
the other end is closed the supervisor is gone, and the worker answers what is on its way and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import ConfigurationError
from headgate.server.balance import Balance
from headgate.server.frames import Line, read_frame
from headgate.server.key_usage import RECENT
from headgate.server.lifecycle import Running, serve
from headgate.server.link import Link
from headgate.server.node_agreement import NodeAgreement
from headgate.server.node_metrics import METRICS, own_report
from headgate.server.process import configure_logging, loop_factory, settle_memory
from headgate.server.station import Station
from headgate.settings import Settings

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Orders", "main"]

_FAILED: Final = 2


@dataclass(frozen=True)
class Orders:
    """What a worker is told at its start.

    Attributes:
        number: its own.
        node: the name of the node.
        settings: of the service.
        rest: the handle of REST's listener.
        resp: of RESP's; None without.
        balance: of the table of connections.
        seats: of that table.
        private: the directory of the node's own Valkey; "" without.
    """

    number: int
    node: str
    settings: Settings
    rest: int
    resp: int | None
    balance: int
    seats: int
    private: str = ""

    def document(self) -> dict[str, Any]:
        """The orders as plain data."""
        plain: dict[str, Any] = {}
        paths: dict[str, str] = {}
        for field in fields(Settings):
            value = getattr(self.settings, field.name)
            if isinstance(value, Path):
                paths[field.name] = str(value)
            else:
                plain[field.name] = value
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**members, "settings": plain, "paths": paths}

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """The orders that `document` was made of."""
        values: dict[str, Any] = document.pop("settings")
        values |= {name: Path(text) for name, text in document.pop("paths").items()}
        settings = Settings(**values)
        return cls(settings=settings, **document)


def main(handle: int) -> int:
    """Serve as a worker; the exit code."""
    end = socket.socket(fileno=handle)
    try:
        orders = Orders.read(read_frame(end))
    except EOFError:
        return _FAILED  # the supervisor is gone already
    configure_logging(orders.settings.log_level, f"worker {orders.number}")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_Worker(orders).work(end))


class _Worker:
    """A worker from its orders to its end."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._running: Running | None = None
        self._station: Station
        self._link: Link
        self._is_told_to_stop = False

    async def work(self, end: socket.socket) -> int:
        line = await Line.over(end)
        self._link = link = Link(line)
        self._station = _station(self._orders, link)
        link.on("accept", lambda _: self._station.open())
        link.on("drain", self._drain)
        link.on("cut", self._orphaned)
        listening = asyncio.get_running_loop().create_task(link.run())
        try:
            await serve(self._orders.settings, self._started, station=self._station)
        except ConfigurationError as error:
            link.tell("failed", message=str(error))
            return _FAILED
        finally:
            if self._running is not None:
                link.tell("farewell", report=own_report(self._running.context))
            await link.flush()
            if link.is_cut:
                await _end_private(self._orders.private)
            listening.cancel()
            line.close()
        return 0

    def _started(self, running: Running) -> None:
        self._running = running
        settle_memory()
        context = running.context
        self._link.answer(METRICS, lambda _: own_report(context))
        self._link.answer(RECENT, context.service.recall)
        policies = len(context.service.engine.policies())
        self._link.tell("ready", version=context.version, policies=policies)
        if self._is_told_to_stop:
            running.stop()

    def _drain(self, order: dict[str, Any]) -> None:
        self._station.leaves_queue = not order["final"]
        self._stop()

    def _orphaned(self, _: dict[str, Any]) -> None:
        self._stop()

    def _stop(self) -> None:
        self._is_told_to_stop = True
        if self._running is not None:
            self._running.stop()


def _station(orders: Orders, link: Link) -> Station:
    rest = socket.socket(fileno=orders.rest)
    resp = None if orders.resp is None else socket.socket(fileno=orders.resp)
    balance = Balance(orders.balance, orders.seats)
    agreement = NodeAgreement(link, orders.node, orders.number) if orders.private else None
    return Station(orders.number, orders.node, (rest, resp), balance, link, agreement)


async def _end_private(directory: str) -> None:
    """Nobody looks after the node's own Valkey any more: end it, and leave nothing behind."""
    if not directory:
        return
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(os.path.join(directory, "valkey.sock"))  # noqa: PTH118
        writer.write(b"SHUTDOWN NOSAVE\r\n")
        await writer.drain()
        writer.close()
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
