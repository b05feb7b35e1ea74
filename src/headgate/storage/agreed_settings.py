"""Documents of settings in the records of a cluster."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from headgate.engine.ports import StoredSetting
from headgate.errors import StoreUnavailable
from headgate.storage.agreed_records import opened, until_made
from headgate.storage.documents import encode, utc_now
from headgate.storage.refusals import check_setting_version

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.engine.records import Record, Records

__all__ = ["AgreedSettings"]

_FOLDER: Final = "settings"


class AgreedSettings:
    """A `SettingsStore` in records."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def get(self, name: str) -> StoredSetting | None:
        record = self._records.get((_FOLDER, name))
        return None if record is None else _stored(record)

    def put(
        self, name: str, document: dict[str, Any], expected_version: int | None = None
    ) -> StoredSetting:
        kept = json.loads(encode(document))
        key = (_FOLDER, name)

        def attempt() -> StoredSetting | None:
            record = self._records.get(key)
            current = 0 if record is None else _stored(record).version
            check_setting_version(name, expected_version, current)
            stored = StoredSetting(name, kept, current + 1, utc_now(self._clock))
            expected = {key: 0 if record is None else record.revision}
            return stored if self._records.change(expected, {key: _text(stored)}) else None

        return until_made(attempt)


def _text(stored: StoredSetting) -> str:
    return encode(
        {
            "version": stored.version,
            "updated_at": stored.updated_at.isoformat(),
            "document": stored.document,
            "mark": secrets.token_hex(8),
        }
    )


def _stored(record: Record) -> StoredSetting:
    content = opened(_FOLDER, record)
    try:
        return StoredSetting(
            record.name,
            dict(content["document"]),
            content["version"],
            datetime.fromisoformat(content["updated_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"the stored settings {record.name[:128]!a} cannot be read; put them anew"
        raise StoreUnavailable(message, name=record.name) from error
