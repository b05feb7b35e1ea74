"""CL.THROTTLE over RESP, in pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RespTalk", "command"]

_LINES_OF_A_REPLY: Final = 6


def command(*words: str) -> bytes:
    """A command in bytes."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


class RespTalk:
    """Sends pipelines in turn, beginning at one of them.

    Args:
        pipelines: each a number of commands in bytes.
        depth: how many commands that are.
        first: which pipeline comes first.
        greeting: a command that goes before all, such as AUTH; its answer is one line.
    """

    def __init__(
        self, pipelines: Sequence[bytes], depth: int, first: int, greeting: bytes = b""
    ) -> None:
        self._pipelines = pipelines
        self._depth = depth
        self._next = first % len(pipelines)
        self._greeting = greeting
        self._lines = 0
        self._wanted = 0
        self._heard: list[bytes] = []

    def ask(self) -> bytes:
        pipeline = self._pipelines[self._next]
        self._next = (self._next + 1) % len(self._pipelines)
        greeting, self._greeting = self._greeting, b""
        self._wanted = _LINES_OF_A_REPLY * self._depth + (1 if greeting else 0)
        return greeting + pipeline

    def hear(self, data: bytes) -> tuple[int, int] | None:
        begins_line = not self._heard or self._heard[-1].endswith(b"\n")
        self._heard.append(data)
        self._lines += data.count(b"\n")
        if b"\n-" in data or (begins_line and data.startswith(b"-")):
            raise _refusal(b"".join(self._heard))
        if self._lines < self._wanted:
            return None
        answer = b"".join(self._heard)
        self._heard.clear()
        self._lines = 0
        return self._depth, answer.count(b"*5\r\n:0\r\n")


def _refusal(answer: bytes) -> Unreachable:
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"-")]
    shown = lines[0][1:].decode("utf-8", "replace") if lines else "an answer that is none"
    return Unreachable(f"the service answered: {shown}")
