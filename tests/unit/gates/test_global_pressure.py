"""A node's view of its cluster and of the services behind it."""

from __future__ import annotations

import asyncio
from math import inf, nan

import pytest

from headgate.backpressure.pressure_header import PressureReport, parse_pressure
from headgate.engine.pressures import PressureNote, Pressures
from headgate.errors import InvalidInput, StoreUnavailable
from headgate.gates.global_pressure import GlobalPressure
from headgate.testing import ManualClock


class Board:
    """A dictionary, which can be out of order."""

    def __init__(self):
        self.notes = {}
        self.broken = False
        self.published = 0
        self.asked = 0
        self.hangs = None
        self.closed = False

    def exchange(self, note):
        self.asked += 1
        if self.hangs is not None:
            self.hangs.advance(0.05)
        if self.broken:
            raise StoreUnavailable("gone")
        if note is not None:
            self.notes[note.node] = note
            self.published += 1
        return list(self.notes.values())

    def close(self):
        self.closed = True


class Node:
    def __init__(self, name, board, clock, capacity=1.0):
        self.local = 0.2
        self.view = GlobalPressure(
            name, lambda: self.local, shared=board, clock=clock, capacity=capacity
        )


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def nodes(board, clock):
    return [Node(name, board, clock) for name in "abcd"]


def tick(nodes, clock, seconds=0.1):
    clock.advance(seconds)
    for node in nodes:
        node.view.exchange()


def test_a_sick_node_is_left_out_and_makes_nobody_shed(nodes, clock):
    nodes[1].local = 2.0
    for _ in range(2):
        tick(nodes, clock)
    assert [node.view.sick() for node in nodes] == [["b"], [], ["b"], ["b"]]
    assert [node.view.pressure() for node in nodes] == [0.2, 2.0, 0.2, 0.2]
    assert nodes[0].view.nodes() == {"a": 0.2, "b": 2.0, "c": 0.2, "d": 0.2}


def test_a_cluster_in_trouble_sheds_as_one(nodes, clock):
    for node in nodes[:3]:
        node.local = 1.2
    for _ in range(2):
        tick(nodes, clock)
    assert nodes[3].view.pressure() == pytest.approx((3 * 1.2 + 0.2) / 4)
    assert nodes[0].view.pressure() == 1.2


def test_capacity_weighs(board, clock):
    big, small = Node("big", board, clock, capacity=3), Node("small", board, clock)
    big.local, small.local = 1.5, 0.8
    for _ in range(2):
        tick([big, small], clock)
    assert small.view.pressure() == pytest.approx((3 * 1.5 + 0.8) / 4)


def test_without_the_board_each_node_fades_to_its_own(nodes, clock, board, caplog):
    caplog.set_level("INFO")
    for node in nodes:
        node.local = 1.0
    for _ in range(2):
        tick(nodes, clock)
    nodes[0].local = 0.4
    board.broken = True
    for _ in range(100):
        tick(nodes, clock)
    assert nodes[0].view.pressure() == 0.4
    assert not nodes[0].view.connected
    failures = [r for r in caplog.records if "board of pressures failed" in r.message]
    assert len(failures) == len(nodes)


def test_when_the_board_is_back_all_is_known_after_one_round(nodes, clock, board):
    board.broken = True
    for _ in range(100):
        tick(nodes, clock)
    board.broken, board.notes = False, {}
    nodes[2].local = 1.9
    tick(nodes, clock)
    tick(nodes, clock)
    assert [node.view.sick() for node in nodes] == [["c"], ["c"], [], ["c"]]
    assert all(node.view.connected for node in nodes)


def test_it_tells_only_what_is_news(nodes, clock, board):
    tick(nodes, clock)
    before = board.published
    for _ in range(4):
        tick(nodes, clock)
    assert board.published == before
    nodes[0].local = 0.26
    tick(nodes, clock)
    assert board.published == before + 4  # half a second is over for all of them


