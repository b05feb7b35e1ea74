"""The server of the live rig: ``python -m headgate.lab.live.server`` (see `headgate.lab.live`).

One process, one thread, one event loop, as a Python service has. While it works on a request nothing else
happens; between two requests it reads what has arrived, decides on it, and answers.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import time
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Any, Final

from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import RateLimited
from headgate.lab.live.frames import ANSWER, ASK, Ask, Status, frames, request_of
from headgate.lab.servers import Fifo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.lab.protections import Protection
    from headgate.lab.servers import Line
    from headgate.lab.workload import Request

__all__ = ["Host", "main"]

_LIFETIME: Final = 300.0
_TICK: Final = 0.1
_HOST: Final = "127.0.0.1"


class Host:
    """What a protection or an application is given.

    Attributes:
        clock: the server's.
        speed: of services that begin.
        rejections: so far.
        burnt_ns: processor time that was work.
        pressure: of an application, told with each of its answers.
    """

    def __init__(self, seed: int) -> None:
        self.clock = SystemClock()
        self.speed = 1.0
        self.rejections = 0
        self.burnt_ns = 0
        self._seed = seed
        self._lines: dict[int, _Connection] = {}
        self._kept: list[asyncio.Task[None]] = []
        self.waiting: Callable[[], int] = lambda: 0
        self.pressure: Callable[[], float] = lambda: 0.0

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to something that an application does beside its requests."""
        self._kept.append(task)

    def stream(self, name: str) -> Random:
        """Randomness of its own for one purpose."""
        return Random(f"{self._seed}/{name}")

    def burn(self, request: Request) -> None:
        """Occupy the processor for the service time."""
        began_ns = time.thread_time_ns()
        now = self.clock.now_ns
        end_ns = now() + int(request.service_ns / self.speed)
        while now() < end_ns:
            pass
        self.burnt_ns += time.thread_time_ns() - began_ns

    async def hold(self, request: Request) -> None:
        """Let the service time pass; the processor is free for others."""
        await self.clock.sleep_async(request.service_ns / self.speed / NS_PER_SECOND)

    def drop(self, request: Request) -> None:
        """Refuse one that had been waiting."""
        self.answer(request, Status.REJECTED)

    def answer(self, request: Request, status: Status, pressure: float = 0.0) -> None:
        """Say what became of it; twice for the same is harmless."""
        connection = self._lines.pop(request.number, None)
        if connection is not None:
            self.rejections += status is Status.REJECTED
            connection.answer(request.number, status, pressure)

    def took(self, request: Request, connection: _Connection) -> None:
        """Remember who asked."""
        self._lines[request.number] = connection


class _Works:
    """One request at a time, from a line that a protection guards."""

    def __init__(self, host: Host, protection: Protection) -> None:
        self._host = host
        self._now = host.clock.now_ns
        self._protection = protection
        # An empty line is false, so None has to be asked for.
        line: Line | None = getattr(protection, "line", None)
        self._line: Line = Fifo() if line is None else line
        self._working = False
        host.waiting = self._line.__len__
        asyncio.get_running_loop().call_later(_TICK, self._tick)

    def arrive(self, request: Request, connection: _Connection) -> None:
        """Decide on it."""
        now = request.arrived
        if not self._protection.admit(request, len(self._line), now):
            # The short way: a rejection should cost next to nothing.
            self._host.rejections += 1
            connection.answer(request.number, Status.REJECTED, self._protection.pressure(now))
            return
        self._host.took(request, connection)
        self._line.push(request, now)
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        request = self._line.pop(self._now())
        if request is None:
            self._working = False
            return
        self._protection.started(request, self._now())
        self._host.burn(request)
        now = self._now()
        self._protection.done(request, now)
        self._host.answer(request, Status.DONE, self._protection.pressure(now))
        # Not in a loop here: what has arrived meanwhile is read first.
        asyncio.get_running_loop().call_soon(self._work)

    def _tick(self) -> None:
        self._protection.tick(len(self._line), self._now())
        asyncio.get_running_loop().call_later(_TICK, self._tick)


class _Tasks:
    """Every request a task of an application."""

    def __init__(self, host: Host, application: Callable[[Request], Awaitable[None]]) -> None:
        self._host = host
        self._application = application
        self._tasks: set[asyncio.Task[None]] = set()
        host.waiting = self._tasks.__len__

    def arrive(self, request: Request, connection: _Connection) -> None:
        """Begin on it."""
        self._host.took(request, connection)
        task = asyncio.get_running_loop().create_task(self._serve(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, request: Request) -> None:
        try:
            await self._application(request)
        except RateLimited:
            status = Status.REJECTED
        except Exception:  # noqa: BLE001 - whatever a handler raises is an answer to its caller
            status = Status.FAILED
        else:
            status = Status.DONE
        self._host.answer(request, status, self._host.pressure())


class _Connection(asyncio.Protocol):
    """Frames in, frames out; the answers of one reading leave together."""

    def __init__(self, host: Host, arrive: Callable[[Request, _Connection], None]) -> None:
        self._host = host
        self._arrive = arrive
        self._buffer = bytearray()
        self._answers: list[bytes] = []
        self._reading = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # TCP servers make this kind

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._reading = True
        now = self._host.clock.now_ns()
        for fields in frames(self._buffer, ASK):
            if fields[5] == Ask.WORK:
                self._arrive(request_of(fields, now), self)
            else:
                self._tell(fields[0], Ask(fields[5]), fields[1])
        self._reading = False
        self._flush()

    def answer(self, number: int, status: Status, pressure: float, value: int = 0) -> None:
        """Send an answer, at the latest when the loop comes round."""
        if not self._answers and not self._reading:
            asyncio.get_running_loop().call_soon(self._flush)
        permille = min(65_535, int(pressure * 1000)) if pressure > 0.0 else 0
        self._answers.append(ANSWER.pack(number, status, permille, value))

    def _flush(self) -> None:
        if self._answers and not self._transport.is_closing():
            self._transport.write(b"".join(self._answers))
        self._answers.clear()

    def _tell(self, number: int, ask: Ask, value: int) -> None:
        host = self._host
        if ask is Ask.SPEED:
            host.speed = max(1, value) / 1000
        values = {
            Ask.SPEED: value,
            Ask.PROCESSOR: time.process_time_ns(),
            Ask.BURNT: host.burnt_ns,
            Ask.REJECTIONS: host.rejections,
        }
        self.answer(number, Status.VALUE, 0.0, values[ask])


async def _serve(what: str, arguments: dict[str, Any], seed: int) -> None:
    """Serve until nobody wants us any more."""
    loop = asyncio.get_running_loop()
    host = Host(seed)
    module, _, name = what.partition(":")
    made = getattr(import_module(module), name)(host, **arguments)
    is_application = inspect.iscoroutinefunction(made)
    handler = _Tasks(host, made) if is_application else _Works(host, made)
    server = await loop.create_server(lambda: _Connection(host, handler.arrive), _HOST, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    abandoned = loop.create_future()

    def abandon() -> None:
        if not abandoned.done():
            abandoned.set_result(None)

    # Our standard input is a pipe that ends when the parent does.
    loop.add_reader(sys.stdin.fileno(), abandon)
    await asyncio.wait([abandoned], timeout=_LIFETIME)
    server.close()


def main() -> None:
    """Read the arguments (JSON) and serve."""
    from headgate.cli.load.running import run_loop

    settings = json.loads(sys.argv[1])
    if settings["core"] is not None:
        os.sched_setaffinity(0, {settings["core"]})
    run_loop(_serve(settings["what"], settings["arguments"], settings["seed"]))


if __name__ == "__main__":
    main()
