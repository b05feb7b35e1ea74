"""What the engine and the doors ask of the outside world, as types.

An adapter is whatever fits the Protocol and passes the shared suite in ``tests/contract``; ``wiring``
alone knows which one is in use. Every method may raise `StoreUnavailable`; no driver's own error comes
through. Times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from headgate.policy.model import Policy

__all__ = [
    "DenialObserver",
    "IssuedToken",
    "PolicyChange",
    "PolicyStore",
    "SettingsStore",
    "Store",
    "StoredPolicy",
    "StoredSetting",
    "Token",
    "TokenStore",
]


@final
@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as the store keeps it.

    Attributes:
        policy: the policy.
        version: goes up by at least one with every change of this name, and is never given out
            twice, not even after a delete: an ETag made of it cannot match what it did not name.
        created_at: when this name was last created.
        updated_at: when this version was written.
    """

    policy: Policy
    version: int
    created_at: datetime
    updated_at: datetime


@final
@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One line of a policy's history.

    Attributes:
        name: the policy's name.
        version: the version that this change made.
        change: what happened.
        document: the policy after it; None when it was deleted.
        actor: who did it, as the door knew them; "" when unknown.
        changed_at: when.
    """

    name: str
    version: int
    change: Literal["created", "replaced", "deleted"]
    document: dict[str, Any] | None
    actor: str
    changed_at: datetime


class PolicyStore(Protocol):
    """Policies by name, with versions and a record of who changed what."""

    def list(self) -> Sequence[StoredPolicy]:
        """All policies, in the order of their names."""

    def readable(self) -> tuple[Sequence[StoredPolicy], Mapping[str, str]]:
        """`list`, except that what cannot be read comes by its name, with the reason, and not as an error.

        A newer Headgate may have written it for nodes that will be renewed later.
        """

    def get(self, name: str) -> StoredPolicy:
        """One policy; raises `NotFound`."""

    def create(self, policy: Policy, actor: str = "") -> StoredPolicy:
        """Add a policy; raises `Conflict` when the name is taken."""

    def replace(
        self, name: str, policy: Policy, expected_version: int | None = None, actor: str = ""
    ) -> StoredPolicy:
        """Put another policy in the place of this one.

        Raises:
            NotFound: there is none of this name.
            Conflict: it is not at the expected version; the context holds ``expected_version`` and
                ``current_version``.
            InvalidPolicy: the policy has another name; a rename is a create and a delete.
        """

    def delete(self, name: str, expected_version: int | None = None, actor: str = "") -> None:
        """Take a policy away; raises `NotFound`, or `Conflict` as `replace` does."""

    def apply(self, policies: Sequence[Policy], actor: str = "") -> Sequence[StoredPolicy]:
        """Create or replace all of them, or none; what is unchanged keeps its version."""

    def history(self, name: str) -> Sequence[PolicyChange]:
        """Every change of this name, the oldest first; empty when there never was one."""


@final
@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of an API token: all but the secret.

    Attributes:
        id: its public identifier.
        name: what its owner calls it; need not be unique, so that two may overlap in a rotation.
        scopes: some of ``check``, ``read`` and ``admin``; admin implies the others.
        prefix: the beginning of the token's text, to recognise it by.
        created_at: when it was made.
        expires_at: from when on it is refused; None for never.
        revoked_at: when it was revoked; None while it was not.
        last_used_at: about when it was last used; None for never.
    """

    id: str
    name: str
    scopes: frozenset[str]
    prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def allows(self, scope: str) -> bool:
        """Whether the token may do what needs this scope."""
        return scope in self.scopes or "admin" in self.scopes

    def active_at(self, now: datetime) -> bool:
        """Whether the token is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@final
@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was just made. ``text`` is its secret: show it once, then forget it."""

    token: Token
    text: str

    def __repr__(self) -> str:
        # A secret must not reach a log through a traceback or a debug line.
        return f"IssuedToken(token={self.token!r}, text='{self.token.prefix}_...')"


class TokenStore(Protocol):
    """API tokens, of which only hashes are kept. `headgate.engine.tokens` has the rules."""

    def create(
        self, name: str, scopes: Collection[str], expires_at: datetime | None = None
    ) -> IssuedToken:
        """Make and keep a token; raises `InvalidInput` for an unknown scope or a bad name."""

    def list(self) -> Sequence[Token]:
        """All tokens, revoked and expired ones included, the oldest first."""

    def find(self, token_id: str, secret_hash: bytes) -> Token | None:
        """The token of this id if its hash is this one, compared in constant time; else None."""

    def revoke(self, token_id: str) -> Token:
        """Refuse it from now on; again changes nothing. Raises `NotFound`."""

    def touch(self, token_id: str) -> None:
        """Note that it is in use. A write: call it now and then, not with every request."""


@final
@dataclass(frozen=True, slots=True)
class StoredSetting:
    """A document of settings, such as ``backpressure``."""

    name: str
    document: dict[str, Any]
    version: int
    updated_at: datetime


class SettingsStore(Protocol):
    """Documents of settings by name."""

    def get(self, name: str) -> StoredSetting | None:
        """The document, or None when it was never put."""

    def put(
        self, name: str, document: dict[str, Any], expected_version: int | None = None
    ) -> StoredSetting:
        """Keep the document; raises `Conflict` when not at the expected version (0: not there)."""


class Store(Protocol):
    """All that is remembered, behind one connection."""

    @property
    def policies(self) -> PolicyStore:
        """The policies."""

    @property
    def tokens(self) -> TokenStore:
        """The API tokens."""

    @property
    def settings(self) -> SettingsStore:
        """The documents of settings."""

    def ping(self) -> None:
        """Return when the store answers; raises `StoreUnavailable` when it does not."""

    def close(self) -> None:
        """Let go of all connections; every later call raises `StoreUnavailable`."""

    def __enter__(self) -> Self:
        """The store itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""


class DenialObserver(Protocol):
    """Is told of each denial, by the engine, in the path of the request: be quick, never raise."""

    def denied(self, policy: str, key: str) -> None:
        """A request for this key was denied by this policy."""
