"""Real etcds for tests: one, or several that are a cluster, each to be killed, paused and started again."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.servers import HOST, free_port, require_program, stop
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Loopback is quick: with these an election takes a quarter of a second, and a lease may be of one second.
CERTIFICATE = Path(__file__).parent / "tls" / "certificate.pem"
KEY = Path(__file__).parent / "tls" / "key.pem"
_QUICK = ("--heartbeat-interval", "50", "--election-timeout", "250", "--log-level", "error")


class Etcd:
    """One member.

    Attributes:
        port: that clients connect to.
        process: its process, when it runs.
    """

    def __init__(self, directory: Path, name: str, options: Sequence[str], scheme: str) -> None:
        self.directory = directory
        self.name = name
        self.port, self.peer_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"{scheme}://{HOST}:{self.port}"
        self._options = options
        self._tls = client_tls() if scheme == "https" else None

    @property
    def peer(self) -> str:
        return f"{self.name}=http://{HOST}:{self.peer_port}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self, members: Sequence[Etcd]) -> None:
        program = require_program("etcd")
        self.directory.mkdir(parents=True, exist_ok=True)
        peer_url = f"http://{HOST}:{self.peer_port}"
        command = [
            *(str(program), "--name", self.name, "--data-dir", str(self.directory / "data")),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", ",".join(member.peer for member in members)),
            *_QUICK,
            *self._options,
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As ``kill -9`` does; what it had on disk is still there."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """It is there and does nothing: connections are accepted by the kernel, and hang."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.resume()
            stop(self.process)

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask its gateway, as nobody in particular."""
        request = urllib.request.Request(
            f"{self.url}/v3/{path}", json.dumps(body).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=2, context=self._tls) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise

    def leads(self) -> bool:
        """Whether it is the leader of its cluster."""
        found = self.ask("maintenance/status", {})
        return found.get("leader") == found["header"]["member_id"]


class EtcdCluster:
    """Members that hold an election."""

    def __init__(
        self, directory: Path, members: int, options: Sequence[str], scheme: str = "http"
    ) -> None:
        names = [f"etcd{number}" for number in range(members)]
        self.members = [Etcd(directory / name, name, options, scheme) for name in names]

    @property
    def endpoints(self) -> str:
        return ",".join(member.url for member in self.members)

    @property
    def url(self) -> str:
        return self.members[0].url

    def start(self) -> None:
        for member in self.members:
            member.start(self.members)

    def wait_until_it_answers(self) -> None:
        eventually(self._answers)

    def leader(self) -> Etcd:
        """The member that leads, once there is one."""
        found: list[Etcd] = []

        def look() -> bool:
            with contextlib.suppress(OSError):
                found[:] = [one for one in self.members if _runs(one) and one.leads()]
            return len(found) == 1

        eventually(look)
        return found[0]

    def others(self, than: Etcd) -> list[Etcd]:
        return [member for member in self.members if member is not than]

    def compact(self) -> None:
        """Forget all history up to now."""
        running = next(member for member in self.members if _runs(member))
        now = running.ask("kv/range", {"key": "Lw=="})["header"]["revision"]
        # It refuses when nothing has happened since the last time.
        with contextlib.suppress(urllib.error.HTTPError):
            running.ask("kv/compaction", {"revision": now, "physical": True})

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def _answers(self) -> bool:
        for member in self.members:
            assert member.process is not None
            assert member.process.poll() is None, member.log
        try:
            for member in self.members:
                member.ask("kv/range", {"key": "Lw=="})
        except (OSError, urllib.error.HTTPError):
            return False
        return True


def _runs(member: Etcd) -> bool:
    return member.process is not None and member.process.poll() is None


def client_tls() -> ssl.SSLContext:
    """For a client of `tls_etcd`: shows the certificate that all have here, which is its own authority."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


@contextlib.contextmanager
def guarded_etcd(
    directory: Path, user: str = "", password: str = "", *, client_certificate: bool = False
) -> Iterator[EtcdCluster]:
    """An etcd that speaks TLS only, perhaps to who shows a certificate, perhaps to who has a password.

    The user may read and write below ``/headgate/``, and nothing else.
    """
    options = ["--cert-file", str(CERTIFICATE), "--key-file", str(KEY)]
    if client_certificate:
        options += ["--client-cert-auth", "--trusted-ca-file", str(CERTIFICATE)]
    cluster = EtcdCluster(directory, 1, options, "https")
    cluster.start()
    try:
        cluster.wait_until_it_answers()
        if user:
            _add_users(cluster.members[0], user, password)
        yield cluster
    finally:
        cluster.stop()


def _add_users(member: Etcd, user: str, password: str) -> None:
    ask = member.ask
    ask("auth/user/add", {"name": "root", "password": "root"})
    ask("auth/user/grant", {"user": "root", "role": "root"})
    ask("auth/user/add", {"name": user, "password": password})
    ask("auth/role/add", {"name": "headgate"})
    below = {
        "permType": "READWRITE",
        "key": _encoded("/headgate/"),
        "range_end": _encoded("/headgate0"),
    }
    ask("auth/role/grant", {"name": "headgate", "perm": below})
    ask("auth/user/grant", {"user": user, "role": "headgate"})
    ask("auth/enable", {})


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


@contextlib.contextmanager
def etcd_cluster(directory: Path, *options: str, members: int = 3) -> Iterator[EtcdCluster]:
    """So many members that answer."""
    cluster = EtcdCluster(directory, members, options)
    cluster.start()
    try:
        cluster.wait_until_it_answers()
        yield cluster
    finally:
        cluster.stop()
