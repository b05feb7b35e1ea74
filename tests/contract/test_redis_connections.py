"""Connections to a Redis of every kind, with passwords and TLS, and what becomes of the driver's errors."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from contextlib import asynccontextmanager

import pytest
from redis import exceptions

from headgate.coordination.redis_connections import (
    RedisAddress,
    address_of,
    heal,
    heal_async,
    open_async_client,
    open_client,
    store_errors,
)
from headgate.errors import ConfigurationError, HeadgateError, InvalidInput, StoreUnavailable
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import HOST
from tests.support.valkeys import TLS, sentinel_group, tls_valkey, valkey, wait_until

pytestmark = pytest.mark.needs_redis
CA = TLS / "certificate.pem"
WRONG_CA = TLS / "other.pem"
WHAT = "the store"


def ask(text, *words):
    """Run one command through both clients; their answers, which are the same."""
    address = RedisAddress.read(text)
    client = open_client(address, 2.0)
    try:
        with store_errors(WHAT):
            answer = client.execute_command(*words)
    finally:
        client.close()
    assert asyncio.run(ask_async(address, *words)) == answer
    return answer


async def ask_async(address, *words):
    async with opened(address) as client:
        with store_errors(WHAT):
            return await client.execute_command(*words)


@asynccontextmanager
async def opened(address, timeout=2.0):
    client = open_async_client(address, timeout)
    try:
        yield client
    finally:
        await client.aclose()


def test_one_server(redis_server):
    assert ask(f"redis://{HOST}:{redis_server.port}/3", "ECHO", "x") == b"x"
    assert ask(f"valkey://{HOST}:{redis_server.port}", "ECHO", "x") == b"x"


def test_a_unix_socket(tmp_path):
    socket = tmp_path / "s"
    with valkey(tmp_path / "v", "--unixsocket", str(socket), "--requirepass", "pw"):
        # It listens there a moment later than on its port.
        with open_client(RedisAddress.read(f"unix://:pw@{socket}"), 2.0) as client:
            wait_until(client.ping)
        assert ask(f"unix://:pw@{socket}?db=2", "ECHO", "x") == b"x"


def test_users_and_passwords(tmp_path):
    with valkey(tmp_path / "v") as server:
        server.command("ACL", "SETUSER", "ann", "on", ">p@ss/word", "~k*", "+@all")
        server.command("ACL", "SETUSER", "default", "off")
        place = f"{HOST}:{server.port}"
        assert ask(f"redis://ann:p%40ss%2Fword@{place}", "GET", "k") is None
        with pytest.raises(StoreUnavailable, match="No permissions to access a key") as caught:
            ask(f"redis://ann:p%40ss%2Fword@{place}", "GET", "other")
        assert "p@ss" not in str(caught.value)
        with pytest.raises(StoreUnavailable, match="AuthenticationError") as caught:
            ask(f"redis://ann:sEcReT@{place}", "GET", "k")
        assert "sEcReT" not in str(caught.value)
        with pytest.raises(StoreUnavailable, match="Authentication"):
            ask(f"redis://{place}", "GET", "k")


@pytest.mark.slow
def test_a_cluster(redis_cluster):
    for key in ("a", "b"):
        ask(redis_cluster.url, "SET", key, key)
        assert ask(redis_cluster.url, "GET", key) == key.encode()


def test_an_older_driver_is_refused_for_a_cluster(monkeypatch):
    import redis

    monkeypatch.setattr(redis, "__version__", "7.4.2")
    for open_one in (open_client, open_async_client):
        with pytest.raises(ConfigurationError, match=r"redis-py 8 or later, and this is 7\.4\.2"):
            open_one(RedisAddress.read("redis+cluster://h"), 1.0)
        open_one(RedisAddress.read("redis://h"), 1.0)


@pytest.mark.slow
def test_a_cluster_is_found_by_any_of_its_nodes(redis_cluster, tmp_path):
    last = redis_cluster.nodes[-1].port
    assert ask(f"redis+cluster://{HOST}:1,{HOST}:{last}", "SET", "x", "1")


def with_passwords(group):
    """From here on, the Sentinel and the primary want to know who it is."""
    primary = group.nodes[1]
    primary.command("ACL", "SETUSER", "ann", "on", ">of ann", "~*", "+@all")
    group.sentinels[0].command("ACL", "SETUSER", "default", "resetpass", ">of sentinel")


@pytest.mark.slow
async def test_sentinels_and_a_failover(tmp_path):
    with sentinel_group(tmp_path) as group:
        address = RedisAddress.read(group.url)
        with open_client(address, 2.0) as threads:
            assert threads.execute_command("SET", "k", "1")
        wait_until(lambda: group.nodes[1].command("GET", "k") == "1")
        async with opened(address) as client:
            assert await client.execute_command("GET", "k") == b"1"
            # In good order: the old primary goes on taking writes until a Sentinel tells it, after 10 s.
            group.fail_over()
            looks = 0
            while int(group.nodes[1].command("DBSIZE")) < 2:
                await client.execute_command("SET", f"k{looks}", "2")
                looks += 1
            assert client.connection_pool.master_address == (HOST, group.nodes[1].port)
        with open_client(address, 2.0) as threads:
            assert threads.execute_command("GET", "k") == b"1"
            assert threads.connection_pool.master_address == (HOST, group.nodes[1].port)
        with_passwords(group)
        place = group.url.partition("://")[2]
        with pytest.raises(StoreUnavailable, match="Authentication"):
            await ask_async(address, "GET", "k")
        for right, options in ((False, ""), (True, "?sentinel_password=of%20sentinel")):
            let_in = RedisAddress.read(f"redis+sentinel://ann:of%20ann@{place}{options}")
            if right:
                assert await ask_async(let_in, "GET", "k") == b"1"
            else:
                with pytest.raises(StoreUnavailable, match="Authentication"):
                    await ask_async(let_in, "GET", "k")


def test_sentinels_that_are_not_there():
    with pytest.raises(StoreUnavailable, match="No master found"):
        ask(f"redis+sentinel://{HOST}:1,{HOST}:2/main", "PING")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with tls_valkey(tmp_path_factory.mktemp("tls")) as proxy:
        yield proxy.port


def test_tls_an_authority_that_is_known(port):
    assert ask(f"rediss://{HOST}:{port}?ssl_ca_certs={CA}", "ECHO", "x") == b"x"
    assert ask(f"rediss://localhost:{port}?ssl_ca_certs={CA}", "ECHO", "x") == b"x"


@pytest.mark.parametrize("options", ["", f"?ssl_ca_certs={WRONG_CA}"])
def test_tls_another_one_is_refused(port, options):
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        ask(f"rediss://{HOST}:{port}{options}", "ECHO", "x")


def test_tls_another_name_is_refused_unless_it_does_not_matter(port):
    # 127.0.0.2 is this machine too, and not in the certificate.
    with fault_proxy(port, host="127.0.0.2") as other:
        url = f"rediss://127.0.0.2:{other.port}?ssl_ca_certs={CA}"
        with pytest.raises(StoreUnavailable, match=r"mismatch|not valid for"):
            ask(url, "ECHO", "x")
        assert ask(f"{url}&ssl_check_hostname=false", "ECHO", "x") == b"x"


def test_tls_nothing_is_said_in_plain_text(port):
    with pytest.raises(StoreUnavailable):
        ask(f"redis://{HOST}:{port}", "ECHO", "x")


def test_tls_a_certificate_of_the_client(tmp_path):
    with tls_valkey(tmp_path, client_certificate=True) as proxy:
        url = f"rediss://{HOST}:{proxy.port}?ssl_ca_certs={CA}"
        with pytest.raises(StoreUnavailable):
            ask(url, "ECHO", "x")
        shown = f"&ssl_certfile={CA}&ssl_keyfile={TLS / 'key.pem'}"
        assert ask(url + shown, "ECHO", "x") == b"x"


def all_errors():
    """Every exception of the driver, and what else a socket, a parser or an event loop may raise."""
    found = [
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, Exception)
    ]
    others = [OSError, ConnectionResetError, TimeoutError, ssl.SSLError, EOFError, ValueError]
    return [*found, *others, RuntimeError, AttributeError, UnicodeDecodeError]


def made(kind):
    for arguments in (("why",), ("1 host:1",), (), ("utf-8", b"", 0, 1, "why")):
        try:
            return kind(*arguments)
        except (TypeError, ValueError, IndexError):
            continue
    return None


def test_no_error_of_the_driver_gets_through():
    kinds = all_errors()
    assert len(kinds) > 30
    for kind in kinds:
        error = made(kind)
        assert error is not None, kind
        why = f"the store did not answer: {kind.__name__}"
        with pytest.raises(StoreUnavailable, match=why), store_errors(WHAT):
            raise error


def test_errors_of_our_own_and_cancelling_pass():
    for error in (InvalidInput("mine"), asyncio.CancelledError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), store_errors(WHAT):
            raise error
    assert issubclass(StoreUnavailable, HeadgateError)


def test_a_cluster_that_is_away_is_no_defect(caplog):
    with pytest.raises(StoreUnavailable), store_errors(WHAT):
        raise exceptions.RedisClusterException("Redis Cluster cannot be connected")
    assert caplog.text == ""


def test_what_no_driver_announces_is_logged(caplog):
    with pytest.raises(StoreUnavailable), store_errors(WHAT):
        raise AttributeError("a defect")
    assert len(caplog.records) == 1


def test_what_is_no_address():
    assert address_of(object(), "an address") is None
    for text in ("reds://u:sEcReT@h", "u:sEcReT@h"):
        with pytest.raises(InvalidInput, match="an address, got") as caught:
            address_of(text, "an address")
        assert "sEcReT" not in str(caught.value)


async def test_a_primary_that_became_a_replica_is_left(tmp_path):
    with valkey(tmp_path / "v") as server, fault_proxy(server.port) as proxy:
        address = RedisAddress.read(proxy.url)
        client = open_client(address, 2.0)
        client.execute_command("SET", "k", "1")
        server.command("REPLICAOF", HOST, "1")
        async with opened(address) as other:
            await other.execute_command("GET", "k")
            assert proxy.open_connections == 2
            with pytest.raises(StoreUnavailable) as caught, store_errors(WHAT):
                client.execute_command("SET", "k", "1")
            heal(client, caught.value)
            with pytest.raises(exceptions.ReadOnlyError) as refused:
                await other.execute_command("SET", "k", "1")
            await heal_async(other, refused.value)
            wait_until(lambda: proxy.open_connections == 0)
            server.command("REPLICAOF", "NO", "ONE")
            assert await other.execute_command("SET", "k", "1")
        assert client.execute_command("SET", "k", "1")
        client.close()


async def test_another_error_leaves_the_connections_as_they_are(tmp_path):
    with valkey(tmp_path / "v") as server, fault_proxy(server.port) as proxy:
        async with opened(RedisAddress.read(proxy.url)) as client:
            with pytest.raises(exceptions.ResponseError) as caught:
                await client.execute_command("NONSENSE")
            await heal_async(client, caught.value)
            await client.execute_command("PING")
            assert proxy.connections == 1


def test_nothing_is_sent_twice(tmp_path):
    with valkey(tmp_path / "v") as server, fault_proxy(server.port) as proxy:
        client = open_client(RedisAddress.read(proxy.url), 0.05)
        client.execute_command("SET", "n", "0")
        proxy.hold(to_server=False)
        with pytest.raises(StoreUnavailable), store_errors(WHAT):
            client.execute_command("INCR", "n")
        proxy.restore()
        assert client.execute_command("INCR", "n") == 2
        client.close()
