"""The fast lane: checks that are answered ahead of ASGI.

A connection hands over the bytes it received. While they begin with whole requests for ``check`` in the
form that nearly every client sends, the lane answers; the rest is left to the ordinary route, and so is
whatever is wrong with a request. So the lane only ever says yes, no or too much, in the words of
`headgate.server.render`, and nobody can tell from an answer which of the two gave it.

A check whose decision is on its way ends a call: the connection keeps what comes after it, and asks `word`
for the bytes when the decision is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_extensions import i64

    from headgate.engine.pending import Pending
    from headgate.server.render import Renderer
    from headgate.server.service import CheckService
    from headgate.server.wire import CheckRequest

__all__ = ["CheckLane"]

_REQUEST_LINE: Final = b"POST /api/v1/check HTTP/1.1\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_YES: Final = b"HTTP/1.1 200 OK\r\n"
_NO: Final = b"HTTP/1.1 429 Too Many Requests\r\n"
_NOT_A_CHECK: Final = 0
_ANSWERED: Final = 1
_ON_ITS_WAY: Final = 2
_TOO_MUCH: Final = b"HTTP/1.1 503 Service Unavailable\r\n"


@final
class CheckLane:
    """Bytes of requests in, bytes of answers out; one for all connections.

    Args:
        service: decides.
        renderer: words the answers.
        decode: from a body to a check; raises for what is none.
        known_heads: heads that were read before, and how long the body is that follows.
        read_head: the same for a head that is not known; negative when the lane must not answer.
        max_body: the longest body of a check.

    Attributes:
        taken: how many of the bytes the last call dealt with.
        wants_more: whether the rest is the beginning of a request that the lane could answer.
        pending: the decision of the last check that was taken, when it is on its way; else None.
        admitted: checks answered yes.
        denied: checks answered no.
        shed: checks not decided, because there are too many.
    """

    def __init__(
        self,
        service: CheckService,
        renderer: Renderer,
        decode: Callable[[bytes], CheckRequest],
        known_heads: dict[bytes, int],
        read_head: Callable[[bytes], int],
    ) -> None:
        self._service = service
        self._renderer = renderer
        self._decode = decode
        self._known_heads = known_heads
        self._read_head = read_head
        self._default_fields: Sequence[tuple[bytes, bytes]] = ()
        self._yes = _YES
        self._no = _NO
        self._too_much = _TOO_MUCH
        self.taken = 0
        self.wants_more = False
        self.pending: Pending[Decision] | None = None
        self.admitted = 0
        self.denied = 0
        self.shed = 0

    def answer(self, data: bytes, default_fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Answer the checks that the bytes begin with.

        Args:
            data: what a connection received, from the beginning of a request on.
            default_fields: header fields that go before all others; the same object until they change.
        """
        if default_fields is not self._default_fields:
            self._write_beginnings(default_fields)
        at: i64 = 0
        answers: list[bytes] = []
        self.wants_more = False
        self.pending = None
        while data.startswith(_REQUEST_LINE, at):
            end: i64 = data.find(_END_OF_HEAD, at)
            if end < 0:
                break
            start = end + 4
            length = self._length_after(data[at:start])
            if length < 0:
                break
            end = start + length
            if end > len(data):
                self.wants_more = True
                break
            begun = self._check(data[start:end], answers)
            if begun == _NOT_A_CHECK:
                break
            at = end
            if begun == _ON_ITS_WAY:
                break
        self.taken = at
        if len(answers) == 1:
            return answers[0]
        return b"".join(answers)

    def _length_after(self, head: bytes) -> i64:
        length = self._known_heads.get(head)
        if length is None:
            length = self._read_head(head)
        return length

    def word(self, decision: Decision) -> bytes:
        """The bytes of an answer."""
        if decision.allowed:
            self.admitted += 1
            return self._yes + self._renderer.check(decision)
        if self._service.overload.is_refusal(decision):
            self.shed += 1
            return self._too_much + self._renderer.overloaded(decision)
        self.denied += 1
        return self._no + self._renderer.check(decision)

    def _check(self, body: bytes, answers: list[bytes]) -> i64:
        """Begin one check; nothing is spent when it is not a valid one."""
        try:
            request = self._decode(body)
            decision = self._service.decide(
                request.key, request.tokens, request.metadata, len(body), request.priority
            )
        except Exception:  # noqa: BLE001 - whatever it is, the ordinary route has the words for it
            return _NOT_A_CHECK
        if isinstance(decision, Decision):
            answers.append(self.word(decision))
            return _ANSWERED
        self.pending = decision
        return _ON_ITS_WAY

    def _write_beginnings(self, default_fields: Sequence[tuple[bytes, bytes]]) -> None:
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in default_fields])
        self._yes = _YES + lines
        self._no = _NO + lines
        self._too_much = _TOO_MUCH + lines
        self._default_fields = default_fields
