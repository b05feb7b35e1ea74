"""The last configuration that was seen, in a file: what a node starts with while etcd or Redis is away.

JSON, readable by its owner alone, for hashes of tokens are in it. A file that cannot be used is logged and
ignored; so is one of another cluster, for its limits are somebody else's.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, final

from headgate.engine.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Folders", "LastKnown"]

_log = logging.getLogger("headgate.coordination")
_FORMAT: Final = 1
_MAX_BYTES: Final = 256 * 1024**2

Folders = dict[str, dict[str, Record]]
"""Folder -> name -> record."""


@final
class LastKnown:
    """One file.

    Args:
        path: of the file; None to keep none.
        cluster: whose configuration it is.
    """

    def __init__(self, path: Path | None, cluster: str) -> None:
        self._path = path
        self._cluster = cluster
        self._written = b""

    def read(self) -> Folders | None:
        """What the file says; None when there is none that can be used."""
        if self._path is None:
            return None
        try:
            content = self._content(self._path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.warning(
                "the last known configuration %s cannot be used: %r; it is ignored",
                self._path,
                error,
            )
            return None
        return content

    def write(self, folders: Folders) -> None:
        """Put it in the place of what was there, in one step; a failure is logged, and no reason to stop."""
        if self._path is None:
            return
        content = json.dumps(_packed(folders), separators=(",", ":")).encode("ascii")
        digest = sha256(content).digest()
        if digest == self._written:
            return
        head = {"format": _FORMAT, "cluster": self._cluster, "sha256": digest.hex()}
        try:
            _replace(self._path, json.dumps(head).encode("ascii") + b"\n" + content + b"\n")
        except OSError as error:
            _log.warning("the last known configuration could not be kept: %s", error)
        else:
            self._written = digest

    def _content(self, path: Path) -> Folders:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        head_line, _, content = path.read_bytes().rstrip(b"\n").partition(b"\n")
        head = json.loads(head_line)
        if head["format"] != _FORMAT:
            raise ValueError("it is of another format")
        if head["cluster"] != self._cluster:
            raise ValueError(f"it is of the cluster {head['cluster']!a}")
        if head["sha256"] != sha256(content).hexdigest():
            raise ValueError("it is damaged")
        return _unpacked(json.loads(content))


def _packed(folders: Folders) -> dict[str, Any]:
    return {
        folder: {name: [one.text, one.revision] for name, one in sorted(records.items())}
        for folder, records in sorted(folders.items())
    }


def _unpacked(content: Mapping[str, Mapping[str, Sequence[Any]]]) -> Folders:
    return {
        folder: {name: Record(name, str(text), int(at)) for name, (text, at) in records.items()}
        for folder, records in content.items()
    }


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - the handle carries the permissions
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
