"""The records that the settings name, for whoever works on them without a service: ``headgate token``."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headgate.clock import SystemClock
from headgate.wiring.agreement import open_agreement
from headgate.wiring.service import open_configured_store, prepare_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.engine.ports import Store
    from headgate.settings import Settings

__all__ = ["open_records"]


@contextmanager
def open_records(settings: Settings) -> Iterator[Store]:
    """Those of the cluster when the settings name one, else the node's own.

    Not for use on an event loop.

    Raises:
        ConfigurationError: they cannot be opened.
    """
    clock = SystemClock()
    agreement = open_agreement(settings, clock)
    store = agreement.store
    if store is None:
        with open_configured_store(settings, clock) as own:
            yield own
        return
    prepare_directory(settings.data_dir)
    try:
        yield store
    finally:
        asyncio.run(agreement.close())
