"""What may name a caller, and what a request may cost."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidCost, InvalidKey
from headgate.inputs import MAX_COST, MAX_KEY_LENGTH, valid_cost, valid_key, whole_number
from headgate.rate import MAX_LIMIT


class Whole:
    def __index__(self):
        return 7


def test_costs_go_as_far_as_limits():
    assert MAX_COST == MAX_LIMIT


@pytest.mark.parametrize(("value", "number"), [(0, 0), (7, 7), (Whole(), 7), (MAX_COST, MAX_COST)])
def test_whole_numbers_of_any_type(value, number):
    assert valid_cost(value) == number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "got True"),
        (1.5, "got 1.5"),
        ("1", "got str"),
        (None, "got NoneType"),
        (-1, "got -1"),
        (10**5000, "got a huge number"),
    ],
    ids=["flag", "fraction", "text", "none", "negative", "huge"],
)
def test_what_is_no_cost(value, shown):
    with pytest.raises(InvalidCost, match=shown):
        valid_cost(value)


def test_whole_number_says_none_to_the_rest():
    assert whole_number("1") is whole_number(1.0) is whole_number(False) is None


def test_keys():
    assert valid_key("ann") == "ann"
    assert valid_key("x" * MAX_KEY_LENGTH)
    for key, told in ((None, "NoneType"), ("", "empty"), ("x" * 1025, "got 1025")):
        with pytest.raises(InvalidKey, match=told):
            valid_key(key)
