"""What the supervisor and its workers say to each other: small documents over a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

if TYPE_CHECKING:
    import socket
    from typing import Self

__all__ = ["Line", "read_frame", "write_frame"]

_LENGTH: Final = 4
_MAX_BYTES: Final = 64 * 1024 * 1024
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def write_frame(end: socket.socket, document: dict[str, Any]) -> None:
    """Send one document on a socket that blocks."""
    end.sendall(_framed(document))


def read_frame(end: socket.socket) -> dict[str, Any]:
    """The next document from a socket that blocks.

    Raises:
        EOFError: the other side is gone.
    """
    length = int.from_bytes(_exactly(end, _LENGTH), "big")
    return _document(_exactly(end, length))


@final
class Line:
    """One end, on an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The line over one of a pair of sockets."""
        end.settimeout(0)
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def receive(self) -> dict[str, Any] | None:
        """The next document; None when the other side is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            return _document(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def send(self, document: dict[str, Any]) -> None:
        """Send a document, soon; to nobody if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(_framed(document))

    async def flush(self) -> None:
        """Return when all was handed over, or the other side is gone."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


def _framed(document: dict[str, Any]) -> bytes:
    payload = _encode(document)
    return len(payload).to_bytes(_LENGTH, "big") + payload


def _document(payload: bytes) -> dict[str, Any]:
    return _decode(payload, type=dict[str, Any])


def _exactly(end: socket.socket, count: int) -> bytes:
    if count > _MAX_BYTES:
        raise EOFError
    parts = bytearray()
    while len(parts) < count:
        piece = end.recv(count - len(parts))
        if not piece:
            raise EOFError
        parts += piece
    return bytes(parts)
