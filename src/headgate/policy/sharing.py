"""The fields ``consistency`` and ``lease`` of a policy: how its limits are shared over nodes (D1).

::

    "consistency": "leased"
    "lease": {"ttl": "2s", "share": 0.05}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headgate.rate import parse_window

if TYPE_CHECKING:
    from headgate.policy.fields import Fields

__all__ = ["LIKE_THE_NODE", "LeaseSpec", "read_consistency", "read_lease"]

CONSISTENCIES: Final = ("strict", "leased", "local")
_SHORTEST_NS: Final = 100_000_000
_LONGEST_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class LeaseSpec:
    """How the tokens of a leased policy are drawn ahead; what is None is as the node has it.

    Attributes:
        ttl_ns: how long a lease lasts that is not renewed.
        share: of a limit's capacity, what all nodes together may hold unspent.
    """

    ttl_ns: int | None = None
    share: float | None = None


LIKE_THE_NODE: Final = LeaseSpec()


def read_consistency(fields: Fields, *, adapts: bool) -> str | None:
    """The field, if it is there.

    Raises:
        InvalidPolicy: it is no such word, or the policy adapts its rates, which only a node alone can.
    """
    if not fields.given("consistency"):
        return None
    consistency = fields.choice("consistency", CONSISTENCIES, "")
    if adapts and consistency != "local":
        raise fields.error(
            "consistency",
            "must be local for a policy with adaptive rates, which follow the load of one node; "
            "leave one of the two out",
            consistency,
        )
    return consistency


def read_lease(fields: Fields) -> LeaseSpec:
    """The field; nothing set when it is left out.

    Raises:
        InvalidPolicy: it makes no sense.
    """
    inner = fields.mapping("lease")
    inner.only(("ttl", "share"))
    ttl_ns = None
    if inner.given("ttl"):
        with inner.naming("ttl"):
            ttl_ns, _ = parse_window(inner.duration("ttl"))
        if not _SHORTEST_NS <= ttl_ns <= _LONGEST_NS:
            raise inner.error("ttl", "must be 100ms to 1h", inner.data["ttl"])
    share = None
    if inner.given("share"):
        value = inner.data["share"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise inner.error("share", "must be a number above 0 and at most 1", value)
        share = float(value)
    return LeaseSpec(ttl_ns, share)
