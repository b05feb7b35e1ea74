"""What the routes work with, put together once by `headgate.server.lifecycle`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headgate.server.render import Renderer

if TYPE_CHECKING:
    from headgate.gates.features import Features
    from headgate.server.auth import Gatekeeper
    from headgate.server.backpressure_desk import BackpressureDesk
    from headgate.server.cluster_desk import ClusterDesk
    from headgate.server.connections import Connections
    from headgate.server.guarded_store import GuardedStore
    from headgate.server.lane import CheckLane
    from headgate.server.policies import PolicyDesk
    from headgate.server.pressure import Pressure
    from headgate.server.resp_door import RespDoor
    from headgate.server.service import CheckService
    from headgate.server.station import Station
    from headgate.settings import Settings

__all__ = ["Context", "TopDenied"]


class TopDenied(Protocol):
    """Says which keys are denied most."""

    def top(self, count: int) -> Sequence[tuple[str, str, int]]:
        """(policy, key, at most how often), the most denied first."""


@dataclass
class Context:
    """One running service.

    Attributes:
        store: what is remembered, behind a breaker.
        backpressure: changes how the service copes with pressure.
        pressure: how much of it there is.
        features: what is left out under pressure; set before anybody is served.
        cluster: the node among others; set before anybody is served.
        resp: what the connections of the RESP door share.
        answered: (route, method, status) -> how many requests the routes answered.
        draining: the service is about to stop.
        station: of a worker that serves beside others; None for a service of one process.
    """

    settings: Settings
    store: GuardedStore
    service: CheckService
    gatekeeper: Gatekeeper
    policies: PolicyDesk
    backpressure: BackpressureDesk
    pressure: Pressure
    top_denied: TopDenied
    version: str
    renderer: Renderer = field(default_factory=Renderer)
    features: Features = field(init=False)
    cluster: ClusterDesk = field(init=False)
    lane: CheckLane | None = None
    connections: Connections | None = None
    resp: RespDoor | None = None
    answered: dict[tuple[str, str, int], int] = field(default_factory=dict)
    draining: bool = False
    station: Station | None = None
