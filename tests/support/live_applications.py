"""What tests of the live rig run in its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.decision import Decision
from headgate.errors import Overloaded
from headgate.lab.protections import Unprotected
from headgate.lab.servers import Fifo

if TYPE_CHECKING:
    from headgate.lab.live.server import Host


def every_third(host: Host):
    """Works, refuses, fails, and so on."""

    async def application(request):
        await host.hold(request)
        if request.number % 3 == 1:
            raise Overloaded(Decision(False, 1, 0, 1, 1, 0, "test", 0))
        if request.number % 3 == 2:
            raise ValueError(request.number)
        host.burn(request)

    return application


def drops_even_numbers(host: Host):
    """A protection with a line of its own."""
    return _Dropping(host)


class _Dropping(Unprotected):
    def __init__(self, host):
        self.line = _Odd(host)

    def pressure(self, now):
        return 0.25


class _Odd:
    def __init__(self, host):
        self._host = host
        self._fifo = Fifo()

    def push(self, request, now):
        self._fifo.push(request, now)

    def pop(self, now):
        request = self._fifo.pop(now)
        while request is not None and request.number % 2 == 0:
            self._host.drop(request)
            request = self._fifo.pop(now)
        return request

    def __len__(self):
        return len(self._fifo)
