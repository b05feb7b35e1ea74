"""Starting the server of the live rig, and stopping it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ServerProcess", "server_process"]

_PATIENCE: Final = 5.0


@dataclass(frozen=True)
class ServerProcess:
    """One that runs and accepts connections on 127.0.0.1."""

    port: int
    pid: int


@contextlib.contextmanager
def server_process(
    what: str, *, core: int | None = None, seed: int = 1, **arguments: Any
) -> Iterator[ServerProcess]:
    """A server for the block's duration.

    Args:
        what: the import path of a protection's or an application's factory.
        core: that it is pinned to; anywhere when None.
        seed: of the randomness in it.
        arguments: of the factory; they must survive JSON.

    Raises:
        Unreachable: it did not start; its own words are on standard error.
    """
    settings = json.dumps({"what": what, "core": core, "seed": seed, "arguments": arguments})
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, and our own module
        [sys.executable, "-m", "headgate.lab.live.server", settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - as asked for above
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise Unreachable("the server of the live rig did not start; see what it said above")
        yield ServerProcess(int(line), process.pid)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; one that is burning processor time does not listen, and is killed."""
    process.terminate()
    try:
        process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
