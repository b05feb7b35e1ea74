"""What do we remember?

Policies with their versions, API tokens (as hashes), documents of settings, and the counters across a
graceful restart. `open_store` opens SQLite or PostgreSQL, or a store in memory; all three keep the same
contract (``tests/contract``). No driver's error leaves this room: a store that cannot answer raises
`StoreUnavailable`, and a change that came too late raises `Conflict`.
"""

from headgate.storage.opening import open_store
from headgate.storage.snapshot import load_snapshot, save_snapshot

__all__ = ["load_snapshot", "open_store", "save_snapshot"]
