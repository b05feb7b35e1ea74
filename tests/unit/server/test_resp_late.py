"""Replies that are late keep their place."""

from __future__ import annotations

from functools import partial

from headgate.decision import Decision
from headgate.engine.pending import Pending
from headgate.engine.reservations import Reservation
from headgate.errors import UnknownReservation
from headgate.server.resp_late import LateReply, ReplyQueue, reply_to
from headgate.server.resp_replies import decision_reply, error_reply

YES = Decision(True, 10, 9, 0, 10**9, 0, "api", 60 * 10**9)
DEGRADED = Decision(True, 10, 9, 0, 10**9, 0, "api", 60 * 10**9, (), True)


def test_what_is_known_is_worded_at_once() -> None:
    assert reply_to(YES, 2) == decision_reply(YES, 2)
    assert reply_to(Reservation("r", YES, 0), 3) == decision_reply(YES, 3, "r")


def test_a_late_decision_an_error_a_hold_are_worded_as_early_ones() -> None:
    error = UnknownReservation("there is none")
    for outcome, words in (
        (YES, decision_reply(YES, 3)),
        (Reservation("r", YES, 0), decision_reply(YES, 3, "r")),
        (error, error_reply(error)),
    ):
        pending: Pending[object] = Pending()
        reply = reply_to(pending, 3)
        assert isinstance(reply, LateReply)
        told: list[None] = []
        reply.tell(partial(told.append, None))
        assert told == []
        pending.settle(outcome)
        assert (told, reply.reply) == ([None], words)


def test_replies_go_out_in_order() -> None:
    queue = ReplyQueue()
    first, second = LateReply(None, 2), LateReply(None, 2)
    for reply in (first, b"b", second, b"dd"):
        queue.put(reply)
    assert queue.waiting_bytes == 3
    second.fill(b"c")
    assert queue.take() == b""
    first.fill(b"a")
    assert queue.take() == b"abcdd"
    assert (len(queue), queue.waiting_bytes) == (0, 0)


def test_a_degraded_reply_says_so_last() -> None:
    assert decision_reply(DEGRADED, 2).startswith(b"*8\r\n:1\r\n")
    assert decision_reply(DEGRADED, 2).endswith(b"$8\r\ndegraded\r\n")
    assert decision_reply(DEGRADED, 2, "r").startswith(b"*9\r\n")
    assert decision_reply(DEGRADED, 3).startswith(b"%8\r\n")
    assert decision_reply(DEGRADED, 3).endswith(b"$8\r\ndegraded\r\n#t\r\n")
    assert b"degraded" not in decision_reply(YES, 3)
