"""Reading plain documents: every error says which field, what was wanted, and what was there."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidPolicy, InvalidRate
from headgate.policy.fields import Fields


def refused(read) -> InvalidPolicy:
    with pytest.raises(InvalidPolicy) as caught:
        read()
    assert caught.value.code == "invalid_policy"
    return caught.value


class TestPlaces:
    def test_nested_objects_know_where_they_stand(self):
        top = Fields({"levels": [{}, {"match": {"a": 1}}]}, "")
        inner = top.objects("levels", 5)[1].mapping("match")
        error = refused(lambda: inner.text("a", None))
        assert error.field == "levels.1.match.a"
        assert str(error) == "levels.1.match.a must be text (put it in quotes), got 1"

    def test_what_is_inherited_keeps_its_place(self):
        parent = Fields({"limit": "x", "window": "1m"}, "")
        child = Fields({"window": "2m"}, "levels.0").inherit(parent, ("limit", "window"))
        assert child.text("window", None) == "2m"
        assert refused(lambda: child.whole("limit", None)).field == "limit"

    def test_null_is_not_inherited_over(self):
        child = Fields({"burst": None}, "levels.0").inherit(Fields({"burst": 5}, ""), ("burst",))
        assert not child.given("burst")

    @pytest.mark.parametrize("name", ["x" * 10_000, "a\nb", "\x1b[31m", "\ud800", ""])
    def test_odd_names_are_shown_short_and_tame(self, name):
        error = refused(lambda: Fields({name: 1}, "").only(("limit",)))
        assert len(str(error)) < 250
        assert str(error).isprintable()
        assert error.field.isascii()
        assert len(error.field) < 100


class TestObjects:
    @pytest.mark.parametrize("data", [None, [], "text", 7, True])
    def test_only_objects_have_fields(self, data):
        assert "must be an object" in str(refused(lambda: Fields(data, "")))

    def test_names_are_texts(self):
        assert "put it in quotes" in str(refused(lambda: Fields({1: 2}, "")))

    def test_an_unknown_field_is_told_with_what_may_be_meant(self):
        error = refused(lambda: Fields({"limt": 1}, "levels.0").only(("limit", "window")))
        assert error.field == "levels.0.limt"
        assert "did you mean 'limit'?" in str(error)
        assert "known are limit, window" in str(
            refused(lambda: Fields({"zzz": 1}, "").only(("limit", "window")))
        )

    @pytest.mark.parametrize("value", ["x", {}, 1, [1, 2, 3]])
    def test_lists_of_objects_are_bounded_lists(self, value):
        assert refused(lambda: Fields({"levels": value}, "").objects("levels", 2)).field

    def test_what_is_left_out_is_empty(self):
        fields = Fields({"a": None}, "")
        assert fields.objects("a", 2) == fields.objects("b", 2) == []
        assert fields.mapping("a").data == {}


class TestTexts:
    @pytest.mark.parametrize("value", [1, True, [], {}, 1.5, "x" * 1025, "\ud800"])
    def test_what_is_none_or_too_long_is_refused(self, value):
        assert refused(lambda: Fields({"a": value}, "").text("a", None)).field == "a"

    def test_null_and_nothing_are_the_default(self):
        fields = Fields({"a": None}, "")
        assert fields.text("a", "x") == fields.text("b", "x") == "x"
        assert fields.optional_text("a") is None
        assert "a is required; add it" in str(refused(lambda: fields.text("a", None)))

    def test_lists_of_texts(self):
        fields = Fields({"a": ["x", "y"], "b": "x", "c": [], "d": ["x", 1]}, "")
        assert fields.texts("a", [], 2) == ["x", "y"]
        assert fields.texts("none", ["z"], 2) == ["z"]
        refused(lambda: fields.texts("a", [], 1))
        refused(lambda: fields.texts("b", [], 1))
        refused(lambda: fields.texts("d", [], 5))
        assert fields.text_or_texts("a", 2) == ["x", "y"]
        assert fields.text_or_texts("b", 2) == ["x"]
        assert "use '*'" in str(refused(lambda: fields.text_or_texts("c", 2)))

    def test_choices(self):
        fields = Fields({"a": "low", "b": "lower"}, "")
        assert fields.choice("a", ("low", "high"), "high") == "low"
        assert fields.choice("none", ("low", "high"), "high") == "high"
        assert "one of low, high" in str(
            refused(lambda: fields.choice("b", ("low", "high"), "low"))
        )


class TestNumbersAndFlags:
    @pytest.mark.parametrize("value", [True, 1.0, 1.5, "1", [], float("nan")])
    def test_what_is_no_whole_number_is_refused(self, value):
        refused(lambda: Fields({"a": value}, "").whole("a", None))

    def test_whole_numbers(self):
        fields = Fields({"a": -7, "b": None}, "")
        assert fields.whole("a", None) == -7
        assert fields.whole("b", 3) == 3
        refused(lambda: fields.whole("b", None))

    @pytest.mark.parametrize("value", [0, 1, "true", []])
    def test_what_is_no_flag_is_refused(self, value):
        refused(lambda: Fields({"a": value}, "").flag("a", default=True))

    def test_flags(self):
        fields = Fields({"a": False, "b": None}, "")
        assert fields.flag("a", default=True) is False
        assert fields.flag("b", default=True) is True


class TestMessages:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "null"),
            (True, "true"),
            (1.5, "1.5"),
            (float("nan"), "nan"),
            (10**100, "a huge number"),
            ("a\nb", "'a\\nb'"),
            ("x" * 100, f"'{'x' * 60}'..."),
            ([], "a list"),
            ({}, "a dict"),
            (b"x", "a bytes"),
        ],
    )
    def test_values_are_shown_short_and_tame(self, value, shown):
        error = Fields({}, "").error("a", "must be good", value)
        assert str(error) == f"a must be good, got {shown}"

    def test_errors_of_others_are_given_the_field(self):
        fields = Fields({}, "levels.0")

        def fail(message):
            with fields.naming("limit"):
                raise InvalidRate(message)

        assert str(refused(lambda: fail("limit must be >= 1"))) == "levels.0.limit must be >= 1"
        assert str(refused(lambda: fail("too much"))) == "levels.0.limit: too much"

    def test_those_that_have_one_keep_it(self):
        error = InvalidPolicy("x", "other")

        def fail():
            with Fields({}, "").naming("limit"):
                raise error

        assert refused(fail) is error
