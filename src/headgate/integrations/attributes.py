"""By what a request is limited: callables that read a key from it.

Each takes an ASGI scope, or a Starlette or FastAPI request or websocket, which look like their scope;
and answers None when the request lacks the attribute. What happens then is for the limit to say
(``missing=``), so that callers without the attribute never share one limit by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final
from urllib.parse import parse_qsl

from headgate.key import ClientAddresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Source = Mapping[str, Any]
    KeyFunction = Callable[[Any], str | None]

__all__ = [
    "Attribute",
    "by_all",
    "by_client_address",
    "by_cookie",
    "by_header",
    "by_path",
    "by_path_param",
    "by_query",
    "by_state",
    "by_user",
]


class Attribute(Protocol):
    """Reads a key from a request.

    Attributes:
        what: the name of it in messages, such as "the header x-api-key".
    """

    what: str

    def __call__(self, source: Any, /) -> str | None: ...


@final
class by_client_address:  # noqa: N801 - read as a function: key=by_client_address(...)
    """The address of the client; see `headgate.key.ClientAddresses` for the arguments."""

    __slots__ = ("_addresses", "_header", "what")

    def __init__(
        self,
        trusted_proxies: Iterable[str] = (),
        header: str = "x-forwarded-for",
        ipv6_prefix: int = 64,
        ipv4_prefix: int = 32,
    ) -> None:
        self.what = "the client's address"
        self._addresses = ClientAddresses(trusted_proxies, header, ipv6_prefix, ipv4_prefix)
        self._header = header.lower().encode("latin-1") if self._addresses.trusts_anybody else None

    def __call__(self, source: Source, /) -> str | None:
        client = source.get("client")
        peer = client[0] if client else None
        if self._header is None:
            return self._addresses.key(peer)
        values = [v.decode("latin-1") for name, v in source["headers"] if name == self._header]
        return self._addresses.key(peer, values)


@final
class by_header:  # noqa: N801
    """A request header, such as an API key. Sent more than once, the first counts."""

    __slots__ = ("_name", "what")

    def __init__(self, name: str) -> None:
        self.what = f"the header {name.lower()}"
        self._name = name.lower().encode("latin-1")

    def __call__(self, source: Source, /) -> str | None:
        for name, value in source["headers"]:
            if name == self._name:
                return str(value.decode("latin-1"))
        return None


@final
class by_cookie:  # noqa: N801
    """A cookie."""

    __slots__ = ("_name", "what")

    def __init__(self, name: str) -> None:
        self.what = f"the cookie {name}"
        self._name = name

    def __call__(self, source: Source, /) -> str | None:
        found = None
        for header, value in source["headers"]:
            if header == b"cookie":
                for pair in value.decode("latin-1").split(";"):
                    name, equals, text = pair.partition("=")
                    if equals and name.strip() == self._name:
                        found = text.strip()
        return found


@final
class by_query:  # noqa: N801
    """A query parameter. Sent more than once, the last counts, as it does for Starlette."""

    __slots__ = ("_name", "what")

    def __init__(self, name: str) -> None:
        self.what = f"the query parameter {name}"
        self._name = name

    def __call__(self, source: Source, /) -> str | None:
        query = source.get("query_string", b"").decode("latin-1")
        found = None
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == self._name:
                found = value
        return found


@final
class by_path_param:  # noqa: N801
    """A parameter of the path. Known once the request is routed, so not to a middleware."""

    __slots__ = ("_name", "what")

    def __init__(self, name: str) -> None:
        self.what = f"the path parameter {name}"
        self._name = name

    def __call__(self, source: Source, /) -> str | None:
        value = source.get("path_params", {}).get(self._name)
        return None if value is None else str(value)


@final
class by_path:  # noqa: N801
    """The path of the request."""

    __slots__ = ("what",)

    def __init__(self) -> None:
        self.what = "the path"

    def __call__(self, source: Source, /) -> str | None:
        return str(source["path"])


@final
class by_state:  # noqa: N801
    """What an earlier middleware or dependency put into ``request.state``."""

    __slots__ = ("_name", "what")

    def __init__(self, name: str) -> None:
        self.what = f"request.state.{name}"
        self._name = name

    def __call__(self, source: Source, /) -> str | None:
        state = source.get("state") or {}
        value = state.get(self._name)
        return None if value is None else str(value)


@final
class by_user:  # noqa: N801
    """The user that Starlette's AuthenticationMiddleware found; missing when nobody is signed in."""

    __slots__ = ("what",)

    def __init__(self) -> None:
        self.what = "a signed-in user"

    def __call__(self, source: Source, /) -> str | None:
        user = source.get("user")
        if user is None or not user.is_authenticated:
            return None
        try:
            return str(user.identity)
        except NotImplementedError:  # SimpleUser has a name and no identity
            return str(user.display_name)


@final
class by_all:  # noqa: N801
    """Several attributes together: ``by_all(by_header("X-Tenant"), by_path())``.

    Missing when one of them is.
    """

    __slots__ = ("_parts", "what")

    def __init__(self, *parts: KeyFunction) -> None:
        self.what = " and ".join(describe(part) for part in parts)
        self._parts = parts

    def __call__(self, source: Source, /) -> str | None:
        values: list[str] = []
        for part in self._parts:
            value = part(source)
            if not value:
                return None
            # Lengths, because a separator could be part of a value and make two callers one.
            values.append(f"{len(value)}:{value}")
        return "".join(values)


def describe(key: KeyFunction) -> str:
    """What requests are said to be limited by, when one lacks it."""
    return str(getattr(key, "what", "a key of their own"))
