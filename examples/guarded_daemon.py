"""A daemon that survives a flood of connections, slow clients and its own appetite for memory.

    python examples/guarded_daemon.py --port 9000             # tasks
    python examples/guarded_daemon.py --port 9000 --threads
    HEADGATE_MAX_CONNECTIONS=20 HEADGATE_MAX_MEMORY_MB=150 python examples/guarded_daemon.py

It answers lines: ``echo TEXT``, ``big KB`` (a long answer), ``hold MB`` (keeps so much memory until somebody
says ``free``) and ``metrics``. Try it with ``nc 127.0.0.1 9000``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from headgate import DaemonGuard, InvalidInput, Overloaded

if TYPE_CHECKING:
    from headgate.gates.daemon_connections import DaemonConnection

LONGEST_LINE = 4096


def parse(line: bytes) -> tuple[str, str]:
    """A request that is not valid raises `InvalidInput`, which the guard counts besides."""
    command, _, argument = line.decode(errors="replace").partition(" ")
    if command == "echo" or (command in ("big", "hold") and re.fullmatch("[0-9]{1,6}", argument)):
        return command, argument
    raise InvalidInput("say: echo TEXT, big KB, hold MB, free, metrics")


def compute(command: str, argument: str) -> bytes:
    if command == "big":
        return b"x" * (int(argument) * 1024)
    return argument.encode()


def complain(error: Overloaded | InvalidInput) -> bytes:
    if isinstance(error, Overloaded):
        return f"refused {error.decision.policy} {error.decision.retry_after:.1f}".encode()
    return f"error {error}".encode()


class ThreadedDaemon:
    def __init__(self) -> None:
        self.guard = DaemonGuard(name="example")  # limits from the environment
        self.freed = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.stop())
        self.guard.serve(listener, self.handle)

    def stop(self) -> None:
        self.guard.stop()  # what is under way finishes, and is answered
        self.freed.set()

    def handle(self, sock: socket.socket, connection: DaemonConnection) -> None:
        with sock.makefile("rb") as lines:
            while line := lines.readline(LONGEST_LINE):
                # Sent outside of the request: who reads slowly keeps nobody else waiting.
                sock.sendall(self.answer(line.strip(), connection) + b"\n")

    def answer(self, line: bytes, connection: DaemonConnection) -> bytes:
        if line == b"metrics":  # works even when nothing else does
            connection.progressed()  # no request, and yet a client that comes
            return json.dumps(self.guard.metrics()).encode()
        if line == b"free":
            before, self.freed = self.freed, threading.Event()
            before.set()
            return b"freed"
        try:
            with connection.request():
                command, argument = parse(line)
                if command == "hold":
                    balloon = b"x" * (int(argument) * 1024 * 1024)
                    self.freed.wait()
                    del balloon
                return compute(command, argument)
        except (Overloaded, InvalidInput) as error:
            return complain(error)


class AsyncDaemon:
    def __init__(self) -> None:
        self.guard = DaemonGuard(name="example")
        self.freed = asyncio.Event()

    def serve(self, listener: socket.socket) -> None:
        asyncio.run(self.serve_async(listener))

    async def serve_async(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        await self.guard.serve_async(listener, self.handle, limit=LONGEST_LINE)

    def stop(self) -> None:
        self.guard.stop()
        self.freed.set()

    async def handle(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: DaemonConnection,
    ) -> None:
        with suppress(ValueError):  # the line is too long: the connection ends
            while line := await reader.readline():
                writer.write(await self.answer(line.strip(), connection) + b"\n")
                await writer.drain()

    async def answer(self, line: bytes, connection: DaemonConnection) -> bytes:
        if line == b"metrics":
            connection.progressed()
            return json.dumps(self.guard.metrics()).encode()
        if line == b"free":
            before, self.freed = self.freed, asyncio.Event()
            before.set()
            return b"freed"
        try:
            async with connection.request():
                command, argument = parse(line)
                if command == "hold":
                    balloon = b"x" * (int(argument) * 1024 * 1024)
                    await self.freed.wait()
                    del balloon
                return compute(command, argument)
        except (Overloaded, InvalidInput) as error:
            return complain(error)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    daemon = ThreadedDaemon() if options.threads else AsyncDaemon()
    with socket.create_server(("127.0.0.1", options.port), backlog=1024) as listener:
        daemon.serve(listener)
    print(json.dumps(daemon.guard.metrics(), indent=2))


if __name__ == "__main__":
    main()
