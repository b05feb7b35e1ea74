"""The command line as a program, and the service that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0
HEADGATE = (sys.executable, "-m", "headgate")


@dataclass(frozen=True)
class ServiceProcess:
    """``headgate serve``, running."""

    server: servers.Server
    resp_port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def environment(self) -> dict[str, str]:
        """What makes commands speak to this service."""
        return {
            "HEADGATE_URL": self.url,
            "HEADGATE_DATA_DIR": str(self.data_dir),
            "HEADGATE_RESP_PORT": str(self.resp_port),
        }

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return headgate(*arguments, environment=self.environment, **options)


def headgate(
    *arguments: str, environment: dict[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*HEADGATE, *arguments],
        env=clean_environment() | (environment or {}),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """This process's, without what would configure the command."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HEADGATE_") and name != "COLUMNS"
    }


@contextlib.contextmanager
def serving(directory: Path, *options: str, **environment: str) -> Iterator[ServiceProcess]:
    """A service in a process of its own until the block ends; ``options`` are those of serve."""
    port, resp_port = servers.free_port(), servers.free_port()
    data_dir = directory / "data"
    command = [*HEADGATE, "serve", "--port", str(port), "--resp-port", str(resp_port)]
    command += ["--data-dir", str(data_dir), *options]
    # Unless a test wants it so, a crowded machine must not decide what it sees.
    environment = {"HEADGATE_BACKPRESSURE": "off", **environment}
    with servers.running(
        command, port=port, directory=directory, environment=environment
    ) as server:
        # REST is bound before it is served; RESP comes last.
        servers.wait_until_open(servers.Server(resp_port, server.process, directory))
        yield ServiceProcess(server, resp_port, data_dir)
