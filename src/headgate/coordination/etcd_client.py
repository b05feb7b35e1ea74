"""A small client for etcd's JSON gateway, over httpx: what agreement needs and nothing else.

Every answer comes from one of the endpoints within the deadline, or `StoreUnavailable` says why not. The one
that answered last is asked first; one that fails is left for the next. https://etcd.io/docs/v3.4/dev-guide/
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from headgate.errors import ConfigurationError, StoreUnavailable, TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["EtcdAccess", "EtcdClient", "decode", "encode", "number", "prefix_end"]

_log = logging.getLogger("headgate.coordination")

_UNKNOWN_TOKEN: Final = 16  # gRPC's UNAUTHENTICATED
_PERMISSION_DENIED: Final = 7
_NO_TOKEN: Final = ("user name is empty", "invalid auth token")
_BAD_LOGIN: Final = "authentication failed"
_TOO_MUCH: Final = ("request is too large", "too many operations", "trying to send message larger")
_SOON: Final = frozenset({4, 8, 13, 14})
"""gRPC's codes for what is worth another try: deadline, exhausted, internal, unavailable."""
_PAUSE: Final = 0.1
# A member that lost the others ends its streams with this, and does not leave us in the dark.
_NEEDS_LEADER: Final = {"Grpc-Metadata-hasleader": "true"}


@final
@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """How to reach an etcd, and as whom.

    Attributes:
        endpoints: ``http://host:port`` or ``https://host:port``, separated by commas.
        user: whom to log in as; "" for nobody.
        password: of the user.
        ca: the authorities that may have signed its certificate, in PEM; None for the system's.
        certificate: the certificate to show, in PEM; None to show none.
        key: its private key.
        deadline: seconds that an answer may take, over all endpoints.
    """

    endpoints: str
    user: str = ""
    password: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    deadline: float = 3.0

    def addresses(self) -> Sequence[str]:
        """The endpoints one by one; raises `ConfigurationError` for what is none."""
        found = [each.strip().rstrip("/") for each in self.endpoints.split(",") if each.strip()]
        for each in found:
            scheme, _, rest = each.partition("://")
            if scheme not in {"http", "https"} or not rest or "@" in rest:
                raise ConfigurationError(
                    "etcd_endpoints must be http(s)://host:port separated by commas, the user and the "
                    f"password apart from them, got {scheme[:40]!a}://..."
                )
        if not found:
            raise ConfigurationError("etcd_endpoints must name at least one endpoint, got none")
        return found

    def __repr__(self) -> str:
        # A password must not reach a log through a traceback or a debug line.
        return f"EtcdAccess({self.endpoints!r}, user={self.user!r})"


class _ElsewhereError(Exception):
    """This endpoint cannot; another might."""


class _SoonError(_ElsewhereError):
    """This endpoint is there and cannot just now, for want of a leader or of time."""


class _UnknownTokenError(Exception):
    """The login has run out, or there was none."""


