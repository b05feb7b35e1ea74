"""One peer of the RESP door: who it is, what it may, and what its commands answer.

No sockets here: commands in, bytes out. `headgate.server.resp` moves the bytes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from headgate.errors import HeadgateError
from headgate.server.resp_commands import COMMANDS
from headgate.server.resp_replies import OK, bulk, error_reply, failure, integer, mapping

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.server.resp_door import AuthRequest, RespDoor
    from headgate.server.resp_late import LateReply
    from headgate.server.resp_table import Command

__all__ = ["RespSession"]

_log = logging.getLogger("headgate.server")
_MAX_SHOWN: Final = 40


@final
class RespSession:
    """The state of one connection.

    Attributes:
        door: what all connections share.
        number: of this connection; CLIENT ID.
        protocol: 2, or 3 after HELLO 3.
        name: what the client calls itself.
        scopes: what it may do; None while it has not said who it is.
        token: the token that gave the scopes; "" when none was needed.
        generation: of what the gate said about it; see `RespDoor.generation`.
        pending: a token that must be verified before the next command.
        closing: nothing more is answered.
    """

    def __init__(self, door: RespDoor, number: int) -> None:
        self.door = door
        self.number = number
        self.protocol = 2
        self.name = b""
        self.scopes: frozenset[str] | None = None
        self.token = ""
        self.generation = door.generation
        self.pending: AuthRequest | None = None
        self.closing = False
        self.forget_token()

    @property
    def is_known(self) -> bool:
        """Whether the peer need not say who it is any more."""
        return self.scopes is not None

    def forget_token(self) -> None:
        """Back to what a peer without a token may do."""
        self.token = ""
        self.scopes = self.door.open_scopes()

    def is_current(self) -> bool:
        """Whether the scopes hold; False when the token has to be looked up again first."""
        door = self.door
        if self.generation == door.generation:
            return True
        self.generation = door.generation
        if not self.token:
            self.scopes = door.open_scopes()
            return True
        known = door.gate.recall(self.token)
        if known is None:
            return False
        self.scopes = known.scopes
        return True

    def grant(self, scopes: frozenset[str], request: AuthRequest) -> bytes:
        """Take the scopes of a token that was verified; the reply to who sent it."""
        self.token = request.token
        self.scopes = scopes
        return OK if request.protocol is None else self.greet(request.protocol)

    def greet(self, protocol: int) -> bytes:
        """The reply to HELLO, from which on the protocol is spoken."""
        if self.scopes is None:
            return failure("NOAUTH", "Authentication required; send HELLO 3 AUTH <user> <token>")
        self.protocol = protocol
        about = [
            (b"server", bulk(b"headgate")),
            (b"version", bulk(self.door.version.encode())),
            (b"proto", integer(protocol)),
            (b"id", integer(self.number)),
            (b"mode", bulk(b"standalone")),
            (b"role", bulk(b"master")),
            (b"modules", b"*0\r\n"),
        ]
        return mapping(about, protocol)

    def execute(self, args: list[bytes]) -> bytes | LateReply:
        """Do one command; its reply. Empty while a token has to be verified first."""
        self.door.commands += 1
        command = COMMANDS.get(args[0])
        if command is None:
            command = COMMANDS.get(args[0].upper())
            if command is None:
                return self._unknown(args[0])
        count: i64 = len(args)
        if count < command.least or (count > command.most and command.most > 0):
            return failure("ERR", f"wrong_arguments {command.text} is used as: {command.usage}")
        if command.scope:
            refused = self._refusal(command)
            if refused:
                return refused
        try:
            return command.handler(self, args)
        except HeadgateError as error:
            return error_reply(error)
        except Exception:  # noqa: BLE001 - one failed command must not take the others with it
            _log.exception("the command %s failed", command.text)
            return failure(
                "ERR", "internal_error the command failed; the log of the service says why"
            )

    def _refusal(self, command: Command) -> bytes:
        """Why the peer may not; empty when it may."""
        scopes = self.scopes
        if scopes is None:
            return failure("NOAUTH", "Authentication required; send AUTH <token> first")
        if command.scope in scopes or "admin" in scopes:
            return b""
        return failure(
            "NOPERM", f"{command.text} needs the scope {command.scope!r}; use a token that has it"
        )

    def _unknown(self, name: bytes) -> bytes:
        # What a web page can make a browser send here: lines that read as commands. None gets that far.
        if name.lower() in {b"post", b"host:"}:
            self.closing = True
            return failure("ERR", "Protocol error: this is the RESP port, and HTTP has another")
        shown = ascii(name[:_MAX_SHOWN].decode("utf-8", "replace"))
        return failure(
            "ERR", f"unknown_command {shown} is no command here; COMMAND lists those that are"
        )
