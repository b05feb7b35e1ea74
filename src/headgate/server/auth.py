"""Who may ask what.

A token is looked up in the store once, off the loop, and remembered by its text. Every few seconds the
list of tokens is read again, so that one that was made or revoked by another process (``headgate token``)
counts soon, and no request waits for the store. While the store does not answer, what was known holds on.

Without any token the service is open to the programs of its own machine, if it listens to those only. Once
a token was ever made, every caller needs one, on loopback too: whoever makes a token means it. Revoking the
last one does not open the service again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headgate.clock import NS_PER_SECOND
from headgate.engine.tokens import authenticate, authorize
from headgate.errors import (
    ConfigurationError,
    Forbidden,
    HeadgateError,
    StoreUnavailable,
    Unauthorized,
)

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.engine.ports import Token, TokenStore

__all__ = ["REFRESH_SECONDS", "Gatekeeper", "refuse_foreign_page", "token_text"]

REFRESH_SECONDS: Final = 2.0
"""How soon a change of the tokens counts that another process made."""

_log = logging.getLogger("headgate.server")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VERIFIED: Final = 1_024
_TOUCH_EVERY_NS: Final = 60 * NS_PER_SECOND
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Gatekeeper:
    """Knows the tokens.

    Args:
        tokens: the store of tokens.
        clock: tells when one has expired.

    Attributes:
        required: whether a caller needs a token.
    """

    def __init__(self, tokens: TokenStore, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._verified: dict[str, Token] = {}
        self._used: set[str] = set()
        self._touch_due_ns = 0
        self._listeners: list[Callable[[], None]] = []
        self.required = True

    def on_refresh(self, listener: Callable[[], None]) -> None:
        """Call the listener whenever answers of `knows` must not be relied on any longer."""
        self._listeners.append(listener)

    def open(self, *, is_loopback: bool, may_be_away: bool = False) -> None:
        """Read the tokens for the first time, and decide whether the service may listen at all.

        Args:
            is_loopback: it listens to programs on this machine only.
            may_be_away: a store that does not answer is no reason not to start. Beyond this machine nobody
                is let in until it does.

        Raises:
            ConfigurationError: it would listen beyond this machine and nobody could be told apart.
        """
        try:
            tokens = self._tokens.list()
        except StoreUnavailable as error:
            if not may_be_away:
                raise
            _log.warning("the tokens could not be read yet: %s", error)
            self.required = not is_loopback
            return
        self.required = bool(tokens) or not is_loopback
        now = self._now()
        if not is_loopback and not any(token.active_at(now) for token in tokens):
            message = (
                "listening beyond this machine needs at least one valid API token, and there is none; "
                "make one with: headgate token create NAME --scope admin, "
                "or listen on 127.0.0.1"
            )
            raise ConfigurationError(message)

    def recall(self, text: str) -> Token | None:
        """The token that this text was found to be before, if it is still valid."""
        token = self._verified.get(text)
        if token is None or not token.active_at(self._now()):
            return None
        return token

    def knows(self, text: str | None, scope: str) -> bool:
        """Whether a caller with this token is known to have the scope; nothing is looked up.

        The answer holds until the next refresh.
        """
        if not self.required:
            return True
        token = self.recall(text) if text is not None else None
        if token is None or not token.allows(scope):
            return False
        self._used.add(token.id)
        return True

    async def admit(self, text: str | None, scope: str) -> Token | None:
        """Return if the caller may do what needs the scope: its token, or None when none is needed.

        Raises:
            Unauthorized: there is no token, or it is not valid.
            Forbidden: it lacks the scope.
            StoreUnavailable: the token is not known yet, and the store does not answer.
        """
        if not self.required:
            return None
        if text is None:
            message = (
                "this service needs an API token; send it as 'Authorization: Bearer hg_...' "
                "(headgate token create makes one)"
            )
            raise Unauthorized(message)
        token = await self.identify(text)
        authorize(token, scope)
        return token

    async def identify(self, text: str) -> Token:
        """The token that this text is, whatever it may do.

        Raises:
            Unauthorized: it is not known, was revoked, or has expired.
            StoreUnavailable: it is not known yet, and the store does not answer.
        """
        token = self.recall(text)
        if token is None:
            token = await asyncio.to_thread(authenticate, self._tokens, text, self._now())
            if len(self._verified) >= _MAX_VERIFIED:
                self._verified.clear()
            self._verified[text] = token
        self._used.add(token.id)
        return token

    async def refresh(self) -> None:
        """Read the tokens again; forget those that are no longer valid."""
        try:
            tokens = {token.id: token for token in await asyncio.to_thread(self._reread)}
            self.required = self.required or bool(tokens)
        except HeadgateError as error:
            _log.warning("the tokens could not be read again: %s", error)
            tokens = {token.id: token for token in self._verified.values()}
        now = self._now()
        self._verified = {
            text: tokens[token.id]
            for text, token in self._verified.items()
            if token.id in tokens and tokens[token.id].active_at(now)
        }
        for listener in self._listeners:
            listener()

    def _reread(self) -> Iterable[Token]:
        now = self._clock.now_ns()
        if now >= self._touch_due_ns:
            self._touch_due_ns = now + _TOUCH_EVERY_NS
            used, self._used = self._used, set()
            for token_id in used:
                self._tokens.touch(token_id)
        return self._tokens.list()

    def _now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._clock.wall_ns() // 1000)


def token_text(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token that a request carries; None when it carries none.

    Raises:
        Unauthorized: it carries credentials of another kind.
    """
    text: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() != "bearer":
                message = "the Authorization header must be 'Bearer hg_...'"
                raise Unauthorized(message)
            return credentials.strip()
        if name == b"x-api-key":
            text = value.decode("latin-1").strip()
    return text


def refuse_foreign_page(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a browser that a page of another machine's sent here.

    Without tokens, a page that somebody looks at could otherwise change the policies on their machine.

    Raises:
        Forbidden: the request's Origin is not this machine.
    """
    for name, value in headers:
        if name == b"origin" and _is_foreign_page(value.decode("latin-1")):
            message = (
                "pages of other machines may not use a service that asks for no token; "
                "make a token with: headgate token create"
            )
            raise Forbidden(message)


def _is_foreign_page(origin: str) -> bool:
    """Whether an Origin header names anything but this machine."""
    try:
        return urlsplit(origin).hostname not in _LOOPBACK_NAMES
    except ValueError:
        return True
