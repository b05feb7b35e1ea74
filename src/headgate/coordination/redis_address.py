"""Where a Redis or Valkey is, read from an address. A password is never shown.

=========================  ======================================================================
``redis://``               one server: ``redis://user:password@host:6379/0``
``rediss://``              the same, and speaks TLS
``unix://``                one server on this machine: ``unix:///run/valkey.sock?db=0``
``redis+sentinel://``      the primary that Sentinels name: ``redis+sentinel://h1:26379,h2:26379/service/0``
``redis+cluster://``       a cluster, found by any of its nodes: ``redis+cluster://h1:6379,h2:6379``
``rediss+sentinel://``     the last two with TLS, ``rediss+cluster://`` likewise
=========================  ======================================================================

``valkey`` may stand for ``redis`` everywhere. Options follow a question mark: see `OPTIONS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["CLUSTER", "OPTIONS", "SENTINEL", "SINGLE", "UNIX", "RedisAddress", "is_address"]

SINGLE: Final = "single"
UNIX: Final = "unix"
SENTINEL: Final = "sentinel"
CLUSTER: Final = "cluster"

OPTIONS: Final = {
    "db": "number of the database; Sentinel and single servers only",
    "ssl_ca_certs": "file of the authorities that the server's certificate may come from, in PEM",
    "ssl_certfile": "file of the certificate to show to the server, in PEM",
    "ssl_keyfile": "file of its private key",
    "ssl_check_hostname": "false: a certificate of those authorities will do whatever name is in it",
    "sentinel_username": "whom to log in as at the Sentinels",
    "sentinel_password": "of that user, or of the Sentinels",
}
"""What may follow the question mark. Values in it are percent-encoded, like user and password."""

_KINDS: Final = {
    "redis": SINGLE,
    "unix": UNIX,
    "redis+unix": UNIX,
    "redis+sentinel": SENTINEL,
    "redis+cluster": CLUSTER,
}
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)?(?::([0-9]{1,5}))?")
_FORMS: Final = (
    "redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, rediss+sentinel:// or "
    "rediss+cluster://"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is, and how to be let in.

    Attributes:
        kind: `SINGLE`, `UNIX`, `SENTINEL` or `CLUSTER`.
        hosts: of the server, or of the Sentinels, or of nodes of the cluster.
        path: of a Unix socket.
        service: that the Sentinels know the primary by.
        db: number of the database.
        username: to log in as; "" for the default user.
        password: of that user; "" for none.
        sentinel_username: likewise, for the Sentinels.
        sentinel_password: likewise.
        tls: whether TLS is spoken.
        tls_options: for the driver.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: bool = False
    tls_options: dict[str, str | bool] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """For people: without users and passwords."""
        if self.kind == UNIX:
            return f"unix://{self.path}"
        scheme = "rediss" if self.tls else "redis"
        plus = "" if self.kind == SINGLE else f"+{self.kind}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}{plus}://{hosts}{service}"

    @classmethod
    def read(cls, text: str, ca: Path | None = None) -> RedisAddress:
        """Read an address; ``ca`` is what ``ssl_ca_certs`` is when the address has none.

        Raises:
            InvalidInput: it cannot be read, in words that hold nothing secret.
        """
        scheme, kind, tls = _scheme(text)
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise _unreadable(scheme, "brackets stand around an IPv6 address") from error
        options = _options(scheme, parts)
        userinfo, _, places = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        hosts = () if kind == UNIX else _hosts(scheme, kind, places)
        service, db = _path(scheme, kind, unquote(parts.path), options)
        return cls(
            kind,
            hosts,
            unquote(parts.path) if kind == UNIX else "",
            service,
            db,
            unquote(user),
            unquote(password),
            options.get("sentinel_username", ""),
            options.get("sentinel_password", ""),
            tls,
            _tls_options(scheme, options, ca, tls=tls, kind=kind),
        )


def is_address(text: str) -> bool:
    """Whether it begins as an address does."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and _parts_of(scheme)[0] in _KINDS


