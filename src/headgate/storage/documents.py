"""Documents as text: JSON in ASCII, which every database keeps unchanged (PostgreSQL refuses NUL)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.clock import Clock
    from headgate.engine.ports import StoredPolicy
    from headgate.policy.model import Policy

__all__ = ["encode", "read_policy", "read_setting", "utc_now"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now(clock: Clock) -> datetime:
    """The moment, in UTC, in whole microseconds: as fine as the databases keep it."""
    return _EPOCH + timedelta(microseconds=clock.wall_ns() // 1000)


def encode(document: dict[str, Any]) -> str:
    """A document as JSON text; raises `InvalidInput` for what JSON cannot say."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the document must be plain JSON (objects, lists, text, finite numbers): {error}"
        raise InvalidInput(message) from error


def read_policy(name: str, text: str) -> Policy:
    """A stored policy.

    A row that cannot be read must not be skipped: its limit would be gone without a word.
    """
    from headgate.policy.model import Policy  # noqa: PLC0415 - only who reads policies pays

    try:
        return Policy.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        message = (
            f"the stored policy {name!r} cannot be read: {error}; delete it or put it right "
            "(a newer Headgate may have written it)"
        )
        raise StoreUnavailable(message, name=name) from error


def read_those(
    readers: Iterable[tuple[str, Callable[[], StoredPolicy | None]]],
) -> tuple[list[StoredPolicy], dict[str, str]]:
    """What the readers read, and by name why some could not; see `PolicyStore.readable`."""
    found: list[StoredPolicy] = []
    broken: dict[str, str] = {}
    for name, read in readers:
        try:
            one = read()
        except StoreUnavailable as error:
            broken[name] = error.message
        else:
            if one is not None:
                found.append(one)
    return found, broken


def read_setting(name: str, text: str) -> dict[str, Any]:
    """A stored document of settings."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        document = error
    if not isinstance(document, dict):
        message = f"the stored settings {name!r} cannot be read; put them anew"
        raise StoreUnavailable(message, name=name)
    return document
