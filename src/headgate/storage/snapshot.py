"""The counters across a graceful restart: one file, written whole or not at all.

Layout: eight bytes ``HGSNAP`` and the format's number, the payload's length (8 bytes, big endian), the
SHA-256 of the payload, the payload (MessagePack). The checksum is against damage, not against people: who
can write the file can write any counters into it, so it belongs where only the service can write.

A file that cannot be used is logged and left alone. The service then starts with fresh counters: a
second allowance for some keys is better than no service.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_BYTES", "load_snapshot", "save_snapshot"]

MAX_BYTES: Final = 4 * 1024**3
"""A file above this is not read: about 50 million keys."""
_FORMAT: Final = 1
_MAGIC: Final = b"HGSNAP"
_HEADER: Final = len(_MAGIC) + 2 + 8 + 32

_log = logging.getLogger("headgate.storage")


def save_snapshot(path: str | os.PathLike[str], content: Mapping[str, Any]) -> int:
    """Write the snapshot and return its size in bytes; the old file stays if that fails.

    Raises:
        StoreUnavailable: it could not be written, or holds what MessagePack cannot say.
    """
    import msgspec  # noqa: PLC0415 - 40 ms, for who keeps snapshots

    target = Path(path)
    try:
        payload = msgspec.msgpack.encode(content)
        _replace(target, _header(payload), payload)
    except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
        message = (
            f"the snapshot {target} could not be written: {error}; check its directory and its disk, "
            "or the counters start afresh after the restart"
        )
        raise StoreUnavailable(message) from error
    return _HEADER + len(payload)


def load_snapshot(
    path: str | os.PathLike[str], max_bytes: int = MAX_BYTES
) -> dict[str, Any] | None:
    """The content of a snapshot; None, with a line in the log, when there is none that can be used."""
    try:
        content = _decode(_read(Path(path), max_bytes))
    except FileNotFoundError:
        _log.info("there is no snapshot %s; the counters start afresh", path)
        return None
    except (OSError, _UnusableError) as error:
        _log.warning("the snapshot %s cannot be used: %s; the counters start afresh", path, error)
        return None
    _log.info("the snapshot %s was read", path)
    return content


class _UnusableError(Exception):
    """Why a snapshot cannot be used."""


def _header(payload: bytes) -> bytes:
    format_number = _FORMAT.to_bytes(2, "big")
    return _MAGIC + format_number + len(payload).to_bytes(8, "big") + sha256(payload).digest()


def _replace(target: Path, header: bytes, payload: bytes) -> None:
    """Put a new file in the target's place in one step that survives a loss of power."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - the handle carries the permissions
            file.write(header)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make the rename durable; Windows neither can nor needs to."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(path: Path, max_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a pipe that somebody put there would wait for ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:  # noqa: PTH123 - opened above
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            message = "it is not a regular file"
            raise _UnusableError(message)
        if status.st_size > max_bytes:
            message = f"it has {status.st_size} bytes, and at most {max_bytes} are read"
            raise _UnusableError(message)
        return file.read(max_bytes + 1)


def _decode(raw: bytes) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - 40 ms, for who keeps snapshots

    payload = _payload(raw)
    try:
        content = msgspec.msgpack.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        message = f"its content is not what was expected ({error})"
        raise _UnusableError(message) from error
    return content


def _payload(raw: bytes) -> memoryview:
    if len(raw) < _HEADER or not raw.startswith(_MAGIC):
        message = "it is not a snapshot of Headgate's, or it was cut off"
        raise _UnusableError(message)
    written = int.from_bytes(raw[6:8], "big")
    if written != _FORMAT:
        message = f"it has format {written} and this Headgate reads {_FORMAT}"
        raise _UnusableError(message)
    payload = memoryview(raw)[_HEADER:]
    if len(payload) != int.from_bytes(raw[8:16], "big"):
        message = "it was cut off, or something was added to it"
        raise _UnusableError(message)
    if sha256(payload).digest() != raw[16:_HEADER]:
        message = "its checksum does not match its content"
        raise _UnusableError(message)
    return payload
