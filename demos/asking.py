"""What the demonstrations ask with: requests at a fixed rate to every node, and a note of each answer."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HOST = "127.0.0.1"
_TICK = 0.005


@dataclass(frozen=True)
class Answer:
    """One request as its caller saw it."""

    at: float  # seconds from the beginning of the demonstration, when it was answered
    node: int
    policy: str
    allowed: bool
    degraded: bool
    waited: float  # seconds


class Connection:
    """One HTTP connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def check(self, policy: str) -> dict[str, Any]:
        # Each policy of a demonstration is counted by a dimension that is named like it.
        body = json.dumps({"key": "everybody", "metadata": {policy: "everybody"}}).encode()
        head = (
            f"POST /api/v1/check HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        fields = await self.reader.readuntil(b"\r\n\r\n")
        length = int(fields.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        document: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        return document


class Asking:
    """Asks one node for one policy, so many times a second, whatever the answers are.

    Args:
        node: its place among the nodes.
        port: where it answers.
        policy: the name of the policy.
        rate: requests a second at a moment of the demonstration.
    """

    def __init__(self, node: int, port: int, policy: str, rate: Callable[[float], float]) -> None:
        self.node = node
        self.port = port
        self.policy = policy
        self.rate = rate
        self.answers: list[Answer] = []
        self.failures = 0
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, began: float, seconds: float) -> None:
        owed, last = 0.0, 0.0
        while (now := time.monotonic() - began) < seconds:
            owed += self.rate(now) * (now - last)
            last = now
            while owed >= 1:
                owed -= 1
                task = asyncio.create_task(self._ask(began))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK)
        await asyncio.gather(*self._tasks)
        for connection in self._idle:
            connection.writer.close()

    async def _ask(self, began: float) -> None:
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            asked = time.monotonic()
            document = await connection.check(self.policy)
        except (OSError, EOFError, ValueError):
            self.failures += 1
            return
        now = time.monotonic()
        self._idle.append(connection)
        degraded = bool(document.get("degraded", False))
        self.answers.append(
            Answer(
                now - began,
                self.node,
                self.policy,
                bool(document["allowed"]),
                degraded,
                now - asked,
            )
        )

    async def _connect(self) -> Connection:
        return Connection(*await asyncio.open_connection(HOST, self.port))


async def ask_all(
    askings: Sequence[Asking], seconds: float, tell: Callable[[float], None], every: float = 1.0
) -> None:
    """Ask everywhere at once, and tell how it goes now and then."""
    began = time.monotonic()

    async def telling() -> None:
        moment = every
        while moment <= seconds:
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            tell(moment)
            moment += every

    await asyncio.gather(telling(), *(asking.run(began, seconds) for asking in askings))


def per_second(
    answers: Sequence[Answer], seconds: float, bin_seconds: float
) -> tuple[list[float], list[float]]:
    """How many answers a second came in each stretch of time: the middles of the stretches, and the rates."""
    count = max(1, round(seconds / bin_seconds))
    found = [0] * count
    for answer in answers:
        place = int(answer.at / bin_seconds)
        if 0 <= place < count:
            found[place] += 1
    middles = [(place + 0.5) * bin_seconds for place in range(count)]
    return middles, [number / bin_seconds for number in found]


def between(answers: Sequence[Answer], begin: float, end: float) -> list[Answer]:
    """Those that were answered in this stretch of time."""
    return [answer for answer in answers if begin <= answer.at < end]
