"""Several services that are one cluster, each in a thread of its own, on the system's clock."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headgate.clock import SystemClock
from tests.support.service import Service, running_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def running_nodes(directory: Path, names: str, **options: Any) -> Iterator[list[Service]]:
    """A node for each letter; ``options`` are settings that name what they share."""
    with contextlib.ExitStack() as stack:
        found = [
            stack.enter_context(
                running_service(directory / name, SystemClock(), node=name, **options)
            )
            for name in names
        ]
        for service in found:
            eventually(lambda service=service: len(members(service)) == len(names))
        yield found


def members(service: Service) -> list[dict[str, Any]]:
    """The live nodes as one of them sees them."""
    agreement = service.running.context.cluster.cluster.agreement
    return [{"node": one.node, "address": one.address} for one in agreement.members()]


def apply_everywhere(services: list[Service], *policies: dict[str, Any]) -> None:
    """Tell the first node, and wait until all have it in force."""
    answer = services[0].post("/api/v1/policies:apply", {"policies": list(policies)})
    assert answer.status == 200, answer.body
    versions = {one["name"]: one["version"] for one in answer.json["policies"]}
    for service in services:
        desk = service.running.context.policies
        eventually(lambda desk=desk: versions.items() <= desk.versions.items(), 5)
