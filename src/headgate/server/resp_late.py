"""Replies whose decision is on its way, and the order in which they go out all the same.

A peer's commands are all begun as they come in; the shared counters are asked about many of them at once. Its
replies go out in the order of the commands: one that is late holds back those after it, of this peer only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

from headgate.decision import Decision
from headgate.engine.pending import Pending
from headgate.engine.reservations import Reservation
from headgate.errors import HeadgateError
from headgate.server.resp_replies import decision_reply, error_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

__all__ = ["LateReply", "ReplyQueue", "reply_to"]

MAX_LATE: Final = 4_096
"""Replies that one peer may have waiting before no more of its commands are begun."""


def word(outcome: object, protocol: int) -> bytes:
    """What became of a command, as its reply."""
    if isinstance(outcome, Decision):
        return decision_reply(outcome, protocol)
    if isinstance(outcome, Reservation):
        return decision_reply(outcome.decision, protocol, outcome.id)
    assert isinstance(outcome, HeadgateError)  # noqa: S101 - there is nothing else
    return error_reply(outcome)


def reply_to(outcome: object, protocol: int) -> bytes | LateReply:
    """The reply to an outcome, or to one that is on its way."""
    if isinstance(outcome, Pending):
        return LateReply(outcome, protocol)
    return word(outcome, protocol)


@final
class LateReply:
    """A reply that is not known yet.

    Args:
        pending: what it will be made of; None when `fill` is called instead.
        protocol: that was spoken when the command came.
    """

    def __init__(self, pending: Pending[Any] | None, protocol: int) -> None:
        self.is_ready = False
        self.reply = b""
        self._pending = pending
        self._protocol = protocol
        self._told: Callable[[], object] | None = None

    def tell(self, told: Callable[[], object]) -> None:
        """Call this once the reply is there, which may be now."""
        self._told = told
        if self._pending is not None:
            self._pending.then(self._settled)

    def fill(self, reply: bytes) -> None:
        """This is the reply."""
        self.reply = reply
        self.is_ready = True
        self._pending = None
        if self._told is not None:
            self._told()

    def _settled(self, outcome: object) -> None:
        self.fill(word(outcome, self._protocol))


@final
class ReplyQueue:
    """The replies of one peer from its first late one on.

    Attributes:
        waiting_bytes: of the replies that are there, and wait for others.
    """

    def __init__(self) -> None:
        self._replies: deque[bytes | LateReply] = deque()
        self.waiting_bytes: i64 = 0

    def __len__(self) -> int:
        return len(self._replies)

    def put(self, reply: bytes | LateReply) -> None:
        """This is the next one."""
        self._replies.append(reply)
        if isinstance(reply, bytes):
            self.waiting_bytes += len(reply)

    def take(self) -> bytes:
        """The replies that can go out, in one piece."""
        ready: list[bytes] = []
        replies = self._replies
        while len(replies) > 0:
            reply = replies[0]
            if isinstance(reply, LateReply):
                if not reply.is_ready:
                    break
                ready.append(reply.reply)
            else:
                self.waiting_bytes -= len(reply)
                ready.append(reply)
            replies.popleft()
        return b"".join(ready)

    def clear(self) -> None:
        """Nobody is there any more to read them."""
        self._replies.clear()
        self.waiting_bytes = 0
