"""The store of a cluster: policies, tokens and settings as records that all nodes have.

Records are JSON, one folder for each kind::

    policies/<name>            version, created_at, updated_at, document; of a deleted one the version stays
    history:<name>/<version>   change, document, actor, changed_at
    tokens/<id>                all but the secret
    uses/<id>                  when the token was last used: apart, for it is no configuration
    settings/<name>            version, updated_at, document
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headgate.storage.agreed_policies import AgreedPolicies
from headgate.storage.agreed_settings import AgreedSettings
from headgate.storage.agreed_tokens import AgreedTokens

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from headgate.clock import Clock
    from headgate.engine.records import Records

__all__ = ["AgreedStore"]


@final
class AgreedStore:
    """A `Store` in records; safe to use from several threads, and from several nodes.

    Args:
        records: where all is kept.
        clock: what dates the changes.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self.policies = AgreedPolicies(records, clock)
        self.tokens = AgreedTokens(records, clock)
        self.settings = AgreedSettings(records, clock)

    def ping(self) -> None:
        self._records.ping()

    def close(self) -> None:
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
