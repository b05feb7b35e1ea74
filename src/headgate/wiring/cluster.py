"""What a node shares with others, put together: counters, agreement, and its own side of both.

Nothing here waits for a server that is away. What can be seen to be wrong with an address is refused at the
start; what only a server can refuse is logged, and the node goes on by itself until it is put right.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.coordination.courier import Courier, CourierFigures
from headgate.coordination.single_agreement import SingleAgreement
from headgate.engine.counters import PEEK, Counter, Question
from headgate.engine.sharing import Sharing, SharingStatus
from headgate.engine.sharing_ports import HORIZON_NS, SharingSettings
from headgate.errors import ConfigurationError, InvalidInput
from headgate.policy.model import Policy
from headgate.wiring.agreement import open_agreement
from headgate.wiring.service import prepare_directory

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.engine.agreement import Agreement
    from headgate.engine.counters import CounterStore
    from headgate.engine.engine import Engine
    from headgate.settings import Settings

__all__ = [
    "Cluster",
    "CourierFigures",
    "SharingStatus",
    "advertised",
    "configured_counters",
    "node_name",
    "open_cluster",
]

_MOST_LEASES: Final = 100_000
_GREETING: Final = "headgate.greeting"
_CONNECTIONS: Final = 2
_SAME_MACHINE: Final = 10
"""How many times as long a store of the node's own may be silent: its death would be heard of at once."""
_AMONG_WORKERS: Final = 5
"""How many times as long leases last among the processes of one node, which then seldom have to ask."""
_ANYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - not bound here: such a host is nobody's address


@final
@dataclass
class Cluster:
    """What one process shares with others.

    Attributes:
        node: the name of this process among the members.
        agreement: on configuration, members and a leader.
        counters: the shared counters; None when nothing is counted together.
        courier: carries questions to them.
        terms: on which the node shares; None when it does not.
        sharing: the node's side of the counters, once an engine was given it.
    """

    node: str
    agreement: Agreement
    counters: CounterStore | None = None
    courier: Courier | None = None
    terms: SharingSettings | None = None
    sharing: Sharing | None = None

    def share(self, engine: Engine) -> None:
        """Let the engine decide with the others; by itself when there is nothing to share."""
        if self.courier is None or self.terms is None:
            return
        self.sharing = Sharing(self.courier, self.terms, engine.clock, engine.table, self.place)
        engine.share(self.sharing)

    @property
    def is_alone(self) -> bool:
        """Whether nobody else can change what this process goes by."""
        return isinstance(self.agreement, SingleAgreement)

    def place(self) -> tuple[int, int]:
        """This node's rank among the live ones, and how many there are."""
        names = [member.node for member in self.agreement.members()]
        rank = bisect_left(names, self.node)
        if rank < len(names) and names[rank] == self.node:
            return rank, len(names)
        return rank, len(names) + 1  # it is about to join

    def store_state(self) -> str:
        """``up``, ``down``, or ``none`` when nothing is counted together."""
        if self.sharing is None:
            return "none"
        return "up" if self.sharing.health.is_up else "down"

    def status(self) -> SharingStatus | None:
        """How the sharing goes; None when nothing is counted together."""
        return None if self.sharing is None else self.sharing.status()

    def drawn(self) -> tuple[int, int, int]:
        """What this node has drawn ahead, of 100,000 keys at most.

        Returns:
            How many keys, the tokens of them that are not spent, and the most that all nodes may hold.
        """
        if self.sharing is None:
            return 0, 0, 0
        views = [view for view in self.sharing.leases(None, _MOST_LEASES) if view.held > 0]
        held = sum(view.held for view in views)
        return len(views), held, sum(view.bound for view in views)

    def shared_counters(self) -> list[tuple[Counter, int]]:
        """The limits that this node shares, with the most tokens of a key that may be leased."""
        if self.sharing is None:
            return []
        limits = list(self.sharing._limits)  # noqa: SLF001 - who wires it may look inside
        return [(shared.counter, shared.bound if shared.is_leased else 0) for shared in limits]

    async def greet(self) -> None:
        """Open the connections and load the scripts, so that the first request need not wait for that.

        Raises:
            StoreUnavailable: the shared counters do not answer as they should.
        """
        if self.counters is None:
            return
        await self.counters.ping()
        spec = Policy.from_dict({"name": _GREETING, "limit": 1, "window": 1}).levels[0].spec
        question = Question(PEEK, [(Counter(_GREETING, 0, spec, _GREETING), "")], 0)
        # The first loads the script, the others each open a connection.
        for together in (1, _CONNECTIONS):
            await asyncio.gather(*(self.counters.ask([question]) for _ in range(together)))

    def carried(self) -> CourierFigures | None:
        """What travelled to the shared counters; None likewise."""
        return None if self.courier is None else self.courier.figures

    async def give_back(self) -> None:
        """Return once the tokens that were drawn ahead are given back, or cannot be."""
        if self.sharing is None:
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not given.done():
                given.set_result(None)

        self.sharing.drain(done)
        await given

    async def close(self) -> None:
        """Let go of everything; nothing can be asked any more."""
        if self.courier is not None:
            await self.courier.close()
        if self.counters is not None:
            await self.counters.close()
        await self.agreement.close()