def test_what_could_not_be_told_is_told_as_soon_as_the_board_is_back(nodes, clock, board):
    tick(nodes, clock)
    board.broken, nodes[0].local = True, 1.9
    nodes[0].view.exchange()
    board.broken = False
    nodes[0].view.exchange()
    assert board.notes["a"].pressure == 1.9


def test_a_board_that_hangs_is_left_alone_for_twenty_times_as_long(nodes, clock, board):
    view = nodes[0].view
    board.broken, board.hangs = True, clock
    assert not view.exchange()
    clock.advance(0.999)
    assert not view.exchange()
    assert board.asked == 1
    clock.advance(0.001)
    assert not view.exchange()
    assert board.asked == 2
    clock.advance(-10_000)
    assert not view.exchange()
    assert board.asked == 3


async def test_a_task_exchanges_until_it_is_cancelled(nodes, clock, board):
    task = asyncio.create_task(nodes[0].view.run())
    while board.asked < 3:
        await clock.sleep_async(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    nodes[0].view.close()
    assert board.closed


@pytest.mark.parametrize("timeout", [0, -1, nan, inf, True, "1", 11])
def test_timeouts_that_make_no_sense(timeout):
    with pytest.raises(InvalidInput, match="timeout must be above 0"):
        GlobalPressure("a", lambda: 0.0, timeout=timeout)


@pytest.mark.parametrize("shared", ["http://127.0.0.1", "redis", 7, object()])
def test_stores_that_are_none(shared):
    with pytest.raises(InvalidInput, match="shared must be an address"):
        GlobalPressure("a", lambda: 0.0, shared=shared)


def test_two_notes_of_one_millisecond_have_their_order(nodes, clock):
    first = nodes[0].view.note()
    nodes[0].local = 1.9
    assert nodes[0].view.note().seq > first.seq


def test_a_node_that_starts_anew_is_believed(board, clock):
    first = Node("a", board, clock).view
    other = GlobalPressure("b", lambda: 0.0, clock=clock)
    old = first.note()
    assert other.hear(old)
    clock.advance(0.01)
    assert other.hear(Node("a", board, clock).view.note())
    assert not other.hear(old)


def test_ones_own_note_is_no_news(nodes, clock):
    assert not nodes[0].view.hear(PressureNote("a", 2.0, 1.0, 10**18))


def test_who_says_goodbye_is_forgotten(nodes, clock):
    nodes[1].local = 2.0
    tick(nodes, clock)
    tick(nodes, clock)
    view = nodes[0].view
    assert view.goodbye("b")
    assert not view.goodbye("b")
    assert view.sick() == []


def test_what_is_behind_a_service_is_forwarded_for_each_api(clock):
    view = GlobalPressure("a", lambda: 0.3, clock=clock)
    assert view.hear_downstream("billing", PressureReport(1.4, 0.5, 1000, 7))
    assert not view.hear_downstream("billing", PressureReport(0.1, 1.0, 1000, 6))
    assert view.forwarded("billing") == 1.4
    assert view.forwarded("search") == 0.3
    assert view.pressure() == 0.3
    clock.advance(2.0)  # fresh for one second, stale for another
    assert view.forwarded("billing") == pytest.approx(0.85)


def test_without_a_board_it_has_nothing_to_exchange(clock):
    view = GlobalPressure("a", lambda: 0.3, clock=clock)
    assert not view.exchange()
    assert not view.connected


@pytest.mark.parametrize("pressure", [nan, -1.0, inf])
def test_a_local_source_that_gives_no_number_is_no_pressure(clock, pressure):
    view = GlobalPressure("a", lambda: pressure, clock=clock)
    assert view.pressure() == 0.0
    assert view.note().pressure == 0.0


def test_hostile_notes_are_not_believed(clock):
    view = GlobalPressure("a", lambda: 0.3, clock=clock)
    assert not view.hear(PressureNote("b", nan, 1.0, 1))
    assert not view.hear(PressureNote("b", 1.0, -1.0, 1))
    for number in range(5_000):
        view.hear(PressureNote(f"node-{number}", 2.0, 1.0, 1))
    assert len(view._nodes) == 1_000


@pytest.mark.parametrize(
    "note",
    [
        ("b", "2.0", 1.0, 1),
        ("b", 2.0, None, 1),
        ("b", 2.0, 1.0, "1"),
        ("b", 2.0, 1.0, nan),
        (None, 2.0, 1.0, 1),
        ("", 2.0, 1.0, 1),
        ("x" * 1025, 2.0, 1.0, 1),
    ],
)
def test_a_board_with_a_broken_note_does_not_hide_the_others(nodes, clock, board, note):
    nodes[1].local = 2.0
    tick(nodes, clock)
    board.notes["0"] = PressureNote(*note)
    assert nodes[0].view.exchange()
    assert nodes[0].view.sick() == ["b"]


@pytest.mark.parametrize("capacity", [0, -1, nan, inf, True, 1e10, "1", None])
def test_capacities_that_make_no_sense(capacity):
    with pytest.raises(InvalidInput, match="capacity must be above 0"):
        GlobalPressure("a", lambda: 0.0, capacity=capacity)


def test_other_arguments_that_make_no_sense():
    with pytest.raises(InvalidInput, match="local must be a callable"):
        GlobalPressure("a", 0.5)
    for name in ("", "x" * 1025, None, 3):
        with pytest.raises(InvalidInput, match="node must be text of 1 to 1024 characters"):
            GlobalPressure(name, lambda: 0.0)


def test_a_downstream_that_says_nothing_believable_is_not_heard(clock):
    cluster = GlobalPressure("a", lambda: 0.5, clock=clock)
    assert not cluster.hear_downstream("search", parse_pressure("v=1;p=nan"))
    assert not cluster.hear_downstream("search", 5)
    assert cluster.forwarded("search") == 0.5


# --- on a board that calls out ----------------------------------------------------------------------------


@pytest.fixture
def feed(clock):
    return Pressures(clock)


@pytest.fixture
def hearing(feed, clock):
    found = [Node(name, feed, clock) for name in "abcd"]
    for node in found:
        node.view.exchange()
    return found


def test_what_is_called_out_is_known_at_once(hearing, clock):
    clock.advance(0.1)
    hearing[2].local = 1.9
    hearing[2].view.exchange()
    assert [node.view.sick() for node in hearing] == [["c"], ["c"], [], ["c"]]


def test_who_hears_all_asks_only_to_tell(hearing, feed, clock):
    feed.alive = False
    clock.advance(0.1)
    assert hearing[0].view.exchange()  # the board was not asked
    clock.advance(0.4)
    assert not hearing[0].view.exchange()
    assert not hearing[0].view.connected


def test_a_newcomer_reads_what_was_called_out_before_it_came(hearing, feed, clock):
    newcomer = Node("e", feed, clock)
    newcomer.view.exchange()
    assert set(newcomer.view.nodes()) == set("abcde")


def test_who_hears_nothing_any_more_reads(hearing, feed, clock):
    feed.live = False
    hearing[2].local = 1.9
    clock.advance(0.1)
    hearing[2].view.exchange()
    assert hearing[0].view.sick() == []
    hearing[0].view.exchange()
    assert hearing[0].view.sick() == ["c"]


def test_notes_that_are_not_renewed_are_dropped_by_the_board(feed, clock):
    feed.exchange(PressureNote("a", 1.0, 1.0, 1))
    clock.advance(1.5)
    assert feed.exchange(None) == []


def test_what_was_left_before_it_could_be_heard_is_read_once(hearing, feed, clock):
    feed.live = False
    clock.advance(0.1)
    hearing[0].view.exchange()
    hearing[2].local = 1.9
    hearing[2].view.exchange()
    feed.live = True  # the subscription is back; what was called out before went unheard
    clock.advance(0.1)
    hearing[0].view.exchange()
    assert hearing[0].view.sick() == ["c"]
    feed.alive = False
    assert hearing[0].view.exchange()  # and is not asked again
