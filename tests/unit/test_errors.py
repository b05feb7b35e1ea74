"""One tree of errors, each with a stable code, a status and a message for people."""

from __future__ import annotations

import pickle

import pytest

from headgate import errors
from headgate.decision import NEVER, Decision
from headgate.errors import HeadgateError, InvalidPolicy, RateLimited, UnknownReservation

KINDS = [getattr(errors, name) for name in errors.__all__]


def test_all_are_in_one_tree_and_listed():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, HeadgateError)
    }
    assert defined == set(errors.__all__)


def test_codes_are_stable_words_and_tell_them_apart():
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and code.isidentifier() for code in codes)


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_a_status_a_title_and_a_reason_to_be(kind):
    assert 400 <= kind.status < 600
    assert kind.title
    assert kind.__doc__


def test_bad_input_is_a_value_error_and_the_wrong_type_a_type_error():
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.InvalidKey, TypeError)
    assert issubclass(errors.InvalidCost, TypeError)


def test_a_refusal_says_when_to_come_back():
    decision = Decision(False, 10, 0, 1_250_000_000, 0, 0, "api", 60_000_000_000)
    assert (
        str(RateLimited(decision)) == "rate limit 'api' reached: 10 per 60 s; retry after 1.250 s"
    )
    never = Decision(False, 10, 0, NEVER, 0, 0, "api", 60_000_000_000)
    assert "it can never pass" in str(RateLimited(never))


@pytest.mark.parametrize(
    "error",
    [InvalidPolicy("limit is wrong", "levels.0.limit", 7), UnknownReservation("no such", id="x")],
)
def test_they_travel(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.context) == (str(error), error.context)
    assert getattr(again, "line", None) == getattr(error, "line", None)
