"""Changes of policies: first the store, then the engine, one change at a time.

The store is asked off the loop, so that decisions go on meanwhile. The lock keeps the order of two changes
the same in both places.

Where nodes or workers share a store, others change it too: `PolicyDesk.reload` brings the engine to what the
store has by now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headgate.errors import Conflict, HeadgateError, NotFound, PreconditionFailed
from headgate.policy.model import Policy, read_policies
from headgate.server.etags import ANY_VERSION

if TYPE_CHECKING:
    from headgate.engine.engine import Engine
    from headgate.engine.ports import PolicyStore, StoredPolicy

__all__ = ["PolicyDesk"]

_log = logging.getLogger("headgate.server")


async def _nobody() -> None:
    """Nobody else has to know."""


class PolicyDesk:
    """Reads and changes the policies of a service.

    Args:
        engine: where policies are in force.
        store: where they are kept.
        versions: of the policies that are in force already.

    Attributes:
        versions: of the policies in force, by name; of a policy that cannot be put in force, the version
            that was tried.
        announce: is awaited after each change.
    """

    def __init__(
        self, engine: Engine, store: PolicyStore, versions: Mapping[str, int] | None = None
    ) -> None:
        self._engine = engine
        self._store = store
        self._one_at_a_time = asyncio.Lock()
        self.versions = dict(versions or {})
        self._broken: dict[str, str] = {}
        self.announce: Callable[[], Awaitable[None]] = _nobody

    async def list(self) -> Sequence[StoredPolicy]:
        return await asyncio.to_thread(self._store.list)

    async def get(self, name: str) -> StoredPolicy:
        return await asyncio.to_thread(self._store.get, name)

    async def create(self, document: Mapping[str, Any], actor: str) -> StoredPolicy:
        """Add a policy; raises `InvalidPolicy`, or `Conflict` when the name is taken."""
        policy = await asyncio.to_thread(Policy.from_dict, document)
        async with self._one_at_a_time:
            return await self._create(policy, actor)

    async def put(
        self,
        name: str,
        document: Mapping[str, Any],
        actor: str,
        *,
        versions: Collection[int] | None = None,
        only_new: bool = False,
    ) -> tuple[StoredPolicy, bool]:
        """Replace a policy, or create it.

        Args:
            name: of the policy; the document need not repeat it.
            document: the policy.
            actor: who does it.
            versions: the policy must be there, at one of these versions.
            only_new: the policy must not be there.

        Returns:
            The policy, and whether it is new.

        Raises:
            PreconditionFailed: a condition does not hold.
            InvalidPolicy: the document is none, or has another name.
        """
        policy = await asyncio.to_thread(Policy.from_dict, {"name": name, **document})
        async with self._one_at_a_time:
            current = await self._version_of(name)
            if current is None:
                if versions is not None:
                    raise _failed(name, None, versions)
                return await self._create(policy, actor), True
            if only_new:
                raise _failed(name, current)
            expected = _require_version(name, current, versions)
            try:
                stored = await asyncio.to_thread(self._store.replace, name, policy, expected, actor)
            except Conflict as error:
                raise _failed(name, error.context.get("current_version"), versions) from error
            await self._enforce(stored)
            return stored, False

    async def delete(
        self, name: str, actor: str, *, versions: Collection[int] | None = None
    ) -> None:
        """Take a policy away; raises `NotFound`, or `PreconditionFailed` as `put` does."""
        async with self._one_at_a_time:
            current = (await self.get(name)).version
            expected = _require_version(name, current, versions)
            try:
                await asyncio.to_thread(self._store.delete, name, expected, actor)
            except Conflict as error:
                raise _failed(name, error.context.get("current_version"), versions) from error
            self._remove(name)
            await self.announce()

    async def apply(
        self, documents: Sequence[Mapping[str, Any]], actor: str
    ) -> Sequence[StoredPolicy]:
        """Create or replace all of these, or none; the others stay."""
        policies = await asyncio.to_thread(read_policies, list(documents))
        async with self._one_at_a_time:
            stored = await asyncio.to_thread(self._store.apply, policies, actor)
            await self._enforce(*stored)
            return stored

    async def reload(self) -> Sequence[str]:
        """Bring the engine to what the store has, where they differ.

        Returns:
            The names of the policies that changed.

        Raises:
            StoreUnavailable: it does not answer; the engine goes on as it is.
        """
        async with self._one_at_a_time:
            stored, broken = await asyncio.to_thread(self._store.readable)
            self._tell_of(broken)
            there = {*broken, *(one.policy.name for one in stored)}
            gone = [name for name in self.versions if name not in there]
            newer = [one for one in stored if self.versions.get(one.policy.name) != one.version]
            for name in gone:
                self._remove(name)
            for one in newer:
                self._take(one)
            return [*gone, *(one.policy.name for one in newer)]

    def _tell_of(self, broken: Mapping[str, str]) -> None:
        """Once of each: what was in force of these names stays so."""
        for name, why in broken.items():
            if self._broken.get(name) != why:
                _log.error("the policy %r was left as it is: %s", name, why)
        self._broken = dict(broken)

    def _take(self, stored: StoredPolicy) -> None:
        """Put in force what another node wrote. If it cannot be, what was in force before stays so."""
        self.versions[stored.policy.name] = stored.version
        try:
            self._engine.set_policy(stored.policy, stored.version)
        except HeadgateError as error:
            _log.error("the policy %r was left as it is: %s", stored.policy.name, error)

    async def _create(self, policy: Policy, actor: str) -> StoredPolicy:
        stored = await asyncio.to_thread(self._store.create, policy, actor)
        await self._enforce(stored)
        return stored

    async def _enforce(self, *stored: StoredPolicy) -> None:
        for one in stored:
            self._engine.set_policy(one.policy, one.version)
            self.versions[one.policy.name] = one.version
        await self.announce()

    def _remove(self, name: str) -> None:
        self.versions.pop(name, None)
        self._engine.remove_policy(name)

    async def _version_of(self, name: str) -> int | None:
        try:
            return (await self.get(name)).version
        except NotFound:
            return None


def _require_version(name: str, current: int, versions: Collection[int] | None) -> int | None:
    """The version that a change is made to; None when the caller does not mind."""
    if versions is None:
        return None
    if versions is not ANY_VERSION and current not in versions:
        raise _failed(name, current, versions)
    return current


def _failed(
    name: str, current: object, versions: Collection[int] | None = None
) -> PreconditionFailed:
    """A condition does not hold; the version that was meant is shown beside the one that is there."""
    there = "is not there" if current is None else f"is at version {current}"
    expected = sorted(versions) if versions and versions is not ANY_VERSION else []
    meant = f" (the change was made for version {expected[0]})" if len(expected) == 1 else ""
    message = (
        f"the policy {name[:128]!a} {there}, which is not the condition of the change{meant}; "
        "read it again and repeat the change"
    )
    return PreconditionFailed(
        message,
        current_version=current,
        expected_version=expected[0] if len(expected) == 1 else expected or None,
    )
