"""What all connections of the RESP door share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.engine.ports import Token
    from headgate.server.resp_throttle import ThrottleBook
    from headgate.server.service import CheckService

__all__ = ["ALL_SCOPES", "AuthRequest", "RespDoor", "TokenGate"]

ALL_SCOPES: Final = frozenset({"admin"})


class TokenGate(Protocol):
    """Knows the tokens: `headgate.server.auth.Gatekeeper`."""

    required: bool

    def recall(self, text: str) -> Token | None:
        """The token that this text was found to be before, if it is still valid."""


@final
class AuthRequest:
    """A token to be verified, and what to answer once it is.

    Attributes:
        token: as it was sent.
        protocol: the protocol to speak from then on, when HELLO asked; None when AUTH did.
    """

    def __init__(self, token: str, protocol: int | None) -> None:
        self.token = token
        self.protocol = protocol


@final
class RespDoor:
    """The service behind the door, and the counters of the door.

    Attributes:
        service: answers checks by policy.
        throttles: the limits of CL.THROTTLE.
        gate: knows the tokens.
        now_ns: the time.
        version: of Headgate.
        started_ns: when the door opened.
        max_key_bytes: the longest key.
        describe: writes the sections of INFO that are asked for; all when none is.
        generation: goes up whenever what the gate said must not be relied on any longer.
        commands: commands done.
        connections: open now.
        accepted: connections ever accepted.
        refused: connections turned away at the limit.
        malformed: connections closed for what they sent.
        timed_out: connections closed for what they did not send, or did not read.
    """

    def __init__(
        self,
        service: CheckService,
        throttles: ThrottleBook,
        gate: TokenGate,
        now_ns: Callable[[], int],
        version: str = "",
    ) -> None:
        self.service = service
        self.throttles = throttles
        self.gate = gate
        self.now_ns = now_ns
        self.version = version
        self.started_ns = now_ns()
        self.max_key_bytes: int = service.max_key_bytes
        self.describe: Callable[[set[str]], str] | None = None
        self.generation = 0
        self.commands = 0
        self.connections = 0
        self.accepted = 0
        self.refused = 0
        self.malformed = 0
        self.timed_out = 0

    def open_scopes(self) -> frozenset[str] | None:
        """What a peer may do before it says who it is: everything, or nothing."""
        return None if self.gate.required else ALL_SCOPES

    def doubt(self) -> None:
        """Tokens may have changed: every connection looks at its own again."""
        self.generation += 1

    def info(self, sections: set[str]) -> str:
        """The text of INFO."""
        return "" if self.describe is None else self.describe(sections)
