"""Waits that grow, by plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.backoff import Backoff

MS = 1_000_000


def test_ceilings_grow_by_the_factor_up_to_the_most():
    backoff = Backoff(10 * MS, 1.5, 1_000 * MS)
    waits = [backoff.next(0.0) / MS for _ in range(14)]
    assert waits[:4] == [10, 15, 22.5, 33.75]
    assert waits[11:] == pytest.approx([864.97, 1_000, 1_000], abs=0.01)


def test_progress_starts_anew():
    backoff = Backoff(10 * MS, 2.0, 1_000 * MS)
    backoff.next(0.0)
    backoff.next(0.0)
    backoff.reset()
    assert backoff.next(0.0) == 10 * MS


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=80))
def test_each_wait_is_in_the_upper_half_of_its_ceiling(draws):
    backoff = Backoff(10 * MS, 1.5, 1_000 * MS)
    ceiling = 10.0 * MS
    for uniform in draws:
        wait = backoff.next(uniform)
        assert ceiling / 2 - 1 <= wait <= ceiling
        ceiling = min(ceiling * 1.5, 1_000 * MS)


def test_a_wait_is_never_nothing():
    assert Backoff(1, 1.0, 1).next(0.999) == 1
