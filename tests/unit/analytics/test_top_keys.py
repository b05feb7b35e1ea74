"""The keys that are denied most: never accused of more than they did, never missed when they matter."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headgate.analytics.top_keys import TopKeys

STREAMS = st.lists(st.integers(0, 12).map(str), max_size=300)


def fed(stream: list[str], capacity: int) -> TopKeys:
    top = TopKeys(capacity)
    for key in stream:
        top.denied("p", key)
    return top


@given(STREAMS, st.integers(1, 8))
def test_no_key_is_accused_of_more_than_it_did(stream: list[str], capacity: int) -> None:
    truth = Counter(stream)
    for _, key, count in fed(stream, capacity).top(capacity):
        assert 0 <= count <= truth[key]


@given(STREAMS, st.integers(1, 8))
def test_who_is_denied_often_enough_is_counted(stream: list[str], capacity: int) -> None:
    counted = {key for _, key, _ in fed(stream, capacity).top(capacity)}
    for key, count in Counter(stream).items():
        if count * capacity > len(stream):
            assert key in counted


@given(STREAMS)
def test_with_room_for_all_the_counts_are_exact(stream: list[str]) -> None:
    counts = {key: count for _, key, count in fed(stream, 13).top(13)}
    assert counts == Counter(stream)


def test_a_flood_of_random_keys_does_not_hide_the_worst() -> None:
    top = TopKeys(capacity=16)
    for number in range(10_000):
        top.denied("p", f"random:{number}")
        if number % 4 == 0:
            top.denied("p", "the worst")
    [(policy, key, count)] = top.top(1)
    assert (policy, key) == ("p", "the worst")
    assert count > 2_000
    assert len(top.top(100)) == 16


def test_policies_are_kept_apart() -> None:
    top = TopKeys()
    top.denied("a", "k")
    top.denied("b", "k")
    top.denied("b", "k")
    assert top.top(5) == [("b", "k", 2), ("a", "k", 1)]
    assert top.top(0) == []
