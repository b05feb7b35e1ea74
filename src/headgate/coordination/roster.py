"""Who is there and who leads, as one node knows it: kept fresh by beats, and asked without waiting."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_MS
from headgate.coordination.backend import Card, Roll
from headgate.engine.agreement import Member

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.clock import Clock

__all__ = ["Roster", "card_of"]

_log = logging.getLogger("headgate.coordination")
_MARGIN: Final = 20
"""A leader stops this part of its lease (5 %), and at least 1 ms, before the store would end it."""


@final
class Roster:
    """The last roll. Written on one loop, read from any thread: each read is of one attribute.

    Args:
        clock: what this node's own lease is measured on; monotonic, so that the wall clock plays no part.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._roll = Roll((), "")
        self._members: Sequence[Member] = ()
        self._leads_until_ns = 0
        self.card: Card | None = None

    @property
    def is_member(self) -> bool:
        """Whether this process was a member when it last looked."""
        return self._roll.lease_ns > 0

    def members(self) -> Sequence[Member]:
        """See `Agreement`."""
        return self._members

    def leader(self) -> str:
        """See `Agreement`. This node itself only while its lease cannot have run out."""
        roll, card = self._roll, self.card
        if card is None or roll.leader != card.node:
            return roll.leader
        if roll.leads and self._clock.now_ns() < self._leads_until_ns:
            return roll.leader
        return ""

    def take(self, roll: Roll, asked_ns: int) -> None:
        """Go by this roll, which was asked for at that moment."""
        before = self._roll.leader
        if roll.leads:
            margin = max(roll.lease_ns // _MARGIN, NS_PER_MS)
            self._leads_until_ns = asked_ns + roll.lease_ns - margin
        self._members = sorted(map(_member, roll.members), key=lambda member: member.node)
        self._roll = roll
        if roll.leader != before:
            _log.info("the leader is %s; it was %s", roll.leader or "nobody", before or "nobody")

    def other(self) -> Member | None:
        """Who has the name that this process wants; None: nobody else."""
        card = self.card
        if card is None or self.is_member:
            return None
        return next((one for one in self._members if one.node == card.node), None)


def card_of(member: Member, run: str) -> Card:
    """A member as it is written down."""
    fields = [member.address, member.version, member.started_ms, member.workers]
    return Card(member.node, run, json.dumps(fields, separators=(",", ":")))


def _member(card: Card) -> Member:
    """A member that was written down, by this version of Headgate or another."""
    try:
        address, version, started_ms, workers, *_ = json.loads(card.text)
        return Member(card.node, str(address), str(version), int(started_ms), int(workers))
    except (ValueError, TypeError):
        return Member(card.node)
