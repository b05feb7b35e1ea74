"""API tokens in the records of a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from headgate.engine.ports import Token
from headgate.engine.tokens import hash_token, issue, same_hash
from headgate.errors import StoreUnavailable
from headgate.storage.agreed_records import moment, opened, until_made
from headgate.storage.documents import encode, utc_now
from headgate.storage.refusals import no_such_token

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from headgate.clock import Clock
    from headgate.engine.ports import IssuedToken
    from headgate.engine.records import Record, Records

__all__ = ["AgreedTokens"]

_FOLDER: Final = "tokens"
_USES: Final = "uses"


class AgreedTokens:
    """A `TokenStore` in records."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def create(
        self, name: str, scopes: Collection[str], expires_at: datetime | None = None
    ) -> IssuedToken:
        issued = issue(name, scopes, utc_now(self._clock), expires_at)
        token = issued.token
        if token.expires_at is not None:
            token = replace(token, expires_at=token.expires_at.astimezone(UTC))
        text = _text(token, hash_token(issued.text).hex())
        if not self._records.change({(_FOLDER, token.id): 0}, {(_FOLDER, token.id): text}):
            return self.create(name, scopes, expires_at)  # 48 random bits were given out before
        return issued

    def list(self) -> Sequence[Token]:
        uses = {record.name: record for record in self._records.list(_USES)}
        tokens = [_token(record, uses.get(record.name)) for record in self._records.list(_FOLDER)]
        return sorted(tokens, key=lambda token: (token.created_at, token.id))

    def find(self, token_id: str, secret_hash: bytes) -> Token | None:
        record = self._look(token_id)
        if record is None or not same_hash(_hash(record), secret_hash):
            return None
        return _token(record, self._records.get((_USES, token_id)))

    def revoke(self, token_id: str) -> Token:
        def attempt() -> Token | None:
            record = self._look(token_id)
            if record is None:
                raise no_such_token(token_id)
            token = _token(record, self._records.get((_USES, token_id)))
            if token.revoked_at is not None:
                return token
            token = replace(token, revoked_at=utc_now(self._clock))
            key, text = (_FOLDER, token_id), _text(token, _hash(record).hex())
            return token if self._records.change({key: record.revision}, {key: text}) else None

        return until_made(attempt)

    def touch(self, token_id: str) -> None:
        if self._look(token_id) is not None:
            self._records.change({}, {(_USES, token_id): utc_now(self._clock).isoformat()})

    def _look(self, token_id: str) -> Record | None:
        if not token_id.isascii() or not token_id.isalnum():
            return None
        return self._records.get((_FOLDER, token_id))


def _text(token: Token, secret_hash: str) -> str:
    return encode(
        {
            "name": token.name,
            "scopes": sorted(token.scopes),
            "prefix": token.prefix,
            "secret_hash": secret_hash,
            "created_at": token.created_at.isoformat(),
            "expires_at": token.expires_at.isoformat() if token.expires_at else None,
            "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
        }
    )


def _hash(record: Record) -> bytes:
    try:
        return bytes.fromhex(opened(_FOLDER, record)["secret_hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(record) from error


def _token(record: Record, use: Record | None) -> Token:
    content: dict[str, Any] = opened(_FOLDER, record)
    try:
        return Token(
            id=record.name,
            name=content["name"],
            scopes=frozenset(content["scopes"]),
            prefix=content["prefix"],
            created_at=datetime.fromisoformat(content["created_at"]),
            expires_at=moment(content["expires_at"]),
            revoked_at=moment(content["revoked_at"]),
            last_used_at=moment(use.text) if use is not None else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(record) from error


def _unreadable(record: Record) -> StoreUnavailable:
    message = f"the record of the token {record.name[:128]!a} cannot be read; remove it"
    return StoreUnavailable(message, name=record.name)
