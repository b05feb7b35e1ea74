"""API tokens in a database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from headgate.engine.ports import Token
from headgate.engine.tokens import hash_token, issue, same_hash
from headgate.storage.documents import utc_now
from headgate.storage.refusals import no_such_token
from headgate.storage.tables import TOKENS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from headgate.clock import Clock
    from headgate.engine.ports import IssuedToken
    from headgate.storage.database import Database

__all__ = ["SqlTokens"]


class SqlTokens:
    """A `TokenStore` in a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, name: str, scopes: Collection[str], expires_at: datetime | None = None
    ) -> IssuedToken:
        issued = issue(name, scopes, utc_now(self._clock), expires_at)
        token = issued.token
        row = {
            "id": token.id,
            "name": token.name,
            "scopes": " ".join(sorted(token.scopes)),
            "prefix": token.prefix,
            "secret_hash": hash_token(issued.text),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        with self._database.writing() as connection:
            connection.execute(insert(TOKENS), row)
        return issued

    def list(self) -> Sequence[Token]:
        with self._database.reading() as connection:
            rows = connection.execute(select(TOKENS).order_by(TOKENS.c.created_at, TOKENS.c.id))
            return [_token(row) for row in rows]

    def find(self, token_id: str, secret_hash: bytes) -> Token | None:
        with self._database.reading() as connection:
            row = _look(connection, token_id)
        # Found by its public id and compared here: what the index compares has no constant time.
        if row is None or not same_hash(bytes(row.secret_hash), secret_hash):
            return None
        return _token(row)

    def revoke(self, token_id: str) -> Token:
        with self._database.writing() as connection:
            row = _look(connection, token_id)
            if row is None:
                raise no_such_token(token_id)
            token = _token(row)
            if token.revoked_at is None:
                token = replace(token, revoked_at=utc_now(self._clock))
                _stamp(connection, token_id, "revoked_at", token.revoked_at)
        return token

    def touch(self, token_id: str) -> None:
        with self._database.writing() as connection:
            if _look(connection, token_id) is not None:
                _stamp(connection, token_id, "last_used_at", utc_now(self._clock))


def _look(connection: Connection, token_id: str) -> Row[Any] | None:
    # An id may come from an address: PostgreSQL would fail on a NUL, both on a surrogate.
    if not token_id.isascii() or not token_id.isalnum():
        return None
    return connection.execute(select(TOKENS).where(TOKENS.c.id == token_id)).one_or_none()


def _stamp(connection: Connection, token_id: str, column: str, moment: datetime | None) -> None:
    connection.execute(update(TOKENS).where(TOKENS.c.id == token_id).values({column: moment}))


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        prefix=row.prefix,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
