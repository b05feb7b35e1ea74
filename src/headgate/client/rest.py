"""A small client of the REST API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from headgate.client.decisions import decision_of
from headgate.client.failures import error_of
from headgate.errors import InvalidInput, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import httpx

    from headgate.decision import Decision

__all__ = ["DEFAULT_URL", "Client"]

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Client:
    """Asks one service. Not for use by several threads at once.

    Args:
        url: where the service is, such as ``http://127.0.0.1:8080``.
        token: an API token, for a service that wants one.
        timeout: seconds to wait for an answer.

    Raises:
        InvalidInput: the address is no http or https address.
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout: float = 5.0
    ) -> None:
        import httpx  # noqa: PLC0415 - 100 ms, for who asks a service

        address = _checked(url)
        self.url = _public(address)
        headers = {"user-agent": "headgate"}
        if token:
            headers["authorization"] = f"Bearer {_printable(token)}"
        # A proxy of the environment is of no use on the way to this machine.
        is_near = urlsplit(address).hostname in _LOOPBACK
        self._http = httpx.Client(
            base_url=address, headers=headers, timeout=timeout, trust_env=not is_near
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    # Checks --------------------------------------------------------------------------------------

    def check(
        self,
        key: str | None,
        tokens: int = 1,
        metadata: Mapping[str, str] | None = None,
        priority: str | int | None = None,
    ) -> Decision:
        """May this pass? If it may, its cost is spent.

        Args:
            key: who asks; None for nobody in particular.
            tokens: the cost.
            metadata: dimension -> value.
            priority: who goes first when the service has too much to do: a name or a tier of
                `headgate.priority`; None leaves it to the policies.

        Raises:
            Overloaded: it has too much to do now, and did not decide.
        """
        return self._ask("/api/v1/check", key, tokens, metadata, priority)

    def peek(
        self,
        key: str | None,
        tokens: int = 1,
        metadata: Mapping[str, str] | None = None,
        priority: str | int | None = None,
    ) -> Decision:
        """What `check` would answer; nothing is spent."""
        return self._ask("/api/v1/peek", key, tokens, metadata, priority)

    # Policies ------------------------------------------------------------------------------------

    def policies(self) -> list[dict[str, Any]]:
        """All policies as documents, in the order of their names."""
        found: list[dict[str, Any]] = self._json("GET", "/api/v1/policies")["policies"]
        return found

    def policy(self, name: str) -> dict[str, Any]:
        """One policy; raises `NotFound`."""
        return self._json("GET", f"/api/v1/policies/{quote(name, safe='')}")

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Create or replace these policies, all or none; their versions by name."""
        body = {"policies": [dict(document) for document in documents]}
        applied = self._json("POST", "/api/v1/policies:apply", body)["policies"]
        return {one["name"]: one["version"] for one in applied}

    def delete(self, name: str) -> None:
        """Take a policy out of force; raises `NotFound`."""
        self._request("DELETE", f"/api/v1/policies/{quote(name, safe='')}")

    # The cluster ---------------------------------------------------------------------------------

    def cluster(self) -> dict[str, Any]:
        """How the nodes stand, as this one sees it."""
        return self._json("GET", "/api/v1/cluster")

    def members(self) -> list[dict[str, Any]]:
        """The live nodes, in the order of their names."""
        found: list[dict[str, Any]] = self._json("GET", "/api/v1/cluster/members")["members"]
        return found

    def leader(self) -> dict[str, Any]:
        """Who leads, and who says so."""
        return self._json("GET", "/api/v1/cluster/leader")

    def leases(self, key: str, policy: str | None = None) -> dict[str, Any]:
        """Who holds tokens of a key, drawn ahead; of all policies unless one is named."""
        path = f"/api/v1/cluster/leases?key={quote(key, safe='')}"
        if policy is not None:
            path += f"&policy={quote(policy, safe='')}"
        return self._json("GET", path)

    # The service ---------------------------------------------------------------------------------

    def usage(self, key: str) -> dict[str, Any]:
        """What a key has spent and has left."""
        return self._json("GET", f"/api/v1/metrics?key={quote(key, safe='')}")

    def metrics(self) -> str:
        """The counters of the service, as Prometheus reads them."""
        return self._request("GET", "/metrics").text

    def is_ready(self) -> bool:
        """Whether the service takes requests; raises `Unreachable` when nothing answers at all."""
        return self._send("GET", "/readyz", None).status_code == 200

    def version(self) -> str:
        """The service's version."""
        return str(self._json("GET", "/openapi.json")["info"]["version"])

    # Inside --------------------------------------------------------------------------------------

    def _ask(
        self,
        path: str,
        key: str | None,
        tokens: int,
        metadata: Mapping[str, str] | None,
        priority: str | int | None,
    ) -> Decision:
        body: dict[str, Any] = {"tokens": tokens, "metadata": dict(metadata or {})}
        if key is not None:
            body["key"] = key
        if priority is not None:
            body["priority"] = priority
        response = self._send("POST", path, body)
        answer = self._members(response)
        if "allowed" not in answer:
            raise error_of(answer, response.status_code)
        return decision_of(answer, response.headers.get("ratelimit-policy", ""))

    def _json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return self._members(self._request(method, path, body))

    def _request(self, method: str, path: str, body: object = None) -> httpx.Response:
        response = self._send(method, path, body)
        if response.is_error:
            raise error_of(self._members(response), response.status_code)
        return response

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        import httpx  # noqa: PLC0415 - see __init__

        try:
            return self._http.request(method, path, json=body)
        except httpx.TimeoutException as error:
            message = (
                f"{self.url} did not answer in time; is it overloaded, or is the address wrong?"
            )
            raise Unreachable(message, url=self.url) from error
        except (httpx.HTTPError, OSError) as error:
            message = (
                f"{self.url} does not answer ({_reason(error)}); start it with 'headgate serve', or "
                "name another address with --url or HEADGATE_URL"
            )
            raise Unreachable(message, url=self.url) from error
        except (UnicodeError, ValueError) as error:
            message = f"the request cannot be sent: {error}; send text that UTF-8 can say"
            raise InvalidInput(message) from error

    def _members(self, response: httpx.Response) -> dict[str, Any]:
        try:
            members = response.json()
        except ValueError:
            members = None
        if not isinstance(members, dict):
            message = (
                f"{self.url} answers (status {response.status_code}), but not as Headgate does"
            )
            raise Unreachable(message, url=self.url)
        return members


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        shown = ascii(_public(url)[:80])
        message = f"the service's address must be like {DEFAULT_URL}, got {shown}"
        raise InvalidInput(message, field="url")
    return url.rstrip("/")


def _public(url: str) -> str:
    """The address without the user and the password in it, for messages."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def _printable(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        message = "an API token is printable ASCII, such as hg_...; copy it again"
        raise InvalidInput(message, field="token")
    return token


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
