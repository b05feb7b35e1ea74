"""Who may pass?

One `Algorithm` is one limit with its constants worked out: it takes the state of a key, a cost and the
time, and answers with numbers and the next state. It keeps nothing, reads no clock, does no I/O and
rounds nothing that it could keep exact; whoever holds the states (`headgate.engine.table`), the clock
and the lock stands outside. Token bucket, leaky bucket (meter and queue), sliding window (exact log, or
counters), fixed window (plain, or by the calendar of a time zone), the dual of bucket and window, and
the concurrency limit all answer the same few questions (`headgate.algorithms.base`), so that everything
that carries them out is written once. `build` makes one from a name and a `headgate.rate.Rate`.

>>> from headgate.rate import Rate
>>> bucket = build("token_bucket", Rate.parse("10/s burst 2"))
>>> state = bucket.consume(None, 2, now=0)
>>> bucket.wait(state, 1, now=0)
100000000
"""

from __future__ import annotations

from headgate.algorithms.factory import ALGORITHMS, build, options_of

__all__ = ["ALGORITHMS", "build", "options_of"]
