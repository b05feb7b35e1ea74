"""A store that lasts as long as its process: for tests, trials, and nodes that are told their policies."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, final

from headgate.engine.ports import PolicyChange, StoredPolicy, StoredSetting
from headgate.engine.tokens import hash_token, issue, same_hash
from headgate.errors import StoreUnavailable
from headgate.storage.documents import encode, utc_now
from headgate.storage.refusals import (
    check_names_differ,
    check_same_name,
    check_setting_version,
    check_version,
    clean_actor,
    no_such_policy,
    no_such_token,
    policy_exists,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from headgate.clock import Clock
    from headgate.engine.ports import IssuedToken, Token
    from headgate.policy.model import Policy

__all__ = ["MemoryStore"]


@final
class MemoryStore:
    """A `Store` in dictionaries, safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._gate = _Gate()
        self.policies = _Policies(self._gate, clock)
        self.tokens = _Tokens(self._gate, clock)
        self.settings = _Settings(self._gate, clock)

    def ping(self) -> None:
        with self._gate:
            pass

    def close(self) -> None:
        self._gate.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Gate:
    """A lock that refuses once it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._lock = Lock()

    def __enter__(self) -> None:
        if self.closed:
            message = "the store in memory is closed; open another"
            raise StoreUnavailable(message)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Policies:
    def __init__(self, gate: _Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._policies: dict[str, StoredPolicy] = {}
        self._history: dict[str, list[PolicyChange]] = {}

    def list(self) -> Sequence[StoredPolicy]:
        with self._gate:
            return [self._policies[name] for name in sorted(self._policies)]

    def readable(self) -> tuple[Sequence[StoredPolicy], Mapping[str, str]]:
        return self.list(), {}

    def get(self, name: str) -> StoredPolicy:
        with self._gate:
            return self._find(name)

    def create(self, policy: Policy, actor: str = "") -> StoredPolicy:
        with self._gate:
            if policy.name in self._policies:
                raise policy_exists(policy.name, self._policies[policy.name].version)
            return self._put(policy, actor)

    def replace(
        self, name: str, policy: Policy, expected_version: int | None = None, actor: str = ""
    ) -> StoredPolicy:
        check_same_name(name, policy)
        with self._gate:
            check_version(name, expected_version, self._find(name).version)
            return self._put(policy, actor)

    def delete(self, name: str, expected_version: int | None = None, actor: str = "") -> None:
        with self._gate:
            check_version(name, expected_version, self._find(name).version)
            self._record(name, "deleted", None, actor)
            del self._policies[name]

    def apply(self, policies: Sequence[Policy], actor: str = "") -> Sequence[StoredPolicy]:
        check_names_differ(policies)
        with self._gate:
            return [self._apply(policy, actor) for policy in policies]

    def history(self, name: str) -> Sequence[PolicyChange]:
        with self._gate:
            return list(self._history.get(name, ()))

    def _find(self, name: str) -> StoredPolicy:
        found = self._policies.get(name)
        if found is None:
            raise no_such_policy(name)
        return found

    def _apply(self, policy: Policy, actor: str) -> StoredPolicy:
        found = self._policies.get(policy.name)
        if found and found.policy.to_dict() == policy.to_dict():
            return found
        return self._put(policy, actor)

    def _put(self, policy: Policy, actor: str) -> StoredPolicy:
        old = self._policies.get(policy.name)
        line = self._record(policy.name, "replaced" if old else "created", policy.to_dict(), actor)
        created_at = old.created_at if old else line.changed_at
        stored = StoredPolicy(policy, line.version, created_at, line.changed_at)
        self._policies[policy.name] = stored
        return stored

    def _record(
        self,
        name: str,
        change: Literal["created", "replaced", "deleted"],
        document: dict[str, Any] | None,
        actor: str,
    ) -> PolicyChange:
        lines = self._history.setdefault(name, [])
        now = utc_now(self._clock)
        line = PolicyChange(name, len(lines) + 1, change, document, clean_actor(actor), now)
        lines.append(line)
        return line


class _Tokens:
    def __init__(self, gate: _Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._tokens: dict[str, Token] = {}
        self._hashes: dict[str, bytes] = {}

    def create(
        self, name: str, scopes: Collection[str], expires_at: datetime | None = None
    ) -> IssuedToken:
        with self._gate:
            issued = issue(name, scopes, utc_now(self._clock), expires_at)
            self._tokens[issued.token.id] = issued.token
            self._hashes[issued.token.id] = hash_token(issued.text)
            return issued

    def list(self) -> Sequence[Token]:
        with self._gate:
            return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.id))

    def find(self, token_id: str, secret_hash: bytes) -> Token | None:
        with self._gate:
            kept = self._hashes.get(token_id)
            if kept is None or not same_hash(kept, secret_hash):
                return None
            return self._tokens[token_id]

    def revoke(self, token_id: str) -> Token:
        with self._gate:
            token = self._tokens.get(token_id)
            if token is None:
                raise no_such_token(token_id)
            if token.revoked_at is None:
                token = replace(token, revoked_at=utc_now(self._clock))
                self._tokens[token_id] = token
            return token

    def touch(self, token_id: str) -> None:
        with self._gate:
            token = self._tokens.get(token_id)
            if token is not None:
                self._tokens[token_id] = replace(token, last_used_at=utc_now(self._clock))


class _Settings:
    def __init__(self, gate: _Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._settings: dict[str, StoredSetting] = {}

    def get(self, name: str) -> StoredSetting | None:
        with self._gate:
            return self._settings.get(name)

    def put(
        self, name: str, document: dict[str, Any], expected_version: int | None = None
    ) -> StoredSetting:
        kept = json.loads(encode(document))
        with self._gate:
            found = self._settings.get(name)
            current = found.version if found else 0
            check_setting_version(name, expected_version, current)
            stored = StoredSetting(name, kept, current + 1, utc_now(self._clock))
            self._settings[name] = stored
            return stored
