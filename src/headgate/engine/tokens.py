"""API tokens: how they are made, recognised and checked. Pure: time is an argument.

A token reads ``hg_<id>_<secret>``. The secret is 256 random bits and only the SHA-256 of the whole text
is kept. A slow hash (argon2, bcrypt) is for secrets that people choose and others can guess; nobody
guesses 256 random bits, at any number of tries per second, and each request would pay for the slowness.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from headgate.engine.ports import IssuedToken, Token
from headgate.errors import Forbidden, InvalidInput, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from headgate.engine.ports import TokenStore

__all__ = ["SCOPES", "authenticate", "authorize", "hash_token", "issue", "same_hash", "token_id"]

SCOPES: Final = ("check", "read", "admin")
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TEXT: Final = re.compile(r"hg_([0-9a-f]{12})_[0-9a-f]{64}")
_MAX_NAME: Final = 128


def issue(
    name: str, scopes: Collection[str], now: datetime, expires_at: datetime | None = None
) -> IssuedToken:
    """Make a token that is not kept anywhere yet.

    Raises:
        InvalidInput: the name is empty, long or not printable; the scopes are none or not known; the
            expiry is past or has no time zone.
    """
    _check_name(name)
    _check_scopes(scopes)
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
        message = f"expires_at must be a later moment with a time zone, got {expires_at}"
        raise InvalidInput(message, field="expires_at")
    identifier = secrets.token_hex(_ID_BYTES)
    prefix = f"hg_{identifier}"
    token = Token(identifier, name, frozenset(scopes), prefix, now, expires_at)
    return IssuedToken(token, f"{prefix}_{secrets.token_hex(_SECRET_BYTES)}")


def hash_token(text: str) -> bytes:
    """The 32 bytes by which a token is kept and found."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def same_hash(one: bytes, other: bytes) -> bool:
    """Whether the hashes are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)


def token_id(text: str) -> str | None:
    """The identifier in a token's text; None when the text is no token at all."""
    match = _TEXT.fullmatch(text)
    return match[1] if match else None


def authenticate(tokens: TokenStore, text: str, now: datetime) -> Token:
    """The token that this text is.

    Raises:
        Unauthorized: it is unknown, revoked or expired. The message does not say which to whoever has
            no valid token, except that an expired one names its expiry to its rightful owner.
    """
    identifier = token_id(text)
    token = tokens.find(identifier, hash_token(text)) if identifier else None
    if token is None or token.revoked_at is not None:
        message = "the token is not known or was revoked; make one with: headgate token create"
        raise Unauthorized(message)
    if not token.active_at(now):
        message = f"the token expired at {token.expires_at}; make one with: headgate token create"
        raise Unauthorized(message)
    return token


def authorize(token: Token, scope: str) -> None:
    """Return if the token has the scope; else raise `Forbidden`."""
    if not token.allows(scope):
        message = (
            f"this call needs the scope {scope!r} and the token {token.prefix} has "
            f"{', '.join(sorted(token.scopes))}; use a token that has it"
        )
        raise Forbidden(message, scope=scope)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        message = f"name must be 1 to {_MAX_NAME} printable characters, got {name[:60]!a}"
        raise InvalidInput(message, field="name")


def _check_scopes(scopes: Collection[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        got = ascii(unknown[0][:60]) if unknown else "none"
        message = f"scopes must be some of {', '.join(SCOPES)}, got {got}"
        raise InvalidInput(message, field="scopes")
