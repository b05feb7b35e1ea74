"""How the service is configured: the command line, then ``HEADGATE_*`` variables, then these defaults.

Every field is also an environment variable: ``resp_port`` is ``HEADGATE_RESP_PORT``. Whatever cannot be
used is refused here, before anything is opened, with what is allowed and what was given.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

__all__ = ["ENVIRONMENT_PREFIX", "Settings"]

ENVIRONMENT_PREFIX: Final = "HEADGATE_"
_KIB: Final = 1024
_OFF: Final = ("0", "none", "off")
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")
_UNSET: Final = Path()


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a value is read from text; ``read`` raises ValueError for what is not ``what``."""

    what: str
    read: Callable[[str], object]


def _whole(low: int, high: int) -> _Kind:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return _Kind(f"a whole number from {low} to {high}", read)


def _number(unit: str, low: float, high: float) -> _Kind:
    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also refuses NaN
            raise ValueError
        return value

    return _Kind(f"{unit} from {low:g} to {high:g}", read)


def _seconds(low: float, high: float) -> _Kind:
    return _number("seconds", low, high)


def _choice(*choices: str) -> _Kind:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return _Kind(f"one of {', '.join(choices)}", read)


def _read_flag(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise ValueError
    return text.lower() in _YES


def _read_resp_port(text: str) -> int | None:
    if text.lower() in _OFF:
        return None
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def _read_text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError
    return text


def _read_path(text: str) -> Path:
    return Path(_read_text(text)).expanduser()


_NAMES: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _read_name(text: str) -> str:
    if not _NAMES.fullmatch(text):
        raise ValueError
    return text


_NAME: Final = _Kind("1 to 64 characters of A-Z a-z 0-9 . _ -", _read_name)
_FLAG: Final = _Kind("one of true, false, yes, no, on, off, 1, 0", _read_flag)
_RESP_PORT: Final = _Kind("a port from 1 to 65535, or off", _read_resp_port)
_TEXT: Final = _Kind("a text that is not empty", _read_text)
_PATH: Final = _Kind("a path", _read_path)


_KINDS: Final = {
    "host": _TEXT,
    "port": _whole(0, 65535),
    "resp_port": _RESP_PORT,
    "data_dir": _PATH,
    "database_url": _TEXT,
    "no_match": _choice("allow", "deny"),
    "max_keys": _whole(1_000, 1_000_000_000),
    "max_reservations": _whole(1, 100_000_000),
    "max_connections": _whole(1, 1_000_000),
    "max_check_bytes": _whole(1 * _KIB, 16 * _KIB * _KIB),
    "max_body_bytes": _whole(1 * _KIB, 256 * _KIB * _KIB),
    "max_key_bytes": _whole(16, 64 * _KIB),
    "max_header_bytes": _whole(1 * _KIB, 1024 * _KIB),
    "request_timeout": _seconds(0.05, 3600),
    "keep_alive_timeout": _seconds(0.05, 86_400),
    "drain_seconds": _seconds(0, 3600),
    "snapshot": _FLAG,
    "backpressure": _FLAG,
    "fast_lane": _FLAG,
    "top_keys": _whole(0, 1_000),
    "log_level": _choice("debug", "info", "warning", "error", "critical"),
    "tls_certificate": _PATH,
    "tls_key": _PATH,
    "redis_url": _TEXT,
    "redis_ca": _PATH,
    "etcd_endpoints": _TEXT,
    "etcd_user": _TEXT,
    "etcd_password": _TEXT,
    "etcd_ca": _PATH,
    "etcd_certificate": _PATH,
    "etcd_key": _PATH,
    "cluster": _NAME,
    "node": _NAME,
    "advertise": _TEXT,
    "consistency": _choice("auto", "strict", "leased", "local"),
    "store_deadline": _seconds(0.001, 10),
    "lease_seconds": _seconds(0.1, 3600),
    "lease_share": _number("a share", 0, 1),
    "workers": _whole(1, 1024),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one service.

    Attributes:
        host: the address to listen on. Beyond loopback the service wants API tokens.
        port: of REST; 0 for any free one.
        resp_port: of RESP; None to do without.
        data_dir: where records and snapshots are kept; ``$XDG_DATA_HOME/headgate`` unless set.
        database_url: of the store of records; SQLite in ``data_dir`` unless set.
        no_match: what a check gets that no policy applies to, ``allow`` or ``deny``.
        max_keys: keys whose state is kept at the same time.
        max_reservations: reservations that may be open at the same time.
        max_connections: HTTP connections that may be open at the same time.
        max_check_bytes: the longest body of one check.
        max_body_bytes: the longest body of any other request.
        max_key_bytes: the longest key, dimension name or dimension value.
        max_header_bytes: the longest head of a request; half of it for the address.
        request_timeout: seconds in which a request must have arrived, and an answer been taken.
        keep_alive_timeout: seconds after which an idle connection is closed.
        drain_seconds: seconds that requests in flight get to finish when the service stops.
        snapshot: whether counters live on across a graceful restart.
        backpressure: whether the service watches its own load, and holds back when it is too much.
        fast_lane: whether checks are answered ahead of ASGI; for comparison only.
        top_keys: how many of the most denied keys the metrics name; 0 to name none.
        log_level: of what is logged to standard error.
        tls_certificate: the certificate chain in PEM, to speak TLS.
        tls_key: its private key in PEM.
        redis_url: of the Redis or Valkey that keeps what nodes count together: ``redis://``, ``rediss://``
            (TLS), ``unix://``, ``redis+sentinel://host:port,host:port/service``, ``redis+cluster://``; user
            and password go into it. "" for a node on its own.
        redis_ca: the authorities that its certificate may come from, in PEM; the system's unless set.
        etcd_endpoints: of the etcd that keeps what nodes agree on, ``http(s)://host:port`` separated by
            commas; "" to agree by Redis.
        etcd_user: whom to log in as; "" for nobody.
        etcd_password: of that user.
        etcd_ca: the authorities that etcd's certificate may come from, in PEM.
        etcd_certificate: the certificate to show to etcd, in PEM.
        etcd_key: its private key.
        cluster: nodes of the same name count and agree together.
        node: the name of this node; made of the host's name and the port unless set.
        advertise: where the other nodes are told that this one's REST service is; host and port unless set.
        consistency: of policies that name none: ``auto`` is ``leased`` with a Redis, else ``local``.
        store_deadline: seconds that a request waits for the shared counters at most.
        lease_seconds: how long a lease lasts that is not renewed.
        lease_share: the share of a limit that all nodes together may hold unspent.
        workers: how many processes serve, as one node. Without ``redis_url`` they count together in a Valkey
            that the service starts for itself.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    resp_port: int | None = 6380
    data_dir: Path = _UNSET
    database_url: str = ""
    no_match: str = "allow"
    max_keys: int = 1_000_000
    max_reservations: int = 100_000
    max_connections: int = 10_000
    max_check_bytes: int = 64 * _KIB
    max_body_bytes: int = 1024 * _KIB
    max_key_bytes: int = 1 * _KIB
    max_header_bytes: int = 16 * _KIB
    request_timeout: float = 10.0
    keep_alive_timeout: float = 75.0
    drain_seconds: float = 10.0
    snapshot: bool = True
    backpressure: bool = True
    fast_lane: bool = True
    top_keys: int = 20
    log_level: str = "info"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    redis_url: str = ""
    redis_ca: Path | None = None
    etcd_endpoints: str = ""
    etcd_user: str = ""
    etcd_password: str = ""
    etcd_ca: Path | None = None
    etcd_certificate: Path | None = None
    etcd_key: Path | None = None
    cluster: str = "default"
    node: str = ""
    advertise: str = ""
    consistency: str = "auto"
    store_deadline: float = 0.02
    lease_seconds: float = 2.0
    lease_share: float = 0.05
    workers: int = 1

    def __post_init__(self) -> None:
        if self.data_dir == _UNSET:
            object.__setattr__(self, "data_dir", _default_data_dir(os.environ))
        if not self.database_url:
            url = f"sqlite:///{self.data_dir.absolute() / 'headgate.db'}"
            object.__setattr__(self, "database_url", url)
        if (self.tls_certificate is None) != (self.tls_key is None):
            message = (
                "tls_certificate and tls_key go together, and only one of them is set; "
                "set both to speak TLS, or neither"
            )
            raise ConfigurationError(message)

    @classmethod
    def load(cls, environ: Mapping[str, str], **options: object) -> Self:
        """Read the environment; an option that is not None goes before it.

        Raises:
            ConfigurationError: a value is not allowed.
        """
        values: dict[str, Any] = {}
        for name, kind in _KINDS.items():
            variable = ENVIRONMENT_PREFIX + name.upper()
            option = options.pop(name, None)
            if option is not None:
                source, value = f"--{name.replace('_', '-')}", str(option)
            elif environ.get(variable):  # empty is how compose files say "not set"
                source, value = variable, environ[variable]
            else:
                continue
            values[name] = _read(kind, source, value)
        if options:
            message = f"there is no setting {min(options)!r}"
            raise ConfigurationError(message)
        if "data_dir" not in values:
            values["data_dir"] = _default_data_dir(environ)
        return cls(**values)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the service."""
        from ipaddress import ip_address  # noqa: PLC0415 - only the service asks

        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def _read(kind: _Kind, source: str, value: str) -> object:
    try:
        return kind.read(value.strip())
    except ValueError:
        shown = ascii(value[:60]) if value else "nothing"
        message = f"{source} must be {kind.what}, got {shown}"
        raise ConfigurationError(message, setting=source) from None


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """The user's place for data, by the XDG rules."""
    base = environ.get("XDG_DATA_HOME", "")
    if base.startswith("/"):
        return Path(base) / "headgate"
    return Path("~/.local/share/headgate").expanduser()
