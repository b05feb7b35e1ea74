"""Who is calling: client addresses as keys.

A proxy tells the address of its client in a header, and anybody can send that header. So it is believed
only as far as it was written by proxies that the configuration names: addresses are read from the right,
where the nearest proxy wrote, and the first that is no trusted proxy is the client. What stands further
left may be invented and is never looked at, let alone parsed.

An IPv6 customer is given a whole network, mostly a /64, and could have a fresh address for every
request. So addresses are grouped by prefix. An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``) is
that IPv4 address; otherwise one caller would have two keys.
"""

from __future__ import annotations

import re
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import TYPE_CHECKING, Final, final

from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    _Address = IPv4Address | IPv6Address
    _Network = IPv4Network | IPv6Network

__all__ = ["UNIX", "ClientAddresses", "client_address"]

UNIX: Final = "unix"
"""In a list of trusted proxies: whoever connects through a Unix socket."""

_MAX_HOPS: Final = 32
_MAX_ADDRESS: Final = 64
_MAX_ELEMENT: Final = 1_024
_CACHED: Final = 8_192
_PAIR: Final = re.compile(r"""([\w!#$%&'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^;"]*)""")
_UNKNOWN: Final = ("", False)


@final
class ClientAddresses:
    """Turns where a request came from into a key.

    >>> addresses = ClientAddresses(["10.0.0.0/8"])
    >>> addresses.key("10.0.0.7", ["6.6.6.6, 192.0.2.1, 10.0.0.9"])
    '192.0.2.1'
    >>> addresses.key("203.0.113.5", ["192.0.2.1"])  # no proxy of ours: its header is not believed
    '203.0.113.5'
    >>> addresses.key("2001:db8:1:2:3:4:5:6", [])
    '2001:db8:1:2::/64'

    Args:
        trusted_proxies: networks or addresses, and `UNIX` for Unix sockets; none by default, so that
            the address of the connection counts.
        header: the one header that these proxies write: ``forwarded`` is read as RFC 7239 has it, any
            other as addresses with commas between them. Callers may send what the proxies do not
            write, so naming the wrong one lets them choose their own key.
        ipv6_prefix: how many bits tell one IPv6 caller from another.
        ipv4_prefix: the same for IPv4.

    Raises:
        InvalidInput: a proxy is neither a network nor an address, or a prefix is out of range.
    """

    def __init__(
        self,
        trusted_proxies: Iterable[str] = (),
        header: str = "x-forwarded-for",
        ipv6_prefix: int = 64,
        ipv4_prefix: int = 32,
    ) -> None:
        if isinstance(trusted_proxies, str):
            trusted_proxies = (trusted_proxies,)
        proxies = list(trusted_proxies)
        self.header = header.lower()
        self._trusts_unix = UNIX in proxies
        self._trusted = [_network(proxy) for proxy in proxies if proxy != UNIX]
        self._ipv6_prefix = _prefix("ipv6_prefix", ipv6_prefix, 128)
        self._ipv4_prefix = _prefix("ipv4_prefix", ipv4_prefix, 32)
        self._next = _next_forwarded if self.header == "forwarded" else _next_listed
        # Parsing takes microseconds and the same addresses come again and again.
        self._known: dict[str, tuple[str, bool]] = {}

    @property
    def trusts_anybody(self) -> bool:
        """Whether the header is ever believed."""
        return self._trusts_unix or bool(self._trusted)

    def key(self, peer: str | None, header_values: Sequence[str] = ()) -> str | None:
        """The client's key; None when there is no telling.

        Args:
            peer: the address at the other end of the connection, as the server tells it; None or ""
                for a Unix socket. What is no address is a key as it stands: the server said so.
            header_values: the values of ``header``, one for each time that it was sent, in order.
        """
        if peer:
            key, trusted = self._look(peer)
            if not key:
                return peer
        else:
            key, trusted = "", self._trusts_unix
        if trusted and header_values:
            key = self._walk(key, ",".join(header_values))
        return key or None

    def _walk(self, key: str, text: str) -> str:
        """From hop to hop until one is not trusted. What cannot be read ends the way."""
        hops = 0
        while text and hops < _MAX_HOPS:
            hops += 1
            address, text = self._next(text)
            hop, trusted = self._look(address)
            if not hop:
                break
            key = hop
            if not trusted:
                break
        return key

    def _look(self, text: str) -> tuple[str, bool]:
        """An address as a key, and whether it is a trusted proxy's; "" when it is no address."""
        known = self._known.get(text)
        if known is None:
            known = self._parse(text)
            if len(self._known) >= _CACHED:
                self._known.clear()
            if len(text) <= _MAX_ADDRESS:
                self._known[text] = known
        return known

    def _parse(self, text: str) -> tuple[str, bool]:
        address = _address(text)
        if address is None:
            return _UNKNOWN
        trusted = any(address in network for network in self._trusted)
        return self._key_of(address), trusted

    def _key_of(self, address: _Address) -> str:
        bits = self._ipv4_prefix if address.version == 4 else self._ipv6_prefix
        if bits == address.max_prefixlen:
            return str(address)
        shift = address.max_prefixlen - bits
        first = type(address)(int(address) >> shift << shift)
        return f"{first}/{bits}"


def client_address(
    peer: str | None,
    header_values: Sequence[str] = (),
    trusted_proxies: Iterable[str] = (),
    ipv6_prefix: int = 64,
    ipv4_prefix: int = 32,
) -> str | None:
    """One address; see `ClientAddresses`, which is the way to do it for every request.

    >>> client_address("10.0.0.7", ["192.0.2.1"], trusted_proxies=["10.0.0.0/8"])
    '192.0.2.1'
    """
    addresses = ClientAddresses(trusted_proxies, ipv6_prefix=ipv6_prefix, ipv4_prefix=ipv4_prefix)
    return addresses.key(peer, header_values)


def _next_listed(text: str) -> tuple[str, str]:
    """The rightmost of a list of addresses, and what is left of it."""
    rest, _, last = text.rpartition(",")
    return last.strip(), rest


def _next_forwarded(text: str) -> tuple[str, str]:
    """The ``for`` of the rightmost element of a Forwarded header, and what is left of it.

    Read from the right, so that a quote which a caller opened cannot swallow what the proxy added.
    """
    at = len(text)
    quoted = False
    while at > 0:
        if len(text) - at > _MAX_ELEMENT:
            return "", ""
        character = text[at - 1]
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            break
        at -= 1
    nodes = [value.strip() for name, value in _PAIR.findall(text[at:]) if name.lower() == "for"]
    if len(nodes) != 1:
        return "", ""
    return nodes[0].strip('"'), text[: max(0, at - 1)]


def _address(text: str) -> _Address | None:
    """An address with or without brackets, port and zone; None when it is none."""
    if not text or len(text) > _MAX_ADDRESS:
        return None
    if text[0] == "[":
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.partition("%")[0]
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return address.ipv4_mapped or address


def _network(text: object) -> _Network:
    try:
        return ip_network(text if isinstance(text, str) else "", strict=False)
    except ValueError:
        raise InvalidInput(
            f"a trusted proxy must be a network such as '10.0.0.0/8', an address or {UNIX!r}, "
            f"got {text!r:.80}"
        ) from None


def _prefix(name: str, bits: object, most: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= most:
        raise InvalidInput(f"{name} must be 1 to {most}, got {bits!r:.40}")
    return bits
