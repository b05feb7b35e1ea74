"""What the parts of a cluster's store have in common: reading their records, and trying again."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headgate.errors import Conflict, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.engine.records import Record

__all__ = ["moment", "opened", "until_made"]

T = TypeVar("T")
_ATTEMPTS: Final = 100


def until_made(attempt: Callable[[], T | None]) -> T:
    """Try a change until it was made. It is not (None) only when another one was, so they all get on."""
    for _ in range(_ATTEMPTS):
        made = attempt()
        if made is not None:
            return made
    raise Conflict("other changes kept being made at the same moment; repeat the change")


def opened(folder: str, record: Record) -> dict[str, Any]:
    """What a record says; raises `StoreUnavailable`: one that cannot be read must not be skipped."""
    try:
        content = json.loads(record.text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise StoreUnavailable(
            f"the record {record.name[:128]!a} of the {folder} cannot be read; put it right, or remove it",
            name=record.name,
        )
    return content


def moment(text: Any) -> datetime | None:
    """A moment as it was written down; None for none."""
    return datetime.fromisoformat(text) if text else None
