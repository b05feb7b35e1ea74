"""The policies in force: their levels in the plan, their limits shared or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.engine.installed import Installed, compile_policy, retire_policy
from headgate.engine.plan import Plan

if TYPE_CHECKING:
    from headgate.engine.keyspace import Keyspace
    from headgate.engine.sharing import Sharing
    from headgate.engine.table import KeyedTable
    from headgate.policy.model import Policy

__all__ = ["PolicyBook"]


@final
class PolicyBook:
    """All policies of an engine.

    Args:
        table: where their keys are kept.
        wall_offset_ns: of the engine's clock.

    Attributes:
        plan: which of their levels apply to a request.
    """

    def __init__(self, table: KeyedTable, wall_offset_ns: int) -> None:
        self.plan = Plan()
        self._table = table
        self._wall_offset_ns = wall_offset_ns
        self._installed: dict[str, Installed] = {}
        self._number = 0
        self._sharing: Sharing | None = None

    def installed(self) -> list[Installed]:
        """All, in the order in which they were first set."""
        return list(self._installed.values())

    def find(self, name: str) -> Installed | None:
        """One, or None."""
        return self._installed.get(name)

    def keyspaces(self) -> list[Keyspace]:
        """All their limits."""
        return [
            keyspace
            for installed in self._installed.values()
            for level in installed.levels
            for keyspace in level.keyspaces()
        ]

    def share(self, sharing: Sharing | None) -> None:
        """Share their limits this way from now on."""
        if self._sharing is not None:
            for keyspace in self.keyspaces():
                self._sharing.release(keyspace)
        self._sharing = sharing
        for installed in self._installed.values():
            self._share_limits(installed)

    def set(self, policy: Policy, version: int, now: int) -> None:
        """Put a policy in force, in place of the one of the same name."""
        before = self._installed.get(policy.name)
        if before is None:
            self._number += 1
        number = self._number if before is None else before.number
        installed = compile_policy(policy, number, before, self._table, now, self._wall_offset_ns)
        installed.version = version
        if before is not None:
            self._unplan(before)
        if policy.enabled:
            for level in installed.levels:
                self.plan.add(level)
        self._installed[policy.name] = installed
        self._share_limits(installed)
        if before is not None:
            self._retire(before, installed)

    def remove(self, name: str) -> bool:
        """Put a policy out of force; False when there is none of that name."""
        installed = self._installed.pop(name, None)
        if installed is None:
            return False
        self._unplan(installed)
        self._retire(installed, None)
        return True

    def _share_limits(self, installed: Installed) -> None:
        sharing = self._sharing
        if sharing is not None:
            for keyspace, spec in installed.limits:
                sharing.adopt(keyspace, spec, installed.policy, installed.version)

    def _retire(self, before: Installed, after: Installed | None) -> None:
        for keyspace in retire_policy(before, after):
            if self._sharing is not None:
                self._sharing.release(keyspace)

    def _unplan(self, installed: Installed) -> None:
        if installed.policy.enabled:
            for level in installed.levels:
                self.plan.remove(level)
