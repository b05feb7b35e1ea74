"""Policies in the records of a cluster.

One record guards them all: every change reads it first and replaces it, and so is made only if no other
came between. Changes are rare and small; those that collide are tried again one after the other.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, final

from headgate.engine.ports import PolicyChange, StoredPolicy
from headgate.errors import StoreUnavailable
from headgate.storage.agreed_records import opened, until_made
from headgate.storage.documents import encode, read_policy, read_those, utc_now
from headgate.storage.refusals import (
    check_names_differ,
    check_same_name,
    check_version,
    clean_actor,
    no_such_policy,
    policy_exists,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headgate.clock import Clock
    from headgate.engine.records import Key, Record, Records
    from headgate.policy.model import Policy

__all__ = ["KEPT_VERSIONS", "AgreedPolicies"]

KEPT_VERSIONS: Final = 100
"""Lines of history that are kept of each policy; whoever writes the next one removes the oldest."""
_FOLDER: Final = "policies"
_GUARD: Final = ("meta", "policies")


@final
@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a name. ``document`` is None when it was deleted; its version still counts."""

    version: int = 0
    document: dict[str, Any] | None = None
    created_at: str = ""
    updated_at: str = ""


_NONE: Final = _Kept()


@final
@dataclass(frozen=True, slots=True)
class _Line:
    """A change that is to be made."""

    name: str
    kept: _Kept
    change: Literal["created", "replaced", "deleted"]


