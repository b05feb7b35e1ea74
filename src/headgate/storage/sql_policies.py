"""Policies in a database."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from headgate.engine.ports import PolicyChange, StoredPolicy
from headgate.storage.documents import encode, read_policy, read_those, utc_now
from headgate.storage.refusals import (
    check_names_differ,
    check_same_name,
    check_version,
    clean_actor,
    no_such_policy,
    policy_exists,
)
from headgate.storage.tables import POLICIES, POLICY_HISTORY

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from headgate.clock import Clock
    from headgate.policy.model import Policy
    from headgate.storage.database import Database

__all__ = ["SqlPolicies"]


class SqlPolicies:
    """A `PolicyStore` in a database.

    A version is a place in the history, whose key is (name, version): of two writers that make the same
    version, the database itself refuses one, at any isolation level.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def list(self) -> Sequence[StoredPolicy]:
        with self._database.reading() as connection:
            rows = connection.execute(select(POLICIES)).all()
        # Sorted here: databases sort text by their own collation, and the answers must not differ.
        return [_stored(row) for row in sorted(rows, key=lambda row: row.name)]

    def readable(self) -> tuple[Sequence[StoredPolicy], Mapping[str, str]]:
        with self._database.reading() as connection:
            rows = connection.execute(select(POLICIES)).all()
        ordered = sorted(rows, key=lambda row: row.name)
        return read_those((row.name, partial(_stored, row)) for row in ordered)

    def get(self, name: str) -> StoredPolicy:
        with self._database.reading() as connection:
            return _stored(_find(connection, name))

    def create(self, policy: Policy, actor: str = "") -> StoredPolicy:
        with self._database.writing() as connection:
            found = _look(connection, policy.name)
            if found is not None:
                raise policy_exists(policy.name, found.version)
            return self._write(connection, [policy], {}, actor)[0]

    def replace(
        self, name: str, policy: Policy, expected_version: int | None = None, actor: str = ""
    ) -> StoredPolicy:
        check_same_name(name, policy)
        with self._database.writing() as connection:
            found = _find(connection, name)
            check_version(name, expected_version, found.version)
            return self._write(connection, [policy], {name: found}, actor)[0]

    def delete(self, name: str, expected_version: int | None = None, actor: str = "") -> None:
        with self._database.writing() as connection:
            found = _find(connection, name)
            check_version(name, expected_version, found.version)
            line = {
                "name": name,
                "version": found.version + 1,
                "change": "deleted",
                "document": None,
                "actor": clean_actor(actor),
                "changed_at": utc_now(self._clock),
            }
            _record(connection, [line])
            connection.execute(delete(POLICIES).where(POLICIES.c.name == name))

    def apply(self, policies: Sequence[Policy], actor: str = "") -> Sequence[StoredPolicy]:
        check_names_differ(policies)
        with self._database.writing() as connection:
            rows = {row.name: row for row in connection.execute(select(POLICIES).with_for_update())}
            changed = [policy for policy in policies if _differs(policy, rows.get(policy.name))]
            written = self._write(connection, changed, rows, actor)
        news = {stored.policy.name: stored for stored in written}
        return [news.get(policy.name) or _stored(rows[policy.name]) for policy in policies]

    def history(self, name: str) -> Sequence[PolicyChange]:
        if not _can_be_kept(name):
            return []
        wanted = select(POLICY_HISTORY).where(POLICY_HISTORY.c.name == name)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(POLICY_HISTORY.c.version)).all()
        return [_change(row) for row in rows]

    def _write(
        self,
        connection: Connection,
        policies: Sequence[Policy],
        old: Mapping[str, Row[Any]],
        actor: str,
    ) -> Sequence[StoredPolicy]:
        """Create those that are not among the old rows, replace the others, and record it all."""
        if not policies:
            return []
        now = utc_now(self._clock)
        last = _last_versions(connection, [policy.name for policy in policies])
        stored = []
        for policy in policies:
            created_at = old[policy.name].created_at if policy.name in old else now
            stored.append(StoredPolicy(policy, last.get(policy.name, 0) + 1, created_at, now))
        rows = [_row(each) for each in stored]
        _save(connection, rows, old)
        _record(connection, [_line(row, old, actor) for row in rows])
        return stored


_REPLACE = update(POLICIES).where(POLICIES.c.name == bindparam("wanted"))


def _can_be_kept(name: str) -> bool:
    """Whether a policy may have the name; PostgreSQL would fail on a NUL, both on a surrogate."""
    return name.isascii() and name.isprintable()


def _look(connection: Connection, name: str) -> Row[Any] | None:
    if not _can_be_kept(name):
        return None
    wanted = select(POLICIES).where(POLICIES.c.name == name)
    return connection.execute(wanted.with_for_update()).one_or_none()


def _find(connection: Connection, name: str) -> Row[Any]:
    row = _look(connection, name)
    if row is None:
        raise no_such_policy(name)
    return row


def _last_versions(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The newest version of each name that there ever was."""
    wanted = select(POLICY_HISTORY.c.name, func.max(POLICY_HISTORY.c.version))
    if len(names) == 1:
        wanted = wanted.where(POLICY_HISTORY.c.name.in_(names))
    rows = connection.execute(wanted.group_by(POLICY_HISTORY.c.name)).all()
    return {row[0]: row[1] for row in rows}


def _save(
    connection: Connection, rows: Sequence[dict[str, Any]], old: Mapping[str, Row[Any]]
) -> None:
    created = [row for row in rows if row["name"] not in old]
    replaced = [{**row, "wanted": row["name"]} for row in rows if row["name"] in old]
    if created:
        connection.execute(insert(POLICIES), created)
    if replaced:
        connection.execute(_REPLACE, replaced)


def _line(row: dict[str, Any], old: Mapping[str, Row[Any]], actor: str) -> dict[str, Any]:
    return {
        "name": row["name"],
        "version": row["version"],
        "change": "replaced" if row["name"] in old else "created",
        "document": row["document"],
        "actor": clean_actor(actor),
        "changed_at": row["updated_at"],
    }


def _record(connection: Connection, lines: Sequence[dict[str, Any]]) -> None:
    connection.execute(insert(POLICY_HISTORY), lines)


def _differs(policy: Policy, row: Row[Any] | None) -> bool:
    return row is None or json.loads(row.document) != policy.to_dict()


def _row(stored: StoredPolicy) -> dict[str, Any]:
    return {
        "name": stored.policy.name,
        "version": stored.version,
        "document": encode(stored.policy.to_dict()),
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _stored(row: Row[Any]) -> StoredPolicy:
    policy = read_policy(row.name, row.document)
    return StoredPolicy(policy, row.version, row.created_at, row.updated_at)


def _change(row: Row[Any]) -> PolicyChange:
    document = None if row.document is None else json.loads(row.document)
    return PolicyChange(row.name, row.version, row.change, document, row.actor, row.changed_at)
