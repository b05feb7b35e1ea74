"""Agreements of nodes of one cluster, on real servers, as `headgate.wiring` makes them."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from headgate.coordination.etcd_backend import EtcdBackend
from headgate.coordination.etcd_client import EtcdAccess, EtcdClient
from headgate.coordination.last_known import LastKnown
from headgate.coordination.redis_address import RedisAddress
from headgate.coordination.redis_backend import RedisBackend
from headgate.coordination.shared_agreement import SharedAgreement
from headgate.storage.agreed import AgreedStore

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.clock import Clock
    from headgate.coordination.backend import Backend

_NAMES = count()
TTL_NS = 10**9


def new_cluster() -> str:
    """A name that no other test uses on a server that they share."""
    return f"cluster{next(_NAMES)}"


def etcd_agreement(
    endpoints: str,
    cluster: str,
    clock: Clock,
    directory: Path,
    *,
    ttl_ns: int = TTL_NS,
    **access: Any,
) -> SharedAgreement:
    """One node's, by etcd; its file is in the directory."""
    backend = EtcdBackend(EtcdClient(EtcdAccess(endpoints, **access)), cluster)
    return _agreement(backend, cluster, clock, directory, ttl_ns)


def redis_agreement(
    url: str,
    cluster: str,
    clock: Clock,
    directory: Path,
    *,
    ttl_ns: int = TTL_NS,
    deadline: float = 2.0,
) -> SharedAgreement:
    """One node's, by a Redis."""
    backend = RedisBackend(RedisAddress.read(url), cluster, deadline)
    return _agreement(backend, cluster, clock, directory, ttl_ns)


def _agreement(
    backend: Backend, cluster: str, clock: Clock, directory: Path, ttl_ns: int
) -> SharedAgreement:
    directory.mkdir(parents=True, exist_ok=True)
    file = LastKnown(directory / "last-known.json", cluster)
    return SharedAgreement(backend, clock, partial(AgreedStore, clock=clock), file, ttl_ns)


async def vanish(agreement: SharedAgreement) -> None:
    """As a process does that is killed: no goodbye, and nothing more."""
    agreement._roster.card = None
    await agreement.close()
