"""What a process knows of itself that serves beside others as one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.server.acceptor import Acceptor

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Callable

    from headgate.engine.agreement import Agreement
    from headgate.server.balance import Balance
    from headgate.server.link import Link

__all__ = ["RESP", "REST", "Station"]

REST: Final = 0
RESP: Final = 1


@final
class Station:
    """A worker's place.

    Args:
        number: of this worker; no other live worker of the node has it.
        node: the name of the node that they are.
        listeners: REST's and RESP's, which all workers have.
        balance: who has how many connections.
        link: to the others.
        agreement: how the workers agree; None when the settings name something that all nodes agree by.

    Attributes:
        scope: within which the node's own limits are counted. In a store of the node's own it does not
            depend on the name, so that its counters outlive a change of that.
        leaves_queue: what waits to be accepted when this worker goes is left to those that stay.
    """

    def __init__(
        self,
        number: int,
        node: str,
        listeners: tuple[socket.socket, socket.socket | None],
        balance: Balance,
        link: Link,
        agreement: Agreement | None = None,
    ) -> None:
        self.number = number
        self.node = node
        self.listeners = listeners
        self.link = link
        self.scope = "node" if agreement is not None else f"node:{node}"
        self.agreement = agreement
        self.leaves_queue = False
        self._balance = balance
        self._doors: dict[int, Acceptor] = {}
        self._is_open = False

    def attend(
        self,
        door: int,
        connection: Callable[[], asyncio.BaseProtocol],
        held: Callable[[], int],
        tls: ssl.SSLContext | None,
    ) -> int:
        """Take connections of a door, as soon as all of them may be; returns its port.

        Args:
            door: `REST` or `RESP`.
            connection: makes a connection's protocol.
            held: how many connections there are.
            tls: the context of TLS, if it is spoken.
        """
        listener = self.listeners[door]
        assert listener is not None  # noqa: S101 - the settings have this door
        seat = self._balance.column(door).seat(self.number)
        acceptor = self._doors[door] = Acceptor(listener, connection, held, seat, tls)
        if self._is_open:
            acceptor.open()
        return int(listener.getsockname()[1])

    def open(self) -> None:
        """Accept, at all doors."""
        self._is_open = True
        for acceptor in self._doors.values():
            acceptor.open()

    def close(self, door: int) -> None:
        """Accept no more at this door."""
        acceptor = self._doors.pop(door, None)
        if acceptor is not None:
            # A RESP connection is closed when the service stops, whether or not it asked something.
            acceptor.close(sweep=door == REST and not self.leaves_queue)