def _parts_of(scheme: str) -> tuple[str, bool]:
    """The scheme as it stands in the table, and whether TLS is spoken."""
    base, plus, rest = scheme.lower().partition("+")
    tls = base in ("rediss", "valkeys")
    if base in ("rediss", "valkey", "valkeys"):
        base = "redis"
    return base + plus + rest, tls


def _scheme(text: str) -> tuple[str, str, bool]:
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise InvalidInput(
            f"the address of a Redis begins with {_FORMS}, and what was given has no '://'"
        )
    name, tls = _parts_of(scheme)
    if name not in _KINDS or (tls and _KINDS[name] == UNIX):
        raise InvalidInput(f"the address of a Redis begins with {_FORMS}, got {scheme[:40]!r}://")
    return scheme, _KINDS[name], tls


def _unreadable(scheme: str, why: str) -> InvalidInput:
    return InvalidInput(f"the address {scheme}://... of a Redis cannot be read: {why}")


def _options(scheme: str, parts: SplitResult) -> dict[str, str]:
    if parts.fragment:
        raise _unreadable(scheme, "a # in a user or a password is written %23")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - OPTIONS.keys())
    if unknown:
        raise _unreadable(
            scheme, f"{unknown[0][:40]!r} is none of its options, which are {', '.join(OPTIONS)}"
        )
    return options


def _hosts(scheme: str, kind: str, places: str) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for place in places.split(","):
        match = _HOST.fullmatch(place)
        if match is None or int(match[2] or 0) > 65535:
            raise _unreadable(
                scheme,
                f"{len(found) + 1}. place: it takes host:port, an IPv6 address in brackets, and in a user or "
                "a password %40 for @, %3A for :, %2F for / and %3F for ?",
            )
        default = _SENTINEL_PORT if kind == SENTINEL else _PORT
        found.append(((match[1] or "localhost").strip("[]"), int(match[2] or default)))
    if kind == SINGLE and len(found) > 1:
        raise _unreadable(
            scheme,
            "one server has one place; several are for redis+sentinel:// and redis+cluster://",
        )
    return tuple(found)


def _path(scheme: str, kind: str, path: str, options: dict[str, str]) -> tuple[str, int]:
    """The service and the number of the database."""
    service, database = "", path.strip("/")
    if kind == UNIX:
        if not path.strip("/"):
            raise _unreadable(scheme, "the path of the socket is missing, as in unix:///run/x.sock")
        database = ""
    elif kind == SENTINEL:
        service, _, database = database.partition("/")
        if not service:
            raise _unreadable(scheme, "the name of the service is missing after the last host")
    database = options.get("db", database) or "0"
    if not re.fullmatch("[0-9]{1,6}", database):
        raise _unreadable(scheme, "the database is a number, as in redis://localhost:6379/0")
    if kind == CLUSTER and int(database):
        raise _unreadable(scheme, "a cluster has database 0 only")
    return service, int(database)


def _tls_options(
    scheme: str, options: dict[str, str], ca: Path | None, *, tls: bool, kind: str
) -> dict[str, str | bool]:
    given: dict[str, str | bool] = {name: options[name] for name in _FILES if options.get(name)}
    if ca is not None and kind != UNIX:
        given.setdefault("ssl_ca_certs", str(ca))
    for name, value in given.items():
        if not Path(str(value)).is_file():
            raise _unreadable(scheme, f"{name} is no file that can be read: {value}")
    check = options.get("ssl_check_hostname")
    if check is not None:
        if check.lower() not in ("true", "false"):
            raise _unreadable(scheme, "ssl_check_hostname is true or false")
        given["ssl_check_hostname"] = check.lower() == "true"
    if given and not tls:
        raise _unreadable(
            scheme,
            f"{min(given)} is set, and TLS is not spoken; begin with rediss instead of redis",
        )
    if tls:
        # The driver's own default has changed over its versions.
        given.setdefault("ssl_check_hostname", True)
    return given