class AgreedPolicies:
    """A `PolicyStore` in records."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def list(self) -> Sequence[StoredPolicy]:
        kept = {record.name: _kept(record) for record in self._records.list(_FOLDER)}
        return [_stored(name, kept[name]) for name in sorted(kept) if kept[name].document]

    def readable(self) -> tuple[Sequence[StoredPolicy], Mapping[str, str]]:
        records = sorted(self._records.list(_FOLDER), key=lambda record: record.name)
        return read_those((record.name, partial(_read, record)) for record in records)

    def get(self, name: str) -> StoredPolicy:
        return _stored(name, self._find(name))

    def create(self, policy: Policy, actor: str = "") -> StoredPolicy:
        def plan() -> Sequence[_Line]:
            kept = self._look(policy.name)
            if kept.document is not None:
                raise policy_exists(policy.name, kept.version)
            return [self._line(policy, kept)]

        return self._change(plan, actor)[0]

    def replace(
        self, name: str, policy: Policy, expected_version: int | None = None, actor: str = ""
    ) -> StoredPolicy:
        check_same_name(name, policy)

        def plan() -> Sequence[_Line]:
            kept = self._find(name)
            check_version(name, expected_version, kept.version)
            return [self._line(policy, kept)]

        return self._change(plan, actor)[0]

    def delete(self, name: str, expected_version: int | None = None, actor: str = "") -> None:
        def plan() -> Sequence[_Line]:
            kept = self._find(name)
            check_version(name, expected_version, kept.version)
            gone = _Kept(kept.version + 1, updated_at=utc_now(self._clock).isoformat())
            return [_Line(name, gone, "deleted")]

        self._change(plan, actor)

    def apply(self, policies: Sequence[Policy], actor: str = "") -> Sequence[StoredPolicy]:
        check_names_differ(policies)
        before: dict[str, _Kept] = {}

        def plan() -> Sequence[_Line]:
            before.clear()
            before.update((record.name, _kept(record)) for record in self._records.list(_FOLDER))
            return [
                self._line(policy, before.get(policy.name, _NONE))
                for policy in policies
                if before.get(policy.name, _NONE).document != policy.to_dict()
            ]

        news = {stored.policy.name: stored for stored in self._change(plan, actor)}
        return [
            news.get(policy.name) or _stored(policy.name, before[policy.name])
            for policy in policies
        ]

    def history(self, name: str) -> Sequence[PolicyChange]:
        if not _can_be_kept(name):
            return []
        records = self._records.list(_history(name))
        return [_past(name, record) for record in sorted(records, key=lambda one: one.name)]

    def _look(self, name: str) -> _Kept:
        record = self._records.get((_FOLDER, name)) if _can_be_kept(name) else None
        return _NONE if record is None else _kept(record)

    def _find(self, name: str) -> _Kept:
        kept = self._look(name)
        if kept.document is None:
            raise no_such_policy(name)
        return kept

    def _line(self, policy: Policy, kept: _Kept) -> _Line:
        now = utc_now(self._clock).isoformat()
        is_new = kept.document is None
        new = _Kept(kept.version + 1, policy.to_dict(), now if is_new else kept.created_at, now)
        return _Line(policy.name, new, "created" if is_new else "replaced")

    def _change(self, plan: Callable[[], Sequence[_Line]], actor: str) -> Sequence[StoredPolicy]:
        """Make what is planned, planning anew whenever another change came between."""

        def attempt() -> Sequence[_Line] | None:
            guard = self._records.get(_GUARD)  # before what the plan reads: so it guards that
            lines = plan()
            puts = {_GUARD: secrets.token_hex(8), **_puts(lines, clean_actor(actor))}
            expected = {_GUARD: 0 if guard is None else guard.revision}
            made = not lines or self._records.change(expected, puts, _outlived(lines))
            return lines if made else None

        lines = until_made(attempt)
        return [_stored(line.name, line.kept) for line in lines if line.kept.document is not None]


def _can_be_kept(name: str) -> bool:
    """Whether a policy may have the name; a folder of records has few letters."""
    return 0 < len(name) <= 128 and name.isascii() and name.isprintable() and "/" not in name


def _history(name: str) -> str:
    return f"history:{name}"


def _puts(lines: Sequence[_Line], actor: str) -> Mapping[Key, str]:
    puts: dict[Key, str] = {}
    for line in lines:
        kept = line.kept
        puts[_FOLDER, line.name] = encode(
            {
                "version": kept.version,
                "created_at": kept.created_at,
                "updated_at": kept.updated_at,
                "document": kept.document,
            }
        )
        puts[_history(line.name), f"{kept.version:012d}"] = encode(
            {
                "change": line.change,
                "document": kept.document,
                "actor": actor,
                "changed_at": kept.updated_at,
            }
        )
    return puts


def _outlived(lines: Sequence[_Line]) -> Sequence[Key]:
    """The line of history that each new one pushes out."""
    return [
        (_history(line.name), f"{line.kept.version - KEPT_VERSIONS:012d}")
        for line in lines
        if line.kept.version > KEPT_VERSIONS
    ]


def _kept(record: Record) -> _Kept:
    content = opened(_FOLDER, record)
    try:
        return _Kept(
            content["version"], content["document"], content["created_at"], content["updated_at"]
        )
    except KeyError as error:
        raise _unreadable(record.name) from error


def _read(record: Record) -> StoredPolicy | None:
    """The policy of a record; None when it was deleted."""
    kept = _kept(record)
    return _stored(record.name, kept) if kept.document else None


def _stored(name: str, kept: _Kept) -> StoredPolicy:
    policy = read_policy(name, json.dumps(kept.document))
    try:
        created_at = datetime.fromisoformat(kept.created_at)
        updated_at = datetime.fromisoformat(kept.updated_at)
    except (TypeError, ValueError) as error:
        raise _unreadable(name) from error
    return StoredPolicy(policy, kept.version, created_at, updated_at)


def _past(name: str, record: Record) -> PolicyChange:
    content = opened(_history(name), record)
    try:
        return PolicyChange(
            name,
            int(record.name),
            content["change"],
            content["document"],
            content["actor"],
            datetime.fromisoformat(content["changed_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the record of the policy {name!a} cannot be read (a newer Headgate may have written it); put it "
        "right, or remove it",
        name=name,
    )
