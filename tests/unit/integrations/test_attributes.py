"""By what a request is limited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.authentication import SimpleUser, UnauthenticatedUser
from starlette.requests import HTTPConnection, Request

from headgate.integrations.attributes import (
    by_all,
    by_client_address,
    by_cookie,
    by_header,
    by_path,
    by_path_param,
    by_query,
    by_state,
    by_user,
    describe,
)
from tests.unit.integrations.asgi_driver import scope_of

CASES = [
    (by_header("X-API-Key"), scope_of(headers={"X-Api-Key": "abc"}), "abc"),
    (by_header("X-API-Key"), scope_of(), None),
    (by_header("x"), scope_of(headers=[("x", "first"), ("x", "second")]), "first"),
    (by_header("x"), scope_of(headers={"x": "\xe9"}), "\xe9"),
    (by_cookie("sid"), scope_of(headers={"cookie": "a=b; sid=abc ; c=d"}), "abc"),
    (by_cookie("sid"), scope_of(headers=[("cookie", "a=b"), ("cookie", "sid=abc")]), "abc"),
    (by_cookie("sid"), scope_of(headers={"cookie": "sid; xsid=1"}), None),
    (by_cookie("sid"), scope_of(), None),
    (by_query("q"), scope_of("/?a=1&q=x%20y&q=z"), "z"),
    (by_query("q"), scope_of("/?a=1"), None),
    (by_query("q"), scope_of("/?q="), ""),
    (by_path_param("id"), scope_of(path_params={"id": 7}), "7"),
    (by_path_param("id"), scope_of(path_params={}), None),
    (by_path_param("id"), scope_of(), None),
    (by_path(), scope_of("/a?b=c"), "/a"),
    (by_state("tenant"), scope_of(state={"tenant": "acme"}), "acme"),
    (by_state("tenant"), scope_of(state={"tenant": None}), None),
    (by_state("tenant"), scope_of(), None),
    (by_user(), scope_of(user=SimpleUser("ann")), "ann"),
    (by_user(), scope_of(user=UnauthenticatedUser()), None),
    (by_user(), scope_of(), None),
    (by_client_address(), scope_of(), "203.0.113.5"),
    (by_client_address(), scope_of(client=None), None),
    (by_client_address(), scope_of(headers={"x-forwarded-for": "6.6.6.6"}), "203.0.113.5"),
    (
        by_client_address(["203.0.113.0/24"]),
        scope_of(headers=[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")]),
        "192.0.2.1",
    ),
    (
        by_client_address(["unix"], header="Forwarded"),
        scope_of(client=None, headers={"forwarded": 'for="[2001:db8::1]"'}),
        "2001:db8::/64",
    ),
]


@pytest.mark.parametrize(("key", "scope", "value"), CASES)
def test_keys_of_scopes(key, scope, value):
    assert key(scope) == value


@pytest.mark.parametrize(("key", "scope", "value"), CASES)
def test_requests_do_as_well_as_scopes(key, scope, value):
    assert key(HTTPConnection(scope)) == value
    assert key(Request(scope)) == value


def test_several_together():
    key = by_all(by_header("a"), by_header("b"))
    assert key(scope_of(headers={"a": "1", "b": "2"})) == "1:11:2"
    assert key(scope_of(headers={"a": "1"})) is None
    assert describe(key) == "the header a and the header b"


@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
)
def test_together_they_are_equal_only_if_each_is(one, other):
    key = by_all(lambda scope: scope[0], lambda scope: scope[1])
    assert (key(one) == key(other)) == (one == other)
