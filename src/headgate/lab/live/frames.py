"""What the load and the server say to each other: frames of a fixed size, answered in any order."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from headgate.lab.workload import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANSWER", "ASK", "Ask", "Status", "frames", "pack_request", "request_of"]

# number, service (us), time that the caller gives it (us), cost, tier, ask, flow
ASK: Final = Struct("<IIIHBB16s")
# number, status, pressure in permille; then the value that was asked for
ANSWER: Final = Struct("<IHHQ")


class Ask(IntEnum):
    """What is wanted."""

    WORK = 0
    SPEED = 1
    """Set the speed to ``service`` permille."""
    PROCESSOR = 2
    """Processor time so far (ns)."""
    BURNT = 3
    """Processor time that was work (ns)."""
    REJECTIONS = 4
    """Requests refused so far."""


class Status(IntEnum):
    """What became of it."""

    DONE = 0
    REJECTED = 1
    FAILED = 2
    VALUE = 3
    """The answer to a question about the server."""


def pack_request(request: Request) -> bytes:
    """A request as it travels; flows longer than 16 bytes of UTF-8 are cut."""
    return ASK.pack(
        request.number,
        request.service_ns // 1000,
        max(0, request.deadline - request.arrived) // 1000,
        request.cost,
        request.tier,
        Ask.WORK,
        request.flow.encode(),
    )


def request_of(fields: tuple[Any, ...], now: int) -> Request:
    """The request that arrived now."""
    number, service_us, budget_us, cost, tier, _, flow = fields
    name = flow.rstrip(b"\0").decode(errors="replace")
    return Request(number, now, now + budget_us * 1000, service_us * 1000, tier, name, cost)


def frames(buffer: bytearray, shape: Struct) -> Iterator[tuple[Any, ...]]:
    """Take the complete frames off the buffer's front."""
    whole = len(buffer) // shape.size * shape.size
    if whole:
        data = bytes(buffer[:whole])
        del buffer[:whole]
        yield from shape.iter_unpack(data)
