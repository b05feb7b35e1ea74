"""The node's side of limits that are shared with other nodes: leases, strict questions, failure modes.

An engine is given its sharing once it is built: ``engine.share(Sharing(courier, settings))``. From then on
the ``begin_`` methods of the engine answer for strict and leased limits by the shared counters; policies that
were set before, too. Without a sharing, they are decided locally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.engine.sharing_ports import Courier, SharingSettings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Courier", "Sharing", "SharingSettings"]


def _alone() -> tuple[int, int]:
    return 0, 1


@final
class Sharing:
    """What an engine shares with other nodes, and how.

    Args:
        courier: carries questions to the store.
        settings: how.
        place: this node's rank among the live nodes, and how many there are; for the share of a limit that
            it may admit while the store is away.
    """

    def __init__(
        self,
        courier: Courier,
        settings: SharingSettings,
        place: Callable[[], tuple[int, int]] = _alone,
    ) -> None:
        self.courier = courier
        self.settings = settings
        self.place = place

    def drain(self, done: Callable[[], object]) -> None:
        """Give all leases back and draw no more.

        ``done`` is called once the store has them, or cannot be reached. Requests that come meanwhile are
        answered strictly.
        """
        self.courier.later(0, done)
