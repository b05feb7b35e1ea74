"""Which store of shared counters belongs to an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.coordination.redis_address import CLUSTER

if TYPE_CHECKING:
    from headgate.coordination.redis_address import RedisAddress
    from headgate.engine.counters import CounterStore

__all__ = ["counters_at"]


def counters_at(address: RedisAddress, cluster: str) -> CounterStore:
    """The shared counters at an address. Nothing is reached for until they are asked.

    Args:
        address: of a single server, of Sentinels, or of a Redis Cluster.
        cluster: the nodes of one name share their counters.

    Raises:
        ConfigurationError: redis-py is not installed.
    """
    if address.kind == CLUSTER:
        from headgate.coordination.redis_cluster_counters import (  # noqa: PLC0415 - few need it
            redis_cluster_counters,
        )

        return redis_cluster_counters(address, cluster)
    from headgate.coordination.redis_counters import RedisCounters  # noqa: PLC0415 - likewise

    return RedisCounters(address, cluster)
