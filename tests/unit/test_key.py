"""Client addresses as keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import InvalidInput
from headgate.key import UNIX, ClientAddresses, client_address

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]


@pytest.fixture
def addresses() -> ClientAddresses:
    return ClientAddresses(PROXIES)


def test_without_configuration_no_header_is_believed():
    assert client_address("203.0.113.5", ["1.1.1.1"]) == "203.0.113.5"
    assert client_address("127.0.0.1", ["1.1.1.1"]) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("203.0.113.5", ["1.1.1.1"], "203.0.113.5"),  # not our proxy
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),  # the left was sent by the caller
        ("10.0.0.1", ["6.6.6.6", "192.0.2.1"], "192.0.2.1"),  # in a header of its own
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1,10.9.9.9 ,\t10.8.8.8"], "192.0.2.1"),
        ("10.0.0.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),  # all inside: the first of them
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["garbage, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),  # a dual-stack socket
        ("2001:db8:ffff::1", ["192.0.2.1"], "192.0.2.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("testclient", ["192.0.2.1"], "testclient"),  # what a server calls it is a key as it stands
    ],
)
def test_who_the_client_is(addresses, peer, values, client):
    assert addresses.key(peer, values) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ('For="192.0.2.1:4711";proto=https;by=10.0.0.1', "192.0.2.1"),
        ('for="[2001:db8:1:2::9]:4711"', "2001:db8:1:2::/64"),
        ("for=6.6.6.6, for=192.0.2.1", "192.0.2.1"),
        ('for=192.0.2.1, for=10.2.2.2;host="a,b;for=6.6.6.6"', "192.0.2.1"),
        ('for="6.6.6.6, for=192.0.2.1', "192.0.2.1"),  # a quote that the caller left open
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("for=192.0.2.1;for=6.6.6.6", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ("x" * 5000, "10.0.0.1"),
    ],
)
def test_the_forwarded_header(value, client):
    addresses = ClientAddresses(PROXIES, header="Forwarded")
    assert addresses.key("10.0.0.1", [value]) == client


def test_a_unix_socket_is_believed_when_it_is_named():
    assert ClientAddresses().key(None, ["192.0.2.1"]) is None
    assert ClientAddresses([UNIX]).key(None, ["192.0.2.1"]) == "192.0.2.1"
    assert ClientAddresses([UNIX]).key("", ["6.6.6.6, 192.0.2.1"]) == "192.0.2.1"
    assert ClientAddresses([UNIX]).key(None, []) is None
    assert ClientAddresses([UNIX]).key("10.0.0.1", ["192.0.2.1"]) == "10.0.0.1"


def test_a_long_way_is_not_walked_for_ever(addresses):
    assert addresses.key("10.0.0.1", [", ".join(["192.0.2.1"] + ["10.2.2.2"] * 99)]) == "10.2.2.2"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1::/48"),
    ],
)
def test_other_prefixes(address, key):
    assert ClientAddresses(ipv4_prefix=24, ipv6_prefix=48).key(address) == key


def test_whole_addresses():
    assert ClientAddresses(ipv6_prefix=128).key("2001:DB8::0:1") == "2001:db8::1"


def test_one_customer_with_a_network_has_one_key():
    addresses = ClientAddresses()
    assert len({addresses.key(f"2001:db8:1:2::{number:x}") for number in range(1000)}) == 1


@pytest.mark.parametrize("proxy", ["10.0.0.0/99", "proxy.local", "", 7, None])
def test_a_proxy_that_is_no_network_is_refused(proxy):
    with pytest.raises(InvalidInput, match="a trusted proxy must be"):
        ClientAddresses([proxy])


@pytest.mark.parametrize("bits", [0, 129, True, "64"])
def test_a_prefix_out_of_range_is_refused(bits):
    with pytest.raises(InvalidInput, match="ipv6_prefix must be 1 to 128"):
        ClientAddresses(ipv6_prefix=bits)


def test_a_single_proxy_may_be_given_as_text():
    assert ClientAddresses("10.0.0.1").key("10.0.0.1", ["192.0.2.1"]) == "192.0.2.1"


def test_the_cache_is_bounded():
    addresses = ClientAddresses()
    for number in range(20_000):
        addresses.key(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(addresses._known) <= 8192


HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet='0123456789abcdef.:,[]"%;= for', max_size=60),
    st.lists(st.ip_addresses().map(str)).map(", ".join),
)


@given(
    values=st.lists(HOSTILE, max_size=4), header=st.sampled_from(["x-forwarded-for", "forwarded"])
)
def test_no_header_value_breaks_it_or_is_believed_from_a_stranger(values, header):
    addresses = ClientAddresses(PROXIES, header=header)
    assert addresses.key("203.0.113.5", values) == "203.0.113.5"
    assert addresses.key("10.0.0.1", values)


@given(sent=HOSTILE, client=st.ip_addresses())
def test_what_the_caller_sends_never_matters(sent, client):
    """Whatever stands left of what the proxy appends, the client is the same."""
    addresses = ClientAddresses(["10.0.0.1"])
    alone = addresses.key("10.0.0.1", [str(client)])
    assert addresses.key("10.0.0.1", [f"{sent}, {client}"]) == alone or str(client) == "10.0.0.1"
    forwarded = ClientAddresses(["10.0.0.1"], header="forwarded")
    node = f'for="[{client}]"' if client.version == 6 else f"for={client}"
    alone = forwarded.key("10.0.0.1", [node])
    assert forwarded.key("10.0.0.1", [f"{sent}, {node}"]) == alone or str(client) == "10.0.0.1"
