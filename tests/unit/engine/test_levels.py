"""Which requests a level applies to, and by which key they count."""

from __future__ import annotations

import pytest

from headgate.engine.levels import ENDS, HAS, HAS_KEY, IS, STARTS, PlannedLevel, compose_key
from headgate.engine.table import KeyedTable
from headgate.policy.matching import Pattern
from tests.support.limits import keyspace


def level(*dimensions: str, **match: str | list[str]) -> PlannedLevel:
    conditions = [
        (name, [Pattern(text) for text in ([texts] if isinstance(texts, str) else texts)])
        for name, texts in match.items()
    ]
    return PlannedLevel(1, dimensions, conditions, keyspace(KeyedTable()), {})


class TestApplies:
    def test_to_requests_with_all_dimensions(self):
        both = level("user", "tenant")
        assert both.applies({"user": "u", "tenant": "t", "more": "m"})
        assert not both.applies({"user": "u"})
        assert not both.applies({})

    def test_an_empty_value_is_there(self):
        assert level("user").applies({"user": ""})

    def test_without_dimensions_to_all(self):
        assert level().applies({})

    def test_when_each_attribute_fits_one_of_its_patterns(self):
        one = level("key", path=["/api/*", "/v*/items"], method="GET")
        assert one.applies({"key": "k", "path": "/v2/items", "method": "GET"})
        assert not one.applies({"key": "k", "path": "/v2/users", "method": "GET"})
        assert not one.applies({"key": "k", "path": "/api/x", "method": "POST"})
        assert not one.applies({"key": "k", "path": "/api/x"})

    def test_a_star_needs_the_attribute(self):
        assert level(user="*").applies({"user": ""})
        assert not level(user="*").applies({})


class TestConditions:
    @pytest.mark.parametrize(
        ("match", "conditions"),
        [
            ({}, [("key", HAS_KEY, [""])]),
            ({"user": "ann"}, [("user", IS, ["ann"]), ("key", HAS_KEY, [""])]),
            ({"user": ["a", "b", "a"]}, [("user", IS, ["a", "b"]), ("key", HAS_KEY, [""])]),
            ({"path": "/a/*"}, [("path", STARTS, ["/a/"]), ("key", HAS_KEY, [""])]),
            ({"host": "*.io"}, [("host", ENDS, [".io"]), ("key", HAS_KEY, [""])]),
            (
                {"path": "/v*/x"},
                [("path", STARTS, ["/v"]), ("path", ENDS, ["/x"]), ("key", HAS_KEY, [""])],
            ),
            ({"path": ["/a", "/b*"]}, [("path", STARTS, ["/a", "/b"]), ("key", HAS_KEY, [""])]),
            ({"path": ["/a*", "*b"]}, [("path", HAS, [""]), ("key", HAS_KEY, [""])]),
            ({"key": "*"}, [("key", HAS_KEY, [""])]),
        ],
    )
    def test_they_are_what_all_fitting_requests_share(self, match, conditions):
        found = [(c.attribute, c.kind, c.literals) for c in level("key", **match).conditions]
        assert found == conditions

    def test_a_level_for_all_makes_none(self):
        assert level().conditions == []


class TestKeys:
    def test_one_dimension_is_its_value(self):
        assert compose_key(["user"], {"user": "ann", "more": "x"}) == "ann"

    def test_no_dimension_is_one_shared_key(self):
        assert compose_key([], {"user": "ann"}) == ""

    def test_several_cannot_be_mistaken_for_each_other(self):
        names = ["a", "b"]
        assert compose_key(names, {"a": "x", "b": "y"}) == "1:x,y"
        assert compose_key(names, {"a": "1:x,", "b": "y"}) != compose_key(
            names, {"a": "", "b": "1:x,y"}
        )

    def test_a_named_key_has_the_limit_of_its_override(self):
        own, special = keyspace(KeyedTable()), keyspace(KeyedTable())
        one = PlannedLevel(1, ["user"], [], own, {"ann": special})
        assert one.keyspace_of("ann") is special
        assert one.keyspace_of("ben") is own
        assert one.keyspaces() == [own, special]
