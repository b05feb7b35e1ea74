"""What every board must do that calls notes out, and how the one on Redis or Valkey finds back."""

from __future__ import annotations

import os
import signal
from itertools import count

import pytest
import redis

from headgate.coordination.redis_pressures import RedisPressures
from headgate.engine.pressures import PressureBoard, PressureFeed, PressureNote, Pressures
from headgate.errors import StoreUnavailable
from headgate.gates.global_pressure import GlobalPressure
from headgate.testing import ManualClock
from tests.support import servers
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs_redis

SECOND = 10**9
NAMES = count()


@pytest.fixture
def cluster():
    return f"feed-{os.getpid()}-{next(NAMES)}"


@pytest.fixture
def url(redis_server):
    return f"redis://{servers.HOST}:{redis_server.port}/0"


@pytest.fixture
def client(url):
    with redis.Redis.from_url(url) as made:
        yield made


@pytest.fixture(params=["memory", "address", "decoding client"])
def boards(request, url, cluster):
    """Two boards of one cluster, as two nodes have them."""
    if request.param == "memory":
        one = Pressures(ManualClock())
        yield one, one
        return
    with redis.Redis.from_url(url, decode_responses=True) as decoding:
        shared = url if request.param == "address" else decoding
        made = [RedisPressures(shared, cluster, 5 * SECOND) for _ in range(2)]
        yield tuple(made)
        for board in made:
            board.close()


def test_it_is_a_board_that_calls_out(boards):
    assert isinstance(boards[0], PressureBoard)
    assert isinstance(boards[0], PressureFeed)


def test_a_note_is_heard_without_asking(boards):
    one, other = boards
    heard = []
    assert not one.live
    one.follow(heard.append)
    eventually(lambda: one.live)
    notes = [PressureNote("a b", 0.25, 2.0, 7), PressureNote("é", 1.5, 0.5, 10**15)]
    for note in notes:
        other.exchange(note)
    eventually(lambda: len(heard) == 2)
    assert heard == notes


def test_asking_alone_calls_nothing_out(boards):
    one, other = boards
    heard = []
    one.follow(heard.append)
    eventually(lambda: one.live)
    other.exchange(None)
    note = PressureNote("a", 1.0, 1.0, 1)
    other.exchange(note)
    eventually(lambda: heard == [note])


def test_who_comes_later_reads_what_was_left(boards):
    one, other = boards
    note = PressureNote("a", 1.0, 1.0, 1)
    other.exchange(note)
    assert list(one.exchange(None)) == [note]


# --- nodes on it ------------------------------------------------------------------------------------------


def views_on(url, cluster, clock, local):
    return {
        name: GlobalPressure(
            name, lambda name=name: local[name], shared=url, cluster=cluster, timeout=5, clock=clock
        )
        for name in local
    }


def test_a_sick_node_is_known_to_all_after_its_one_note(url, cluster):
    clock, local = ManualClock(), dict.fromkeys("abcd", 0.2)
    views = views_on(url, cluster, clock, local)
    for view in views.values():
        view.exchange()
    eventually(lambda: all(view._feed.live for view in views.values()))
    local["c"] = 1.8
    clock.advance(0.1)
    views["c"].exchange()  # nobody else asks anything
    eventually(lambda: all(views[name].sick() == ["c"] for name in "abd"))
    assert [views[name].pressure() for name in "abd"] == [0.2] * 3
    for view in views.values():
        view.close()


def test_who_hears_all_asks_only_when_it_has_something_to_tell(url, client, cluster):
    clock, local = ManualClock(), {"a": 0.2}
    view = views_on(url, cluster, clock, local)["a"]
    view.exchange()
    eventually(lambda: view._feed.live)
    view.exchange()  # what was left before it could be heard
    asked = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(4):
        clock.advance(0.1)
        assert view.exchange()
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == asked
    clock.advance(0.1)
    assert view.exchange()
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == asked + 1
    view.close()