@final
class EtcdClient:
    """Speaks with an etcd, on the event loop that it is used on first.

    Raises:
        ConfigurationError: httpx is missing, or an endpoint or a certificate cannot be used.
    """

    def __init__(self, access: EtcdAccess) -> None:
        self._httpx = _driver()
        self._access = access
        self._addresses = access.addresses()
        for each in self._addresses:
            self._check(each)
        self._tls = _tls(access)
        self._at = 0
        self._token = ""
        self._http: Any = None
        self.where = ",".join(self._addresses)

    async def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask; only what may be asked twice, for an answer that was lost is asked for elsewhere.

        Raises:
            StoreUnavailable: no endpoint answered in time, or the login was refused.
            TooLarge: it is more than etcd takes at once.
        """
        problem = "no answer in time"
        try:
            async with asyncio.timeout(self._access.deadline):
                while True:
                    try:
                        return await self._ask_all(path, body)
                    except _SoonError as error:
                        problem = str(error)
                        await self._pause()
        except _ElsewhereError as error:
            problem = str(error)
        except TimeoutError:
            self._leave(self._addresses[self._at])
        raise self._unavailable(problem)

    @asynccontextmanager
    async def watch(
        self, key: str, end: str, revision: int, idle: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """A stream of what happens to the keys from ``key`` up to before ``end``.

        Args:
            key: the first.
            end: the first that is not meant.
            revision: the first to hear of; 0 for those to come.
            idle: seconds without news after which the stream ends.

        Raises:
            StoreUnavailable: also from within the stream, when it breaks off.
        """
        wanted = {"key": encode(key), "range_end": encode(end), "start_revision": str(revision)}
        address = self._addresses[self._at]
        try:
            await self._log_in()
            async with self._client().stream(
                "POST",
                f"{address}/v3/watch",
                content=json.dumps({"create_request": wanted}),
                headers=self._headers() | _NEEDS_LEADER,
                timeout=self._timeout(idle),
            ) as response:
                if response.status_code != 200:
                    _refuse(await response.aread())
                yield self._messages(response)
        except _UnknownTokenError as error:
            self._token = ""
            raise self._unavailable(str(error)) from error
        except _ElsewhereError as error:
            self._leave(address)
            raise self._unavailable(str(error)) from error
        except (self._httpx.HTTPError, OSError, RuntimeError) as error:
            self._leave(address)
            raise self._unavailable(_reason(error)) from error

    async def close(self) -> None:
        """Let go of all connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _messages(self, response: Any) -> AsyncIterator[dict[str, Any]]:
        try:
            async for line in response.aiter_lines():
                message = _decoded(line.encode())
                if "error" in message:
                    _refuse(json.dumps(_flat(message)).encode())
                yield message.get("result", {})
        except self._httpx.ReadTimeout:
            return  # idle: there was nothing to tell
        raise _ElsewhereError("the stream ended")

    async def _ask_all(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask one after the other; raise what gives most hope of those that could not answer."""
        problem: _ElsewhereError | None = None
        for _ in self._addresses:
            address = self._addresses[self._at]
            try:
                return await self._ask_logged_in(path, body)
            except _ElsewhereError as error:
                problem = problem if isinstance(problem, _SoonError) else error
                self._leave(address)
        raise problem or _ElsewhereError("there is no endpoint")

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), _PAUSE)

    async def _ask_logged_in(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            await self._log_in()
            return await self._ask(path, body)
        except _UnknownTokenError:  # it ran out: log in once more
            self._token = ""
        try:
            await self._log_in()
            return await self._ask(path, body)
        except _UnknownTokenError as error:
            raise StoreUnavailable(
                f"etcd wants a login ({error}); set etcd_user and etcd_password"
            ) from error

    async def _log_in(self) -> None:
        access = self._access
        if not access.user or self._token:
            return
        answer = await self._ask(
            "auth/authenticate", {"name": access.user, "password": access.password}
        )
        self._token = str(answer.get("token", ""))

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        # One endpoint that hangs must leave time for another.
        share = self._access.deadline / min(3, len(self._addresses) + 1)
        try:
            response = await self._client().post(
                f"{self._addresses[self._at]}/v3/{path}",
                content=json.dumps(body),
                headers=self._headers() | _NEEDS_LEADER,
                timeout=self._timeout(share),
            )
            content = await response.aread()
        except (self._httpx.HTTPError, OSError, RuntimeError) as error:
            raise _ElsewhereError(_reason(error)) from error
        if response.status_code != 200:
            _refuse(content)
        answer = _decoded(content)
        if "error" in answer:  # of a stream, such as a keepalive, which began well
            _refuse(json.dumps(_flat(answer)).encode())
        return answer

    def _check(self, address: str) -> None:
        try:
            self._httpx.URL(address)
        except self._httpx.InvalidURL as error:
            raise ConfigurationError(f"an endpoint of etcd cannot be read: {error}") from error

    def _client(self) -> Any:
        if self._http is None:
            # No proxies from the environment: agreement is a matter between this node and its etcd.
            self._http = self._httpx.AsyncClient(verify=self._tls, trust_env=False)
        return self._http

    def _timeout(self, seconds: float) -> Any:
        return self._httpx.Timeout(seconds, connect=min(seconds, 1.0))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    def _leave(self, address: str) -> None:
        """Go on with another endpoint, if nobody did yet."""
        if self._addresses[self._at] == address:
            self._at = (self._at + 1) % len(self._addresses)

    def _unavailable(self, problem: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the etcd at {self.where} does not answer: {problem}; check that it runs, that it has a "
            "quorum, and that it can be reached"
        )


def encode(text: str) -> str:
    """A key or a value as the gateway has it."""
    return b64encode(text.encode()).decode("ascii")


def decode(text: object) -> str:
    """The twin of `encode`; what somebody else wrote there may be anything."""
    return b64decode(str(text)).decode("utf-8", "replace")


def number(message: Mapping[str, Any], name: str) -> int:
    """A number of 64 bits, which JSON carries as text, and not at all when it is 0."""
    return int(message.get(name, 0))


def prefix_end(prefix: str) -> str:
    """The first key that does not begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _driver() -> Any:
    try:
        import httpx  # noqa: PLC0415 - the driver is optional
    except ImportError as error:
        raise ConfigurationError("etcd needs httpx; pip install 'headgate[server]'") from error
    return httpx


def _tls(access: EtcdAccess) -> ssl.SSLContext | bool:
    if "https://" not in access.endpoints:
        return False
    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.certificate is not None:
            context.load_cert_chain(access.certificate, access.key)
    except (OSError, ValueError) as error:  # ssl's own errors are an OSError
        raise ConfigurationError(
            f"the certificates for etcd cannot be used: {error}; check etcd_ca, etcd_certificate and etcd_key"
        ) from error
    return context


def _refuse(content: bytes) -> None:
    """Raise what an answer that is an error means."""
    if b"CommonName" in content:
        raise StoreUnavailable(
            "etcd has users, and its gateway then takes only certificates without a CommonName; make such a "
            "one for etcd_certificate, or do without it"
        )
    answer = _decoded(content)
    reason, code = str(answer.get("error", "an answer that is none"))[:200], answer.get("code", 14)
    if any(known in reason for known in _TOO_MUCH):
        raise TooLarge(
            f"the change is more than etcd takes at once ({reason}); make it in several parts"
        )
    if code == _UNKNOWN_TOKEN or any(known in reason for known in _NO_TOKEN):
        raise _UnknownTokenError(reason)
    if code in _SOON:
        raise _SoonError(reason)
    if _BAD_LOGIN in reason:
        raise StoreUnavailable("etcd does not take the login; check etcd_user and etcd_password")
    if code == _PERMISSION_DENIED:
        raise StoreUnavailable(
            "etcd does not let its user do that; grant it readwrite on the prefix /headgate/"
        )
    raise StoreUnavailable(f"etcd refused: {reason}", grpc_code=code)


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _ElsewhereError("what answers there is no etcd")
    return answer


def _flat(message: Mapping[str, Any]) -> dict[str, Any]:
    """An error in a stream, as one outside of it."""
    error = message["error"]
    if not isinstance(error, dict):
        return dict(message)
    return {"error": error.get("message", ""), "code": error.get("grpc_code", 14)}


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:200]
