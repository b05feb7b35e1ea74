from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from headgate.engine.tokens import authenticate, hash_token
from headgate.errors import InvalidInput, NotFound, Unauthorized
from headgate.storage.documents import utc_now

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tokens(store):
    return store.tokens


def test_a_token_is_found_by_its_id_and_hash(tokens):
    issued = tokens.create("ci", ["check", "read"])
    found = tokens.find(issued.token.id, hash_token(issued.text))
    assert found == issued.token
    assert found.scopes == {"check", "read"}
    assert found.created_at == START
    assert (found.expires_at, found.revoked_at, found.last_used_at) == (None, None, None)


def test_another_secret_or_another_id_finds_nothing(tokens):
    issued = tokens.create("ci", ["check"])
    other = tokens.create("ci", ["admin"])
    assert tokens.find(issued.token.id, hash_token(other.text)) is None
    assert tokens.find(issued.token.id, b"") is None
    assert tokens.find("0" * 12, b"") is None
    assert tokens.find("0" * 12, hash_token(issued.text)) is None
    assert tokens.find("nul\x00\ud800", hash_token(issued.text)) is None


def test_the_secret_is_kept_nowhere(tokens):
    issued = tokens.create("ci", ["check"])
    secret = issued.text.rpartition("_")[2]
    assert secret not in repr(issued)
    assert secret not in repr(tokens.list())


def test_tokens_are_listed_the_oldest_first(tokens, clock):
    made = []
    for name in ("b", "a", "a"):
        made.append(tokens.create(name, ["check"]).token)
        clock.advance(1)
    assert list(tokens.list()) == made


def test_a_revoked_token_stays_listed_and_is_refused(tokens, clock):
    issued = tokens.create("ci", ["check"])
    clock.advance(7)
    revoked = tokens.revoke(issued.token.id)
    assert revoked.revoked_at == START + timedelta(seconds=7)
    assert list(tokens.list()) == [revoked]
    with pytest.raises(Unauthorized):
        authenticate(tokens, issued.text, utc_now(clock))


def test_revoking_again_changes_nothing(tokens, clock):
    issued = tokens.create("ci", ["check"])
    first = tokens.revoke(issued.token.id)
    clock.advance(7)
    assert tokens.revoke(issued.token.id) == first


@pytest.mark.parametrize("token_id", ["0" * 12, "", "a b", "\x00", "\ud800"])
def test_revoking_what_is_not_there_is_not_found(tokens, token_id):
    with pytest.raises(NotFound, match="there is no token"):
        tokens.revoke(token_id)


def test_an_expiry_is_kept_in_utc(tokens):
    paris = timezone(timedelta(hours=1))
    issued = tokens.create("ci", ["check"], datetime(2026, 1, 1, 13, tzinfo=paris))
    assert issued.token.expires_at == START + timedelta(hours=12)
    [listed] = tokens.list()
    assert listed.expires_at == START + timedelta(hours=12)


def test_use_is_noted(tokens, clock):
    issued = tokens.create("ci", ["check"])
    clock.advance(3)
    tokens.touch(issued.token.id)
    [listed] = tokens.list()
    assert listed.last_used_at == START + timedelta(seconds=3)
    tokens.touch("0" * 12)


@pytest.mark.parametrize(
    ("name", "scopes", "message"),
    [
        ("", ["check"], "name must be 1 to 128 printable"),
        ("x" * 129, ["check"], "name must be"),
        ("nul\x00", ["check"], "name must be"),
        ("\ud800", ["check"], "name must be"),
        ("ci", [], "scopes must be some of check, read, admin, got none"),
        ("ci", ["check", "root"], "got 'root'"),
    ],
)
def test_what_makes_no_token_is_refused(tokens, name, scopes, message):
    with pytest.raises(InvalidInput, match=message):
        tokens.create(name, scopes)
    assert list(tokens.list()) == []


@pytest.mark.parametrize(
    "expires_at",
    [START, START - timedelta(days=1), datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None)],
)
def test_an_expiry_that_is_past_or_in_no_zone_is_refused(tokens, expires_at):
    with pytest.raises(InvalidInput, match="later moment with a time zone"):
        tokens.create("ci", ["check"], expires_at)
