"""Conditions of requests."""

from __future__ import annotations

import pytest

from headgate.errors import MalformedRequest
from headgate.server.etags import ANY_VERSION, etag_of, names_version, versions_in


def test_a_tag_names_its_version() -> None:
    assert etag_of(7) == b'"7"'
    assert versions_in('"7"') == {7}
    assert names_version('"7"', 7)


@pytest.mark.parametrize(
    ("field", "versions"),
    [
        (None, None),
        ("*", ANY_VERSION),
        (" * ", ANY_VERSION),
        ('"1", "2"', {1, 2}),
        ('"1","x", W/"3"', {1}),
        ('"-1"', set()),
        ('"9999999999999999999999"', set()),
    ],
)
def test_if_match(field: str | None, versions: object) -> None:
    assert versions_in(field) == versions


@pytest.mark.parametrize("field", ["", " ", "3", '"3', '"3" "4"', '"1",,"2"', "W/3", '"\x00"'])
def test_what_is_no_list_of_tags(field: str) -> None:
    with pytest.raises(MalformedRequest):
        versions_in(field)


@pytest.mark.parametrize(
    ("field", "named"),
    [(None, False), ("*", True), ('W/"3"', True), ('"1", "3"', True), ('"1"', False)],
)
def test_if_none_match(field: str | None, named: bool) -> None:
    assert names_version(field, 3) is named
