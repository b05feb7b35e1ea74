"""Driving connections: closed loop (as fast as answers come) or open loop (at a fixed rate).

In an open loop each request has a moment at which it is due, and its latency counts from then, whether or not
a connection was free to send it. So a server that stalls is charged with everything that should have been
asked meanwhile, and not with the few requests that were on their way (coordinated omission; G. Tene, "How NOT
to measure latency"). A closed loop has no such moments: its tail is that of a patient client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from headgate.cli.load.latencies import Latencies
from headgate.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.cli.load.cpu import CpuMeter
    from headgate.cli.load.result import LoadResult
    from headgate.clock import Clock

__all__ = ["Drive", "Talk"]

_NS: Final = 1_000_000_000
_TICK: Final = 0.001


class Talk(Protocol):
    """What is said on one connection, and how answers are read."""

    def ask(self) -> bytes:
        """The next request, or pipeline of requests."""

    def hear(self, data: bytes) -> tuple[int, int] | None:
        """(decisions, admitted) when the answers are complete; None when more must come.

        Raises:
            HeadgateError: the answer is none that a load could go on with.
        """


class Drive:
    """One run over several connections.

    Args:
        clock: tells latencies.
        rate: requests a second in all; None for a closed loop.

    Attributes:
        latencies: of the measured part.
        decisions: of the measured part.
        admitted: of the measured part.
        admitted_in_all: from the first request on.
        late: requests that were due and not sent when the run ended.
    """

    def __init__(self, clock: Clock, rate: float | None) -> None:
        self._now = clock.now_ns
        self._rate = rate
        self._lines: list[_Line] = []
        self._idle: deque[_Line] = deque()
        self._due: deque[int] = deque()
        self._failure: Exception | None = None
        self._ended = asyncio.Event()
        self._running = True
        self.latencies = Latencies()
        self.decisions = 0
        self.admitted = 0
        self.admitted_in_all = 0
        self.late = 0

    async def connect(self, host: str, port: int, talks: Sequence[Talk]) -> None:
        """Open a connection for each talk."""
        loop = asyncio.get_running_loop()
        for talk in talks:
            try:
                _, line = await loop.create_connection(lambda t=talk: _Line(self, t), host, port)  # type: ignore[misc]
            except OSError as error:
                message = (
                    f"{host}:{port} does not accept connections ({error}); is the service running?"
                )
                raise Unreachable(message) from error
            self._lines.append(line)

    async def run(
        self,
        warm_up: float,
        seconds: float,
        meter: CpuMeter,
        result: LoadResult,
        progress: Callable[[float], None],
    ) -> None:
        """Drive, and fill in the result."""
        first = self._now()
        self._begin()
        await self._pass(warm_up, lambda _: None)
        self.latencies = Latencies()
        self.decisions = self.admitted = 0
        meter.start()
        began = self._now()
        await self._pass(seconds, progress)
        result.seconds = (self._now() - began) / _NS
        meter.stop(result, result.seconds)
        await self._end()
        result.span = (self._now() - first) / _NS
        result.take(self)

    def answered(self, line: _Line, began: int, decisions: int, admitted: int) -> None:
        """Count an answer, and let the connection go on."""
        self.latencies.add(self._now() - began, decisions)
        self.decisions += decisions
        self.admitted += admitted
        self.admitted_in_all += admitted
        if not self._running:
            return
        if self._rate is None:
            line.send(self._now())
        elif self._due:
            line.send(self._due.popleft())
        else:
            self._idle.append(line)

    def failed(self, error: Exception) -> None:
        """End the run: its figures would be worth nothing."""
        if self._running and self._failure is None:
            self._failure = error
            self._ended.set()

    def _begin(self) -> None:
        now = self._now()
        if self._rate is None:
            for line in self._lines:
                line.send(now)
            return
        self._idle.extend(self._lines)
        asyncio.get_running_loop().call_soon(self._tick, now, 0)

    def _tick(self, began: int, sent: int) -> None:
        """Send what has come due; what finds no free connection waits, and its latency runs."""
        if not self._running or self._rate is None:
            return
        wanted = int((self._now() - began) * self._rate / _NS)
        for number in range(sent, wanted):
            due = began + int(number * _NS / self._rate)
            if self._idle:
                self._idle.popleft().send(due)
            else:
                self._due.append(due)
        asyncio.get_running_loop().call_later(_TICK, self._tick, began, max(sent, wanted))

    async def _pass(self, seconds: float, progress: Callable[[float], None]) -> None:
        """Let the time pass, and tell of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (passed := loop.time() - began) < seconds and self._failure is None:
            progress(passed)
            try:
                async with asyncio.timeout(min(0.1, seconds - passed)):
                    await self._ended.wait()
            except TimeoutError:
                continue
        progress(seconds)

    async def _end(self) -> None:
        self._running = False
        self.late = len(self._due)
        for line in self._lines:
            line.close()
        await asyncio.gather(*(line.closed for line in self._lines))
        if self._failure is not None:
            raise self._failure


class _Line(asyncio.Protocol):
    """One connection: a request out, its answer in, and so on."""

    def __init__(self, drive: Drive, talk: Talk) -> None:
        self._drive = drive
        self._talk = talk
        self._began = 0
        self._transport: asyncio.Transport
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, due: int) -> None:
        """Send the next request, which was due then."""
        self._began = due
        self._transport.write(self._talk.ask())

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._talk.hear(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is over and says so
            self._drive.failed(error)
            return
        if answer is not None:
            self._drive.answered(self, self._began, *answer)

    def connection_lost(self, exc: Exception | None) -> None:
        message = "the service closed a connection amid the run; its log or its limits may say why"
        self._drive.failed(Unreachable(message))
        if not self.closed.done():
            self.closed.set_result(None)