# --- in trouble -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_subscription_that_was_cut_off_falls_back_to_the_hash_and_comes_back(
    url, client, cluster
):
    one, other = (RedisPressures(url, cluster, 5 * SECOND) for _ in range(2))
    heard = []
    one.follow(heard.append)
    eventually(lambda: one.live)
    client.client_kill_filter(_type="pubsub")
    lost = PressureNote("a", 1.0, 1.0, 1)
    other.exchange(lost)
    assert list(one.exchange(None)) == [lost]
    eventually(lambda: client.pubsub_numsub(f"headgate:pressure:{cluster}")[0][1] == 1)
    later = lost._replace(seq=2)
    other.exchange(later)
    eventually(lambda: later in heard)
    assert one.live
    one.close()
    other.close()


@pytest.mark.slow
def test_it_comes_back_after_the_death_of_its_server(tmp_path, cluster):
    port = servers.free_port()
    url = f"redis://{servers.HOST}:{port}"
    heard = []
    board = RedisPressures(url, cluster, SECOND)
    board.follow(heard.append)
    with pytest.raises(StoreUnavailable):
        board.exchange(None)
    assert not board.live
    program = servers.require_program("valkey-server", "redis-server")
    command = [program, "--bind", servers.HOST, "--port", str(port), "--save", ""]
    for name in ("one", "two"):
        with servers.running(command, port=port, directory=tmp_path / name) as server:
            eventually(lambda: board.live)
            note = PressureNote(name, 1.0, 1.0, 1)
            assert list(board.exchange(note)) == [note]
            eventually(lambda note=note: note in heard)
            server.process.kill()
            eventually(lambda: not board.live)
    board.close()


@pytest.mark.slow
def test_a_server_that_hangs_is_noticed_and_found_again(tmp_path, cluster):
    with servers.redis_server(tmp_path) as server:
        url = f"redis://{servers.HOST}:{server.port}"
        board = RedisPressures(url, cluster, SECOND // 20)
        heard = []
        board.follow(heard.append)
        eventually(lambda: board.live)
        server.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: not board.live)
        finally:
            server.process.send_signal(signal.SIGCONT)
        eventually(lambda: board.live)
        note = PressureNote("a", 1.0, 1.0, 1)
        eventually(lambda: board.exchange(note) == [note])
        eventually(lambda: note in heard)
        board.close()


def test_rubbish_on_the_channel_is_passed_over(url, client, cluster):
    board = RedisPressures(url, cluster, 5 * SECOND)
    heard = []
    board.follow(heard.append)
    eventually(lambda: board.live)
    channel = f"headgate:pressure:{cluster}"
    for message in ("", "rubbish", "a b c d", "1.0 1 1", b"\xff 1 1 1", "1.0 1 1 a"):
        client.publish(channel, message)
    eventually(lambda: heard)
    assert heard == [PressureNote("a", 1.0, 1.0, 1)]
    board.close()


def test_what_a_listener_raises_does_not_end_the_listening(url, cluster):
    board = RedisPressures(url, cluster, 5 * SECOND)
    heard = []

    def hear(note):
        heard.append(note)
        raise KeyError(note)

    board.follow(hear)
    eventually(lambda: board.live)
    for seq in range(2):
        board.exchange(PressureNote("a", 1.0, 1.0, seq))
    eventually(lambda: len(heard) == 2)
    board.close()


def test_a_user_who_may_not_publish_leaves_notes_all_the_same(url, client, cluster):
    client.execute_command(
        "ACL", "SETUSER", "quiet", "on", ">secret", "~headgate:*", "+@all", "-publish", "-@pubsub"
    )
    board = RedisPressures(url.replace("redis://", "redis://quiet:secret@"), cluster, 5 * SECOND)
    note = PressureNote("a", 1.0, 1.0, 1)
    board.follow(lambda _: None)
    assert board.exchange(note) == [note]
    assert not board.live
    board.close()
