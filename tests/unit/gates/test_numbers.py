"""Settings that are numbers are refused in our words."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidInput
from headgate.gates.numbers import valid_call, valid_number, valid_plain_call, valid_seconds

NO_NUMBERS = [True, "1", None, [], 1j]
BAD = [float("nan"), float("inf"), -1, -1.5, 10**400]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_named_by_its_type(value):
    with pytest.raises(InvalidInput, match=f"a must be a number, got {type(value).__name__}"):
        valid_number("a", value, 0, 1)
    with pytest.raises(
        InvalidInput, match=f"a must be a number of seconds, got {type(value).__name__}"
    ):
        valid_seconds("a", value)


@pytest.mark.parametrize("value", BAD)
def test_what_is_out_of_bounds_is_shown_with_the_bounds(value):
    with pytest.raises(InvalidInput, match="a must be 0 to 1, got "):
        valid_number("a", value, 0, 1)
    with pytest.raises(InvalidInput, match="a must be above 0 and at most 31622400 seconds, got "):
        valid_seconds("a", value)


def test_the_bounds_belong_to_a_number_and_zero_seconds_are_no_length():
    assert valid_number("a", 0, 0, 1) == 0.0
    assert valid_number("a", 1, 0, 1) == 1.0
    assert valid_seconds("a", 1.5) == 1_500_000_000
    assert valid_seconds("a", 1e-12) == 1
    with pytest.raises(InvalidInput, match="got 0; leave it out"):
        valid_seconds("a", 0, remedy="; leave it out")


def test_what_is_called_must_be_callable():
    assert valid_call("f", print) is print
    with pytest.raises(InvalidInput, match="f must be callable, got int"):
        valid_call("f", 1)


def test_what_nobody_would_await_is_refused():
    class Watcher:
        async def hear(self):
            raise AssertionError

    async def hear():
        raise AssertionError

    assert valid_plain_call("f", print) is print
    for given in (hear, Watcher().hear):
        with pytest.raises(InvalidInput, match="f must be a plain function, got a coroutine"):
            valid_plain_call("f", given)
    with pytest.raises(InvalidInput, match="f must be callable, got int"):
        valid_plain_call("f", 1)
