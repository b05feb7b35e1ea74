from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.tokens import SCOPES, authenticate, authorize, hash_token, issue, token_id
from headgate.errors import Forbidden, Unauthorized

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class OneToken:
    """A token store that knows one token."""

    def __init__(self, issued):
        self.token = issued.token
        self.hash = hash_token(issued.text)

    def find(self, identifier, secret_hash):
        return self.token if (identifier, secret_hash) == (self.token.id, self.hash) else None


@pytest.fixture
def issued():
    return issue("ci", ["check"], NOW, NOW + HOUR)


def test_a_token_has_256_random_bits_and_its_prefix_tells_nothing_of_them(issued):
    other = issue("ci", ["check"], NOW)
    prefix, _, secret = issued.text.rpartition("_")
    assert prefix == issued.token.prefix == f"hg_{issued.token.id}"
    assert len(bytes.fromhex(secret)) == 32
    assert secret != other.text.rpartition("_")[2]
    assert issued.token.id != other.token.id


def test_the_secret_stays_out_of_the_representation(issued):
    assert issued.text not in repr(issued)
    assert issued.text.rpartition("_")[2][:8] not in repr(issued)


def test_the_right_text_is_let_in(issued):
    assert authenticate(OneToken(issued), issued.text, NOW) == issued.token


def test_a_change_of_any_character_is_not_let_in(issued):
    tokens = OneToken(issued)
    for place, char in enumerate(issued.text):
        other = issued.text[:place] + ("0" if char != "0" else "1") + issued.text[place + 1 :]
        with pytest.raises(Unauthorized):
            authenticate(tokens, other, NOW)


@given(text=st.text() | st.from_regex(r"hg_[0-9a-f]*_[0-9a-f]*", fullmatch=True))
def test_any_other_text_is_not_let_in(text):
    with pytest.raises(Unauthorized, match="headgate token create"):
        authenticate(OneToken(issue("ci", ["check"], NOW)), text, NOW)


@pytest.mark.parametrize(
    "text", ["", "hg_", "hg__", "\ud800", "hg_" + "0" * 12 + "_" + "0" * 64 + "\n"]
)
def test_what_is_no_token_has_no_id(text):
    assert token_id(text) is None
    hash_token(text)


def test_an_expired_token_is_refused_from_its_expiry_on(issued):
    tokens = OneToken(issued)
    authenticate(tokens, issued.text, NOW + HOUR - timedelta(microseconds=1))
    with pytest.raises(Unauthorized, match="expired at 2026-01-01 01:00"):
        authenticate(tokens, issued.text, NOW + HOUR)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [({"check"}, {"check"}), ({"read"}, {"read"}), ({"admin"}, set(SCOPES))],
)
def test_a_scope_allows_itself_and_admin_all(scopes, allowed):
    token = issue("ci", scopes, NOW).token
    for scope in SCOPES:
        if scope in allowed:
            authorize(token, scope)
        else:
            with pytest.raises(Forbidden, match=f"needs the scope '{scope}'") as caught:
                authorize(token, scope)
            assert caught.value.context == {"scope": scope}
