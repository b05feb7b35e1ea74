"""The one answer: complete, a value, and fit to travel."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from headgate.decision import NEVER, Decision
from headgate.errors import CircuitOpen, LineFull, RateLimited

YES = Decision(True, 10, 9, 0, 6_000_000_000, 1_500_000_000, "api", 60_000_000_000)
NO = Decision(False, 10, 0, 250_000_000, 60_000_000_000, 0, "api", 60_000_000_000)
BOTH = Decision(False, 10, 0, NEVER, 60_000_000_000, 0, "b", 60_000_000_000, (YES, NO))


def test_it_is_true_when_allowed():
    assert YES
    assert not NO


def test_seconds():
    assert (YES.retry_after, YES.reset_after, YES.delay) == (0.0, 6.0, 1.5)
    assert NO.retry_after == 0.25
    assert BOTH.retry_after == math.inf
    assert BOTH.never_fits
    assert not NO.never_fits


def test_it_is_a_value():
    assert copy.copy(NO) == NO != YES
    assert len({NO, copy.deepcopy(NO), YES}) == 2
    assert NO != "no"
    assert Decision(False, 10, 0, NEVER, 60_000_000_000, 0, "b", 60_000_000_000) != BOTH


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("decision", [YES, NO, BOTH])
def test_it_travels(decision, protocol):
    assert pickle.loads(pickle.dumps(decision, protocol)) == decision


@pytest.mark.parametrize("kind", [RateLimited, CircuitOpen, LineFull])
@pytest.mark.parametrize("decision", [NO, BOTH])
def test_so_does_the_exception_that_carries_it(kind, decision):
    error = pickle.loads(pickle.dumps(kind(decision, "ann")))
    assert type(error) is kind
    assert (error.decision, error.key) == (decision, "ann")
    assert str(error) == str(kind(decision, "ann"))


def test_it_shows_itself():
    assert repr(NO) == (
        "Decision(allowed=False, limit=10, remaining=0, retry_after=0.25, reset_after=60, "
        "delay=0, policy='api')"
    )


def test_one_that_is_kept_does_not_change_when_others_are_made():
    kept = [Decision(n % 2 == 0, n, n, n, n, n, str(n), n) for n in range(100)]
    for n in range(100):
        Decision(True, -n, 0, 0, 0, 0, "other", 0, (YES,))
    assert [one.limit for one in kept] == list(range(100))
    assert all(one.levels == () and one.policy == str(one.limit) for one in kept)
