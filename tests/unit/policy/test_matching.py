"""Patterns: exact, prefix, suffix, wildcard, presence, and stars that are meant as stars."""

from __future__ import annotations

import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.matching import Pattern


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("acme", ["acme"], ["", "acm", "acmee", "ACME"]),
        ("", [""], ["x"]),
        ("/api/*", ["/api/", "/api/x/y"], ["/api", "x/api/"]),
        ("*.example.com", ["a.example.com", ".example.com"], ["example.com", "a.example.com."]),
        ("*", ["", "anything", "*"], []),
        ("**", ["", "x"], []),
        ("/v*/items", ["/v1/items", "/v/items", "/v1/x/items"], ["/v1/item", "/v1/items/2"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("a*b*c", ["abc", "axbxc", "abbc"], ["acb", "ac", "ab"]),
        ("*ab*ab*", ["abab", "xabyabz"], ["ab", "aab", "abxa"]),
        (r"\*", ["*"], ["", "x", r"\*"]),
        (r"a\*b*", ["a*b", "a*bc"], ["axb", "a*"]),
        (r"\\*", ["\\", "\\x"], ["*", "x"]),
        (r"a\b", [r"a\b"], ["ab"]),
        ("a\\", ["a\\"], ["a"]),
        ("é*", ["é", "éa"], ["e"]),
    ],
)
def test_what_fits(pattern, fits, does_not):
    one = Pattern(pattern)
    assert [value for value in fits if not one.matches(value)] == []
    assert [value for value in does_not if one.matches(value)] == []


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_it_agrees_with_an_expression(pattern, value):
    expected = re.fullmatch(translate(pattern), value) is not None
    assert Pattern(pattern).matches(value) == expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_can_be_escaped(value, other):
    escaped = value.replace("\\", "\\\\").replace("*", "\\*")
    one = Pattern(escaped)
    assert one.is_exact
    assert one.head == one.tail == value
    assert one.matches(other) == (value == other)


@given(st.text("ab*\\", max_size=8), st.text("ab*", max_size=12))
def test_all_that_fits_starts_with_the_head_and_ends_with_the_tail(pattern, value):
    one = Pattern(pattern)
    if one.matches(value):
        assert value.startswith(one.head)
        assert value.endswith(one.tail)


def test_a_pattern_made_to_be_slow_is_not():
    # The classic of backtracking matchers; here every part is searched for once.
    assert not Pattern("*a" * 500 + "b").matches("a" * 1_000)


def test_patterns_are_values():
    assert Pattern("a*") == Pattern("a*") != Pattern("a")
    assert len({Pattern("a*"), Pattern("a*")}) == 1
    assert Pattern("a*") != "a*"
    assert repr(Pattern("a*")) == "Pattern('a*')"
