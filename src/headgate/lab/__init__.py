"""The laboratory: does it hold under overload?

Ten experiments put gates and calculators of this package under loads that break what is not protected,
beside the unprotected system and the best comparable algorithm on the same input. Each runs in virtual
time, where the same seed gives the same result, and most also live, against a real server on this machine.
``headgate lab`` runs them; each says which claims it must meet, and whether it does.

An experiment is a module ``experiments/expNN_<name>.py`` that defines ``EXPERIMENT``. It is built from

    simulation      time that jumps from one event to the next
    virtual_loop    asyncio in such time
    workload        requests, how they arrive (open loop), and the tally of what became of them
    servers         a server with so many seats, service times, and a price for saying no
    report          what an experiment hands back: a table, series to draw, claims
    live            a real server and a load generator for it, each on its own core
"""

from __future__ import annotations

__all__: list[str] = []
