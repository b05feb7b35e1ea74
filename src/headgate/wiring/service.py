"""The service put together: from settings to a store, an engine and its observers.

It opens and restores; who runs the service closes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

from headgate.analytics.top_keys import TopKeys
from headgate.engine.engine import Engine
from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.storage import load_snapshot, open_store, save_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from headgate.clock import Clock
    from headgate.engine.ports import Store, StoredPolicy
    from headgate.settings import Settings

__all__ = [
    "Wired",
    "keep_snapshot",
    "open_configured_store",
    "prepare_directory",
    "read_snapshot",
    "wire",
]

_log = logging.getLogger("headgate.wiring")
_SNAPSHOT: Final = "counters.snapshot"


@dataclass(frozen=True)
class Wired:
    """What the doors work with.

    Attributes:
        engine: with the stored policies in force.
        top_keys: the keys that are denied most.
        versions: of the policies; None when they could not be read yet.
    """

    engine: Engine
    top_keys: TopKeys
    versions: dict[str, int] | None = None


def open_configured_store(settings: Settings, clock: Clock | None = None) -> Store:
    """The store of the settings, in its directory.

    Raises:
        ConfigurationError: the directory cannot be used, or the store cannot be opened.
    """
    prepare_directory(settings.data_dir)
    try:
        return open_store(settings.database_url, clock)
    except StoreUnavailable as error:
        raise ConfigurationError(error.message, **error.context) from error


def wire(
    settings: Settings,
    store: Store,
    clock: Clock,
    share: Callable[[Engine], object] | None = None,
    *,
    is_agreed: bool = False,
) -> Wired:
    """An engine with the stored policies in force.

    Args:
        settings: the configuration.
        store: of the policies.
        clock: gives the time.
        share: is given the engine, to let it share its limits with other nodes.
        is_agreed: the store is one of many nodes: it may be away for now.

    Raises:
        ConfigurationError: the policies cannot be read, and the store is this node's own.
    """
    top_keys = TopKeys()
    engine = Engine(
        clock,
        max_keys=settings.max_keys,
        admit_unmatched=settings.no_match == "allow",
        max_reservations=settings.max_reservations,
        observer=top_keys if settings.top_keys else None,
    )
    if share is not None:
        share(engine)
    versions: dict[str, int] = {}
    try:
        for stored in _those_of(store, is_agreed=is_agreed):
            engine.set_policy(stored.policy, stored.version)
            versions[stored.policy.name] = stored.version
    except StoreUnavailable as error:
        if not is_agreed:
            raise ConfigurationError(error.message, **error.context) from error
        _log.warning("the policies could not be read yet: %s", error)
        return Wired(engine, top_keys)
    return Wired(engine, top_keys, versions)


def _those_of(store: Store, *, is_agreed: bool) -> Sequence[StoredPolicy]:
    """The stored policies. Of its own a node must be able to read every one, or its limit would be gone."""
    if not is_agreed:
        return store.policies.list()
    stored, broken = store.policies.readable()
    for name, why in broken.items():
        _log.error("the policy %r is not in force: %s", name, why)
    return stored


def read_snapshot(settings: Settings) -> dict[str, Any] | None:
    """The counters that the last graceful stop left; None when there are none to use."""
    return load_snapshot(settings.data_dir / _SNAPSHOT) if settings.snapshot else None


def keep_snapshot(settings: Settings, content: Mapping[str, Any]) -> None:
    """Keep the counters for the next start; a failure is logged, for the service stops all the same."""
    if not settings.snapshot:
        return
    try:
        size = save_snapshot(settings.data_dir / _SNAPSHOT, content)
    except StoreUnavailable as error:
        _log.error("%s", error)
    else:
        _log.info("the counters were kept: %d bytes", size)


def prepare_directory(directory: Path) -> None:
    """Make the directory, and try whether files can be made in it: permissions alone do not tell.

    Raises:
        ConfigurationError: it cannot be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        message = (
            f"the data directory {directory} cannot be used: {error.strerror}; make it writable, "
            "or choose another with --data-dir or HEADGATE_DATA_DIR"
        )
        raise ConfigurationError(message) from error
