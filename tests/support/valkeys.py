"""Valkeys that bad things happen to: killed, paused, restarted; with a replica and Sentinels; as a cluster.

All on free ports of loopback, in directories of their own. `tests.support.servers.redis_server` is the plain
one that tests share.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.servers import HOST, free_port, require_program, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.servers import Server

TLS = Path(__file__).parent / "tls"
SERVICE = "main"
SLOTS = 16_384
WAIT_SECONDS = 20.0


def wait_until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Return when it is true; a connection that fails on the way counts as not yet."""
    import redis

    end = time.monotonic() + seconds  # noqa: TID251 - real processes take real time
    while True:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            if condition():
                return
        if time.monotonic() > end:  # noqa: TID251 - likewise
            pytest.fail(f"{condition} is not true after {seconds} s", pytrace=False)
        time.sleep(0.01)  # noqa: TID251 - likewise


class Valkey:
    """One server, which keeps its port and directory when it is started again.

    Args:
        directory: of its own.
        options: as on its command line.
        config: a file that it reads, and may write, first.
    """

    def __init__(self, directory: Path, *options: str, config: Path | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self._options = options
        self._config = config
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._paused = False

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.process.pid

    def start(self) -> None:
        program = require_program("valkey-server", "redis-server")
        command = [str(program), *([str(self._config)] if self._config else [])]
        if self._config is None:
            command += ["--save", "", "--appendonly", "no"]
        command += ["--bind", HOST, "--port", str(self.port), *self._options]
        self._server = self._stack.enter_context(
            running(command, port=self.port, directory=self.directory)
        )

    def kill(self) -> None:
        """As ``kill -9`` does."""
        assert self._server is not None
        self._server.process.kill()
        self._server.process.wait()
        self._paused = False
        self.stop()

    def stop(self) -> None:
        if self._paused:
            self.resume()
        self._stack.close()

    def restart(self) -> None:
        """Empty, as it keeps nothing on disk."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """It is there and does nothing: connections are accepted by the kernel, and hang."""
        assert self._server is not None
        self._server.process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        assert self._server is not None
        self._server.process.send_signal(signal.SIGCONT)
        self._paused = False

    def command(self, *words: object) -> Any:
        """Run one command on it."""
        import redis

        with redis.Redis(
            host=HOST, port=self.port, decode_responses=True, socket_timeout=5
        ) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def info(self, section: str) -> dict[str, Any]:
        return dict(self.command("INFO", section))


@contextlib.contextmanager
def valkey(directory: Path, *options: str) -> Iterator[Valkey]:
    """A server to do bad things to."""
    server = Valkey(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class SentinelGroup:
    """A primary, a replica, and Sentinels that watch over them.

    Attributes:
        nodes: the primary of the start, and its replica.
        sentinels: who decide which of them is the primary.
    """

    def __init__(self, directory: Path, sentinels: int, options: tuple[str, ...]) -> None:
        self.nodes = [
            Valkey(directory / f"node{number}", "--repl-diskless-sync-delay", "0", *options)
            for number in range(2)
        ]
        self.sentinels = [
            Valkey(
                directory / f"sentinel{number}",
                "--sentinel",
                config=self._configure(directory / f"sentinel{number}", sentinels // 2 + 1),
            )
            for number in range(sentinels)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def primary(self) -> Valkey:
        """As the Sentinels see it."""
        port = self.primary_port()
        return next(node for node in self.nodes if node.port == port)

    def primary_port(self) -> int:
        answer = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(answer[1])

    def start(self) -> None:
        first, second = self.nodes
        first.start()
        second.start()
        second.command("REPLICAOF", HOST, str(first.port))
        wait_until(lambda: second.info("replication")["master_link_status"] == "up")
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            wait_until(lambda sentinel=sentinel: self._knows_all(sentinel))

    def stop(self) -> None:
        for server in [*self.sentinels, *self.nodes]:
            server.stop()

    def fail_over(self) -> None:
        """Have the replica take over in good order, and wait until it has."""
        before = self.primary_port()
        # Refused until the Sentinel has seen the replica long enough.
        wait_until(lambda: self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE))
        self.wait_for_other_than(before)

    def wait_for_other_than(self, port: int) -> None:
        """Wait until another node than the one on this port is the primary."""

        def changed() -> bool:
            now = self.primary_port()
            return now != port and self.primary.info("replication")["role"] == "master"

        wait_until(changed)

    def _knows_all(self, sentinel: Valkey) -> bool:
        words = sentinel.command("SENTINEL", "MASTER", SERVICE)
        known = (
            words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
        )
        others = len(self.sentinels) - 1
        return int(known["num-slaves"]) == 1 and int(known["num-other-sentinels"]) == others

    def _configure(self, directory: Path, quorum: int) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {SERVICE} {HOST} {self.nodes[0].port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 300\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        return config


@contextlib.contextmanager
def sentinel_group(directory: Path, *options: str, sentinels: int = 1) -> Iterator[SentinelGroup]:
    """A primary and a replica with so many Sentinels; ``options`` are for the two."""
    group = SentinelGroup(directory, sentinels, options)
    try:
        group.start()
        yield group
    finally:
        group.stop()


class Cluster:
    """Primaries that have the slots among them.

    Attributes:
        nodes: each with an equal share, in order.
    """

    def __init__(self, directory: Path, nodes: int, options: tuple[str, ...]) -> None:
        self.nodes = [
            Valkey(
                directory / f"node{number}",
                *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
                *("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"),
                *("--cluster-port", str(free_port())),
                *options,
            )
            for number in range(nodes)
        ]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        count = len(self.nodes)
        for number, node in enumerate(self.nodes):
            first, end = SLOTS * number // count, SLOTS * (number + 1) // count
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
        for node in self.nodes[1:]:
            options = node._options
            bus = options[options.index("--cluster-port") + 1]
            self.nodes[0].command("CLUSTER", "MEET", HOST, str(node.port), bus)
        for node in self.nodes:
            wait_until(lambda node=node: self._is_whole(node))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def slot_of(self, key: str) -> int:
        return int(self.nodes[0].command("CLUSTER", "KEYSLOT", key))

    def node_of(self, key: str) -> Valkey:
        """Where the key was when the cluster began."""
        slot, count = self.slot_of(key), len(self.nodes)
        return next(
            node
            for number, node in enumerate(self.nodes)
            if SLOTS * number // count <= slot < SLOTS * (number + 1) // count
        )

    def id_of(self, node: Valkey) -> str:
        return str(node.command("CLUSTER", "MYID"))

    def begin_move(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Open the slot for moving: the source answers ASK for keys that it no longer has."""
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Valkey, target: Valkey) -> int:
        """Move the keys that the slot has; how many."""
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, "1000")
        for key in keys:
            source.command("MIGRATE", HOST, target.port, key, "0", "5000")
        return len(keys)

    def end_move(self, slot: int, target: Valkey) -> None:
        """The slot is the target's: the others answer MOVED."""
        for node in [target, *(node for node in self.nodes if node is not target)]:
            node.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def _is_whole(self, node: Valkey) -> bool:
        said = node.command("CLUSTER", "INFO")
        info = (
            said
            if isinstance(said, dict)
            else dict(line.split(":", 1) for line in said.split("\r\n") if ":" in line)
        )
        return (
            info["cluster_state"] == "ok"
            and int(info["cluster_slots_assigned"]) == SLOTS
            and int(info["cluster_known_nodes"]) == len(self.nodes)
        )


@contextlib.contextmanager
def valkey_cluster(directory: Path, *options: str, nodes: int = 3) -> Iterator[Cluster]:
    """So many primaries, no replicas; a slot whose node is gone is the only one that is refused."""
    cluster = Cluster(directory, nodes, options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def server_tls(*, client_certificate: bool = False) -> ssl.SSLContext:
    """For a server on loopback that shows ``tests/support/tls/certificate.pem``, which is its own authority.

    With ``client_certificate`` clients must show one of the same authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(TLS / "certificate.pem")
    return context


@contextlib.contextmanager
def tls_valkey(directory: Path, *, client_certificate: bool = False) -> Iterator[FaultProxy]:
    """A Valkey behind a proxy that speaks TLS: the wheel's own build does not."""
    tls = server_tls(client_certificate=client_certificate)
    with valkey(directory) as server, fault_proxy(server.port, tls=tls) as proxy:
        yield proxy
