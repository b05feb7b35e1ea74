"""Addresses of a Redis: what can be read, what cannot, and that no password is shown."""

from __future__ import annotations

import pytest

from headgate.coordination.redis_address import (
    CLUSTER,
    SENTINEL,
    SINGLE,
    UNIX,
    RedisAddress,
    is_address,
)
from headgate.errors import InvalidInput
from tests.support.valkeys import TLS

CA = TLS / "certificate.pem"
KEY = TLS / "key.pem"

READ = [
    ("redis://", SINGLE, [("localhost", 6379)], {}),
    ("redis://h", SINGLE, [("h", 6379)], {}),
    ("redis://h:1/2", SINGLE, [("h", 1)], {"db": 2}),
    ("redis://h:1/2?db=3", SINGLE, [("h", 1)], {"db": 3}),
    ("redis://:1/", SINGLE, [("localhost", 1)], {}),
    ("REDIS://h", SINGLE, [("h", 6379)], {}),
    ("redis://[::1]:7/0", SINGLE, [("::1", 7)], {}),
    ("redis://u:p@h", SINGLE, [("h", 6379)], {"username": "u", "password": "p"}),
    ("redis://:p@h", SINGLE, [("h", 6379)], {"username": "", "password": "p"}),
    (
        "redis://u%40x:p%2F%3A%40%23@h",
        SINGLE,
        [("h", 6379)],
        {"username": "u@x", "password": "p/:@#"},
    ),
    ("redis://u:p:q@h", SINGLE, [("h", 6379)], {"password": "p:q"}),
    ("rediss://h", SINGLE, [("h", 6379)], {"tls": True}),
    ("valkey://h", SINGLE, [("h", 6379)], {}),
    ("valkeys://h", SINGLE, [("h", 6379)], {"tls": True}),
    ("unix:///run/a%20b.sock?db=4", UNIX, [], {"path": "/run/a b.sock", "db": 4}),
    ("unix://u:p@/run/x", UNIX, [], {"path": "/run/x", "username": "u", "password": "p"}),
    ("redis+unix:///run/x", UNIX, [], {"path": "/run/x"}),
    (
        "redis+sentinel://a,b:2/main",
        SENTINEL,
        [("a", 26379), ("b", 2)],
        {"service": "main", "db": 0},
    ),
    (
        "redis+sentinel://u:p@a:1,[::1]:2/main/5?sentinel_password=%26q&sentinel_username=s",
        SENTINEL,
        [("a", 1), ("::1", 2)],
        {
            "service": "main",
            "db": 5,
            "password": "p",
            "sentinel_password": "&q",
            "sentinel_username": "s",
        },
    ),
    ("valkeys+sentinel://a/main", SENTINEL, [("a", 26379)], {"tls": True}),
    ("redis+cluster://a,b:2", CLUSTER, [("a", 6379), ("b", 2)], {}),
    ("rediss+cluster://u:p@a", CLUSTER, [("a", 6379)], {"tls": True, "username": "u"}),
    ("redis+cluster://a/0", CLUSTER, [("a", 6379)], {}),
]


@pytest.mark.parametrize(("text", "kind", "hosts", "members"), READ)
def test_what_is_read(text, kind, hosts, members):
    address = RedisAddress.read(text)
    assert is_address(text)
    assert (address.kind, list(address.hosts)) == (kind, hosts)
    assert {name: getattr(address, name) for name in members} == members


def test_tls_options():
    files = f"ssl_ca_certs={CA}&ssl_certfile={CA}&ssl_keyfile={KEY}"
    address = RedisAddress.read(f"rediss://h?{files}&ssl_check_hostname=false")
    assert address.tls_options == {
        "ssl_ca_certs": str(CA),
        "ssl_certfile": str(CA),
        "ssl_keyfile": str(KEY),
        "ssl_check_hostname": False,
    }
    assert RedisAddress.read("rediss://h", CA).tls_options["ssl_ca_certs"] == str(CA)
    assert RedisAddress.read(f"rediss://h?ssl_ca_certs={KEY}", CA).tls_options[
        "ssl_ca_certs"
    ] == str(KEY)
    assert RedisAddress.read("unix:///run/x", CA).tls_options == {}


REFUSED = [
    ("h:6379", "no '://'"),
    ("http://h", "begins with redis://"),
    ("rediss+unix:///x", "begins with redis://"),
    ("redis+proxy://h", "begins with redis://"),
    ("redis://h:port", "host:port"),
    ("redis://h:66000", "host:port"),
    ("redis://a,b", "several are for"),
    ("redis://h/name", "database is a number"),
    ("redis://h?db=-1", "database is a number"),
    ("redis://[::1", "brackets"),
    ("redis://u:p/q@h", "%2F for /"),
    ("redis://u:p#q@h", "%23"),
    ("redis://h?timeout=3", "'timeout' is none of its options"),
    ("unix://", "path of the socket"),
    ("unix:///", "path of the socket"),
    ("redis+sentinel://h", "name of the service"),
    ("redis+sentinel://h/main/x", "database is a number"),
    ("redis+cluster://h/1", "database 0 only"),
    ("rediss://h?ssl_ca_certs=/nowhere.pem", "no file that can be read: /nowhere.pem"),
    ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
    ("redis://h?ssl_check_hostname=false", "begin with rediss"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_refused_says_why(text, why):
    with pytest.raises(InvalidInput, match=why.replace("?", r"\?")):
        RedisAddress.read(text)


def test_a_file_of_authorities_without_tls_is_a_mistake():
    with pytest.raises(InvalidInput, match="begin with rediss"):
        RedisAddress.read("redis://h", CA)


SECRETS = [
    "{scheme}user:sEcReT@h:1/main",
    "{scheme}user:sEcReT@h:port/main",
    "{scheme}user:sEcReT@h:1/main?x=sEcReT",
    "{scheme}user:sEc/ReT@h/main",
    "{scheme}user:sEc#ReT@h/main",
    "{scheme}user:sEcReT@[h/main",
    "{scheme}h/main/x?sentinel_password=sEcReT",
]


@pytest.mark.parametrize("form", SECRETS)
@pytest.mark.parametrize(
    "scheme", ["redis://", "rediss+cluster://", "redis+sentinel://", "reds://", ""]
)
def test_no_password_is_shown(form, scheme):
    text = form.format(scheme=scheme)
    try:
        address = RedisAddress.read(text)
    except InvalidInput as error:
        shown = f"{error} {error.context} {error!r}"
    else:
        shown = f"{address} {address!r}"
    assert "sEc" not in shown
    assert "ReT" not in shown


def test_it_shows_where_it_leads():
    for text, shown in [
        ("redis://u:p@h:1/2", "redis://h:1"),
        ("valkeys://[::1]", "rediss://[::1]:6379"),
        ("unix://u:p@/run/x", "unix:///run/x"),
        ("redis+sentinel://u:p@a,b:2/main", "redis+sentinel://a:26379,b:2/main"),
        ("rediss+cluster://u:p@a,b", "rediss+cluster://a:6379,b:6379"),
    ]:
        assert str(RedisAddress.read(text)) == shown


def test_equal_addresses_are_one():
    text = f"rediss://u:p@h:1/2?ssl_ca_certs={CA}"
    assert len({RedisAddress.read(text), RedisAddress.read(text)}) == 1
    assert RedisAddress.read(text) != RedisAddress.read("rediss://u:q@h:1/2")