def node_name(settings: Settings, port: int) -> str:
    """The name of a node: as it was set, or made of its host and port."""
    return settings.node or f"{socket.gethostname()}-{port}"


def advertised(settings: Settings, port: int) -> str:
    """Where other nodes are told that this one's REST service is."""
    if settings.advertise:
        return settings.advertise
    host = socket.gethostname() if settings.host in _ANYWHERE else settings.host
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def open_cluster(
    settings: Settings,
    node: str,
    clock: Clock,
    *,
    agreement: Agreement | None = None,
    local_scope: str | None = None,
) -> Cluster:
    """Everything that the settings name, opened.

    Args:
        settings: the configuration.
        node: the name of this process among the members.
        clock: gives the time of this node.
        agreement: to agree by, in place of what the settings name.
        local_scope: within which ``local`` policies are counted; None for this process alone.

    Raises:
        ConfigurationError: an address, or what belongs to one, or the data directory, cannot be used.
    """
    cluster = Cluster(node, agreement or open_agreement(settings, clock))
    if cluster.agreement.store is not None:
        prepare_directory(settings.data_dir)  # for the last known configuration
    try:
        await cluster.agreement.open()
        if settings.redis_url:
            cluster.counters = counters = configured_counters(settings)
            cluster.courier = Courier(counters)
            cluster.terms = _terms(settings, node, local_scope, has_rivals=agreement is None)
    except BaseException:
        await cluster.close()
        raise
    return cluster


def configured_counters(settings: Settings) -> CounterStore:
    """The shared counters that the settings name. Nothing is reached for until they are asked.

    Raises:
        ConfigurationError: the address cannot be used, or the driver is missing.
    """
    from headgate.coordination.redis_address import (  # noqa: PLC0415 - one node needs none
        RedisAddress,
    )
    from headgate.coordination.redis_counter_stores import counters_at  # noqa: PLC0415 - likewise

    try:
        address = RedisAddress.read(settings.redis_url, settings.redis_ca)
    except InvalidInput as error:
        raise ConfigurationError(error.message, setting="redis_url") from error
    return counters_at(address, settings.cluster)


def _terms(
    settings: Settings, node: str, local_scope: str | None, *, has_rivals: bool
) -> SharingSettings:
    ttl_ns = round(settings.lease_seconds * NS_PER_SECOND)
    deadline_ns = round(settings.store_deadline * NS_PER_SECOND)
    if not has_rivals:
        ttl_ns *= _AMONG_WORKERS
        deadline_ns *= _SAME_MACHINE
    return SharingSettings(
        # A process that starts anew knows nothing of the leases that it had: it is another one to the store.
        f"{node}/{secrets.token_hex(4)}",
        local_scope=local_scope,
        consistency="leased" if settings.consistency == "auto" else settings.consistency,
        deadline_ns=deadline_ns,
        ttl_ns=ttl_ns,
        share=settings.lease_share,
        has_rivals=has_rivals,
        # Processes of one node leave nobody else short, and so ask less often.
        horizon_ns=HORIZON_NS if has_rivals else ttl_ns // 2,
    )
