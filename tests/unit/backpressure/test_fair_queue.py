"""The weighted fair queue, with plain numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from headgate.backpressure.fair_queue import FairOrder
from headgate.backpressure.flow_book import HAND, SHARDS, FlowBook, deal
from headgate.backpressure.waiting_order import Standing
from tests.support.seating import MS, SECOND, SERVICE, Play


def play(weights=None, max_waiting: int = 1000, seats: int = 1) -> Play:
    return Play(FairOrder(SECOND * 3600, weights or {}), seats, max_waiting)


def flood(queue: Play, flow: str, count: int, **properties: object) -> None:
    for n in range(count):
        queue.arrive(f"{flow}{n}", flow=flow, **properties)


def served(queue: Play, count: int, nanoseconds: int = SERVICE) -> Counter[str]:
    return Counter(name[0] for name in queue.serve(count, nanoseconds))


def test_an_elephant_does_not_stand_in_front_of_a_mouse():
    queue = play()
    flood(queue, "e", 50)
    queue.serve(10)
    queue.arrive("m", flow="m")
    assert "m" in queue.serve(2)


def test_flows_that_want_more_than_there_is_get_the_same():
    queue = play()
    for flow, count in (("a", 200), ("b", 90), ("c", 100)):
        flood(queue, flow, count)
    counts = served(queue, 240)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_weights_scale_the_shares():
    queue = play({"a": 3.0})
    flood(queue, "a", 200)
    flood(queue, "b", 200)
    counts = served(queue, 200)
    assert counts["a"] == pytest.approx(3 * counts["b"], abs=4)


def test_a_flow_that_was_idle_has_saved_nothing_up():
    queue = play()
    flood(queue, "a", 300)
    queue.serve(100)
    flood(queue, "b", 300)
    counts = served(queue, 100)
    assert abs(counts["a"] - counts["b"]) <= 2


def test_in_a_flow_the_first_to_come_is_the_first_to_go():
    queue = play()
    flood(queue, "a", 10)
    assert queue.serve(9) == [f"a{n}" for n in range(1, 10)]


def test_costs_count_by_the_seats_and_for_how_long():
    queue = play(seats=2)
    queue.arrive("h0", cost=2)
    flood(queue, "a", 100, cost=2)
    flood(queue, "b", 100)
    work: Counter[str] = Counter()
    for _ in range(90):
        seated = [c for c in queue.candidates.values() if c.standing is Standing.SEATED]
        leaver = min(seated, key=lambda candidate: candidate.ended)
        queue.now += SERVICE
        work[str(leaver.owner)[0]] += leaver.seats * (queue.now - leaver.ended)
        queue.leave(str(leaver.owner))
    assert work["a"] == pytest.approx(work["b"], rel=0.1)


def test_a_slow_flow_is_charged_what_it_took():
    queue = play()
    queue.arrive("h0")
    fast = slow = 0
    done = {"s": 0, "f": 0}
    for _ in range(4000):
        # Both keep a few waiting; each is charged alike at first.
        for flow, count in (("s", slow), ("f", fast)):
            if count < 4:
                queue.arrive(f"{flow}{done[flow]}-{len(queue.candidates)}", flow=flow)
        slow, fast = (min(4, slow + 1), min(4, fast + 1))
        seated = next(n for n, c in queue.candidates.items() if c.standing is Standing.SEATED)
        took = 50 * MS if seated[0] == "s" else 10 * MS
        queue.now += took
        queue.leave(seated)
        del queue.candidates[seated]
        if seated[0] in done:
            done[seated[0]] += took
            slow, fast = slow - (seated[0] == "s"), fast - (seated[0] == "f")
        if sum(done.values()) > 40 * SECOND:
            break
    assert done["s"] / done["f"] == pytest.approx(1.0, rel=0.05)


def test_a_large_one_is_served_while_small_ones_keep_coming():
    queue = play(seats=50)
    for n in range(50):
        queue.arrive(f"h{n}", flow="h")
    queue.arrive("large", flow="l", cost=50)
    coming = 0
    while queue.standing("large") is not Standing.SEATED:
        queue.arrive(f"s{coming}", flow=f"s{coming % 5}")
        queue.serve(1, MS)
        coming += 1
        assert coming < 400
    assert coming >= 50  # it waited for its turn


def test_without_room_a_mouse_takes_a_place_of_the_elephant():
    queue = play(max_waiting=10)
    flood(queue, "e", 20)
    assert queue.standing("e10") is Standing.WAITING
    assert queue.standing("e11") is Standing.REFUSED
    assert queue.arrive("m", flow="m") is Standing.WAITING
    assert queue.standing("e10") is Standing.EVICTED


def test_an_elephant_takes_nobodys_place_and_one_flow_not_its_own():
    queue = play(max_waiting=3)
    queue.arrive("h")
    for flow in "abc":
        queue.arrive(flow, flow=flow)
    queue.arrive("a2", flow="a")
    assert queue.standing("a2") is Standing.REFUSED
    queue = play(max_waiting=3)
    queue.arrive("h")
    flood(queue, "a", 3)
    queue.leave("a0")
    queue.arrive("again", flow="a")
    assert queue.arrive("more", flow="a") is Standing.REFUSED


def test_what_was_refused_evicted_or_left_is_not_held_against_a_flow():
    queue = play(max_waiting=10)
    flood(queue, "e", 1000)
    for n in range(1, 11):
        queue.leave(f"e{n}")
    assert queue.seating.waiting == 0
    flood(queue, "m", 5)
    queue.arrive("x", flow="e")
    assert "x" in queue.serve(3)


def test_it_is_put_right_even_when_nothing_of_the_flow_waits():
    queue = play(seats=2)
    queue.arrive("a", flow="a")
    queue.arrive("holder", flow="h")
    queue.wait(10 * SERVICE)
    queue.leave("a")  # it took ten times what it was charged
    queue.arrive("b", flow="b")
    for name in ("c", "d"):
        queue.arrive(name, flow={"c": "a"}.get(name, name))
    queue.leave("b")
    assert queue.order[-1] == "d"


def test_when_nothing_is_left_all_begin_anew():
    queue = play()
    flood(queue, "a", 100)
    queue.serve(99, 3 * SERVICE)
    queue.leave("a99")
    queue.arrive("holder", flow="a")
    queue.arrive("first", flow="a")
    queue.arrive("second", flow="b")
    assert queue.serve(2) == ["first", "second"]  # what "a" took before is forgotten


def test_accounts_are_forgotten_when_they_say_nothing():
    queue = play(seats=4)
    book = queue.seating._order._lane._book
    for n in range(1000):
        queue.arrive(f"f{n}", flow=f"f{n}")
        if n >= 3:
            queue.serve(1)
        assert len(book) <= 64
    for name in [f"f{n}" for n in range(900, 1000)]:
        queue.leave(name)
    assert len(book) == 0
    assert book.weight == 0.0


def test_a_stream_of_new_flows_does_not_keep_an_old_one_waiting():
    queue = play()
    flood(queue, "a", 50)
    for n in range(100):
        queue.arrive(f"x{n}", flow=f"x{n}")
        queue.serve(1)
    # With n others waiting "a" gets 1/(n+1), and n grows as the square root of 2 * 100 at most. In a virtual
    # time that goes by the starts alone it would get its first, and no other.
    assert 8 <= sum(name[0] == "a" for name in queue.order) <= 14


def test_beyond_the_bound_flows_share_accounts():
    book = FlowBook({"vip": 2.0}, max_flows=10)
    for n in range(10):
        flow = book.account(f"f{n}")
        flow.last = 100.0
        book.opened(flow)
    stranger = book.account("stranger")
    assert stranger.is_shared
    book.opened(stranger)
    book.closed(stranger, 0.0)
    assert not book.account("vip").is_shared
    assert book.account("f3") is not stranger
    assert len(book) == 10


def test_accounts_that_are_no_more_ahead_make_room():
    book = FlowBook({}, max_flows=10)
    flows = [book.account(f"f{n}") for n in range(10)]
    for flow in flows:
        book.opened(flow)
        flow.last = 100.0
    for flow in flows[:5]:
        book.closed(flow, 0.0)
    book.opened(flows[0])
    book.closed(flows[0], 0.0)
    book.advance(50.0)
    assert book.account("new").is_shared
    assert (len(book), book.weight) == (10, 10.0)
    book.advance(100.0)
    assert not book.account("new").is_shared
    assert (len(book), book.weight) == (5, 5.0)


def test_a_stranger_is_spoilt_by_a_heavy_one_only_where_all_its_cards_are():
    book = FlowBook({}, max_flows=0)
    for _ in range(100):
        book.account("elephant").last += 1000.0
    assert all(book.account(f"mouse {n}").last == 0.0 for n in range(300))


def test_a_stranger_is_not_put_behind_what_waits_in_a_shared_account():
    book = FlowBook({}, max_flows=0)
    for _ in range(100):
        book.account("elephant").work += 1000.0
    assert all(book.account(f"mouse {n}").work == 0.0 for n in range(300))


def test_a_secret_deals_other_hands():
    one, other = FlowBook({}, max_flows=0, secret=b"a"), FlowBook({}, max_flows=0, secret=b"b")
    places = [
        [book._shards.index(book.account(f"{n}")) for n in range(50)] for book in (one, other)
    ]
    assert places[0] != places[1]


def test_hands_are_of_different_cards_and_every_card_is_dealt_as_often():
    counts: Counter[int] = Counter()
    for n in range(4000):
        hand = deal(n * 0x9E3779B97F4A7C15 % 2**64)
        assert len(set(hand)) == HAND
        counts.update(hand)
    assert set(counts) == set(range(SHARDS))
    assert max(counts.values()) < 1.5 * min(counts.values())
