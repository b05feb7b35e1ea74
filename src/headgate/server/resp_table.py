"""What a command is: how it is called, who may, and what carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.server.resp_late import LateReply
    from headgate.server.resp_session import RespSession

    Handler = Callable[[RespSession, list[bytes]], bytes | LateReply]

__all__ = ["Command"]


@final
class Command:
    """One command.

    Attributes:
        text: its name in capitals.
        usage: how it is written.
        summary: what it does, in a sentence.
        scope: what a peer must have; "" for none.
        least: the fewest arguments, the name included.
        most: the most arguments; 0 for any number.
        keyed: whether its first argument is a key.
    """

    def __init__(
        self,
        usage: str,
        summary: str,
        handler: Handler,
        *,
        scope: str = "",
        least: int,
        most: int = 0,
        keyed: bool = False,
    ) -> None:
        self.text = usage.split(" ", 1)[0]
        self.usage = usage
        self.summary = summary
        self.handler = handler
        self.scope = scope
        self.least = least
        self.most = most
        self.keyed = keyed
