"""At most n in any window, by plain numbers."""

from __future__ import annotations

import pytest

from headgate.backpressure.iteration_window import IterationWindow

WINDOW = 6_400
SLOT = 100
YEAR = 366 * 86_400 * 10**9


def test_it_holds_as_many_as_the_limit_and_no_more():
    window = IterationWindow(3, WINDOW)
    assert [window.take(1, 5_000) for _ in range(4)] == [True, True, True, False]
    assert window.room(5_000) == 0


def test_a_batch_passes_whole_or_not_at_all():
    window = IterationWindow(10, WINDOW)
    assert window.take(7, 0)
    assert not window.take(4, 0)
    assert window.take(3, 0)


def test_what_was_taken_counts_for_a_window_and_at_most_a_slot_more():
    window = IterationWindow(1, WINDOW)
    assert window.take(1, 1_000)
    assert window.room(1_000 + WINDOW) == 0
    assert window.wait(1, 1_000 + WINDOW) == SLOT
    assert window.room(1_000 + WINDOW + SLOT) == 1


def test_the_wait_is_until_enough_is_over_and_not_longer():
    window = IterationWindow(10, WINDOW)
    window.take(4, 0)
    window.take(6, 1_050)
    assert window.wait(4, 2_000) == WINDOW + SLOT - 2_000
    wait = window.wait(5, 2_000)
    assert not window.take(5, 2_000 + wait - 1)
    assert window.take(5, 2_000 + wait)


@pytest.mark.parametrize("jump", [-1, -WINDOW, -YEAR, -200 * YEAR])
def test_a_clock_that_goes_back_hands_nothing_out_and_holds_nobody_up_for_longer(jump):
    window = IterationWindow(2, WINDOW)
    now = 250 * YEAR
    window.take(2, now)
    now += jump
    assert window.room(now) == 0
    assert window.wait(1, now) <= WINDOW + SLOT
    assert window.take(2, now + WINDOW + SLOT)


@pytest.mark.parametrize("jump", [WINDOW + SLOT, YEAR, 200 * YEAR])
def test_a_clock_that_leaps_ahead_empties_the_window(jump):
    window = IterationWindow(2, WINDOW)
    window.take(2, 7)
    assert window.take(2, 7 + jump)


def test_a_window_that_cannot_be_cut_evenly_is_not_cut_short():
    window = IterationWindow(1, 100)
    assert window.take(1, 0)
    assert not window.take(1, 100)
    assert window.take(1, 130)


def test_windows_shorter_than_their_slots_keep_the_bound():
    window = IterationWindow(1, 1)
    assert window.take(1, 0)
    assert not window.take(1, 1)
    assert window.take(1, 65)
