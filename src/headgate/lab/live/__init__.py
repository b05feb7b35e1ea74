"""The live rig: a real server process on one core, an open-loop load on the other, over loopback.

The server is a program of its own (`headgate.lab.live.server`), pinned to a core. What it works on is
processor time that is really burnt. The load comes from this process, pinned to another core, and is
written as in virtual time: `LiveTime` is a `headgate.lab.simulation.Simulation` that waits for the machine's
clock, so `Arrivals`, ``after`` and ``every`` are the same code in both. An arrival happens at the moment when
it was due, even if the machine was late, and latencies count from then (no coordinated omission)::

    with server_process("headgate.lab.protections:tiered", core=cores()[1]) as server:
        time = LiveTime(seed=1)
        tally = Tally(3 * NS_PER_SECOND, 8 * NS_PER_SECOND)
        with Remote(time, server.port, tally) as remote, pinned(cores()[0]):
            Arrivals(time, 900.0, remote.submit, service=constant(NS_PER_MS), timeout_ns=...)
            time.run(8 * NS_PER_SECOND)
        usage = remote.usage()

``Remote`` counts in the tally by itself, and tells ``answered(request, status, pressure, now)`` where a
client has more to do: a throttle that counts, a retry that is planned with ``time.after``.

**What runs in the server** is named by import path, with keyword arguments that go through JSON:

* ``"module:factory"`` of a *protection* (`headgate.lab.protections.Protection`), which is made by
  ``factory(host, **arguments)``. Arrivals that it admits join a line and are worked on one at a time, with
  I/O in between. With an attribute ``line`` (`headgate.lab.servers.Line`) it brings its own line; a line that
  gives up on somebody calls ``host.drop(request)``.
* ``"module:factory"`` of an *application*, an ``async def app(request) -> None`` that ``factory`` returns:
  each request becomes a task. ``host.burn(request)`` occupies the processor for its service time;
  ``await host.hold(request)`` lets it pass without (work done elsewhere, many at a time). A `RateLimited`
  that the application raises is a rejection, anything else a failure.

``host`` has ``clock``, ``stream(name)``, ``drop``, ``burn``, ``hold``, ``waiting``; ``remote.set_speed(0.3)``
makes services that begin from then on take 1/0.3 of their time.

Everything is bounded: the server ends with its parent, when told, and after five minutes in any case.
"""

from __future__ import annotations

from headgate.lab.live.load import LiveTime, Remote, Usage, cores, pinned
from headgate.lab.live.process import ServerProcess, server_process

__all__ = ["LiveTime", "Remote", "ServerProcess", "Usage", "cores", "pinned", "server_process"]
