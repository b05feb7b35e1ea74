"""What the node side of shared limits needs of the outside world, and how it is set up, as types.

Whoever wires a node builds a `headgate.engine.sharing.Sharing` from a `Courier` and `SharingSettings`, and
hands it to `Engine.share`, before or after policies are set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.engine.counters import Answer, Question

__all__ = [
    "CLUSTER_SCOPE",
    "CONSISTENCIES",
    "HORIZON_NS",
    "Courier",
    "SharingSettings",
]

CONSISTENCIES: Final = ("strict", "leased", "local")
"""``strict``: one atomic question per decision. ``leased``: tokens drawn ahead. ``local``: not shared."""

CLUSTER_SCOPE: Final = "cluster"

HORIZON_NS: Final = 500_000_000
"""How far ahead of need tokens are drawn: keys that are asked for now and then need few messages, and what is
stranded is bounded in any case."""


class Courier(Protocol):
    """Carries questions to the store, many in one message, and tells the time of later moments.

    All calls come from the engine's thread, and all callbacks are made there. Neither method blocks, raises,
    or calls back before it has returned.
    """

    def send(self, question: Question, done: Callable[[Answer | None], object]) -> None:
        """Carry a question, together with others that are sent at about the same time.

        ``done`` is called exactly once: with the answer, however late, or with None when it is not known
        what became of the question (refused, cut off, given up). It does not raise. The courier sets no
        deadline of milliseconds of its own: who asked does that, and still wants a late answer, in order to
        give back what it granted. Nor does it send a question twice, unless it knows that the first one
        was not carried out.
        """

    def later(self, delay_ns: int, callback: Callable[[], object]) -> object:
        """Call back once, no earlier than in so many nanoseconds. It cannot be called off."""


@final
@dataclass(frozen=True, slots=True)
class SharingSettings:
    """How a node shares its limits.

    Attributes:
        node: this process among all that share; one that starts anew takes another name (say, with a random
            part), because it knows nothing of the leases that it had.
        scope: of the counters of ``strict`` and ``leased`` policies; nodes with the same scope share them.
        local_scope: of the counters of ``local`` policies, which are then leased within this scope: so
            several processes are one node. None: they are counted in this process alone.
        consistency: of policies that name none.
        deadline_ns: the longest that a request waits for the store.
        ttl_ns: how long a lease lasts that is not renewed.
        share: of a limit's capacity, what all nodes together may hold unspent.
        horizon_ns: how far ahead of need tokens are drawn.
        has_rivals: other nodes share the counters of ``scope``; False when only processes of this node do,
            which need no fair shares.
        max_records: keys with a lease at the same time; further ones are counted strictly.
        max_owed: keys for which it is remembered what they were admitted while the store was away, and
            refunds that wait for its return.
    """

    node: str
    scope: str = CLUSTER_SCOPE
    local_scope: str | None = None
    consistency: str = "leased"
    deadline_ns: int = 20_000_000
    ttl_ns: int = 2_000_000_000
    share: float = 0.05
    horizon_ns: int = HORIZON_NS
    has_rivals: bool = True
    max_records: int = 100_000
    max_owed: int = 100_000
