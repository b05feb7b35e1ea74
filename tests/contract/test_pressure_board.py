"""What every board of pressures must do, and what the one on Redis or Valkey does when that is in trouble."""

from __future__ import annotations

import builtins
import os
import signal
from itertools import count

import pytest
import redis

from headgate.coordination.redis_pressures import RedisPressures
from headgate.engine.pressures import PressureBoard, PressureNote, Pressures
from headgate.errors import ConfigurationError, InvalidInput, StoreUnavailable
from headgate.gates.global_pressure import GlobalPressure
from headgate.lab.cluster import Board
from headgate.lab.simulation import Simulation
from headgate.testing import ManualClock
from headgate.wiring.pressures import open_pressures
from tests.support import servers

pytestmark = pytest.mark.needs_redis

SECOND = 10**9
NAMES = count()


@pytest.fixture
def cluster():
    return f"cluster-{os.getpid()}-{next(NAMES)}"


@pytest.fixture
def url(redis_server):
    return f"redis://{servers.HOST}:{redis_server.port}/0"


@pytest.fixture
def client(url):
    with redis.Redis.from_url(url) as made:
        yield made


@pytest.fixture(params=["memory", "laboratory", "address", "client", "decoding client"])
def board(request, url, cluster):
    if request.param == "memory":
        yield Pressures(ManualClock())
        return
    if request.param == "laboratory":
        yield Board(Simulation())
        return
    decoding = request.param == "decoding client"
    client = redis.Redis.from_url(url, decode_responses=decoding)
    made = RedisPressures(url if request.param == "address" else client, cluster, 5 * SECOND)
    yield made
    made.close()
    client.close()


def test_it_is_what_nodes_ask(board):
    assert isinstance(board, PressureBoard)


def test_a_note_stays_in_place_of_the_nodes_last(board):
    assert list(board.exchange(None)) == []
    first, second = PressureNote("a b", 0.25, 2.0, 7), PressureNote("é", 1.5, 0.5, 10**15)
    assert list(board.exchange(first)) == [first]
    assert sorted(board.exchange(second)) == [first, second]
    later = first._replace(pressure=0.75, seq=8)
    assert sorted(board.exchange(later)) == [later, second]
    assert sorted(board.exchange(None)) == [later, second]


# --- on a server ------------------------------------------------------------------------------------------


def test_clusters_do_not_see_each_other(url, cluster):
    one, other = (RedisPressures(url, name, 5 * SECOND) for name in (cluster, f"{cluster}-other"))
    one.exchange(PressureNote("a", 1.0, 1.0, 1))
    assert other.exchange(None) == []
    one.close()
    other.close()


@pytest.mark.parametrize(
    "entry", ["1 1.0 1 1", "9999999999999 1.0 1 1", "rubbish", "", "{now}", "{now} 1.0 1 1"]
)
def test_notes_of_the_past_the_far_future_and_rubbish_are_dropped(url, client, cluster, entry):
    key = f"headgate:pressure:{cluster}"
    client.hset(key, "odd", entry.format(now=int(client.time()[0]) * 1000))
    board = RedisPressures(url, cluster, 5 * SECOND)
    note = PressureNote("a", 1.0, 1.0, 1)
    assert board.exchange(note) == [note]
    assert client.hkeys(key) == [b"a"]
    board.close()


def test_a_note_that_cannot_be_read_does_not_hide_the_others(url, client, cluster):
    soon = int(client.time()[0]) * 1000 + 1_400
    client.hset(f"headgate:pressure:{cluster}", "odd", f"{soon} 1.0 one 1")
    board = RedisPressures(url, cluster, 5 * SECOND)
    note = PressureNote("a", 1.0, 1.0, 1)
    assert board.exchange(note) == [note]
    board.close()


def test_a_cluster_without_nodes_leaves_nothing_behind(url, client, cluster):
    board = RedisPressures(url, cluster, 5 * SECOND)
    board.exchange(PressureNote("a", 1.0, 1.0, 1))
    assert 0 < client.pttl(f"headgate:pressure:{cluster}") <= 3_000
    board.close()


def test_flushed_scripts_are_sent_again(url, client, cluster):
    board = RedisPressures(url, cluster, 5 * SECOND)
    for seq in range(3):
        client.script_flush()
        assert len(board.exchange(PressureNote("a", 1.0, 1.0, seq))) == 1
    board.close()


def test_what_is_no_hash_is_an_error_of_the_store(url, client, cluster):
    client.set(f"headgate:pressure:{cluster}", "rubbish")
    board = RedisPressures(url, cluster, 5 * SECOND)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        board.exchange(None)
    board.close()


def test_an_answer_that_is_no_list_is_an_error_of_the_store(url, cluster, monkeypatch):
    board = RedisPressures(url, cluster, 5 * SECOND)
    monkeypatch.setattr(board._client, "evalsha", lambda *_: 7)
    with pytest.raises(StoreUnavailable, match="in place of a list"):
        board.exchange(None)
    board.close()


def test_nobody_there(cluster):
    board = RedisPressures(f"redis://{servers.HOST}:{servers.free_port()}", cluster, SECOND)
    with pytest.raises(StoreUnavailable):
        board.exchange(None)
    board.close()


def test_a_server_that_hangs_is_not_waited_for(tmp_path, cluster):
    with servers.redis_server(tmp_path) as server:
        board = RedisPressures(f"redis://{servers.HOST}:{server.port}", cluster, SECOND // 20)
        board.exchange(None)
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                board.exchange(None)
        finally:
            server.process.send_signal(signal.SIGCONT)
        board.close()


async def test_a_cluster_through_the_death_of_its_store(tmp_path, cluster):
    clock = ManualClock()
    local = {"a": 0.2, "b": 0.2, "c": 1.8, "d": 0.3}
    with servers.redis_server(tmp_path) as server:
        url = f"valkey://{servers.HOST}:{server.port}"
        views = {
            name: GlobalPressure(
                name,
                lambda name=name: local[name],
                shared=url,
                cluster=cluster,
                timeout=5,
                clock=clock,
            )
            for name in local
        }
        for _ in range(2):
            for view in views.values():
                assert await view.exchange_async()
        assert [view.sick() for view in views.values()] == [["c"], ["c"], [], ["c"]]
        assert views["a"].pressure() == 0.2
    for view in views.values():
        assert not view.exchange()
    clock.advance(30)
    assert views["a"].nodes() == {"a": 0.2}
    for view in views.values():
        view.close()


def test_without_the_driver_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_redis(name, *rest):
        if name == "redis":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_redis)
    with pytest.raises(ConfigurationError, match=r"headgate\[redis\]"):
        open_pressures("redis://127.0.0.1", "default", SECOND)


def test_an_address_that_cannot_be_read():
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_pressures("redis://127.0.0.1:port", "default", SECOND)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_store_that_is_away_keeps_nobody_from_starting(scheme):
    board = open_pressures(f"{scheme}://127.0.0.1:1", "default", SECOND)
    board.follow(lambda note: None)
    with pytest.raises(StoreUnavailable):
        board.exchange(None)
    assert not board.live
    board.close()
