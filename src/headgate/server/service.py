"""The one place that turns a request into attributes and asks the engine.

REST, the fast lane, batches and RESP all come through here, so that a key that is refused at one door is
refused at all of them, and in the same words. There are no locks: it all runs on the loop's thread.

Where limits are shared with other nodes an answer may be `Pending`: it comes when the shared counters were
asked. Whatever is wrong with a request, and whatever is too much, is said at once all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import Decision
from headgate.errors import InvalidCost, InvalidInput, InvalidKey, Overloaded
from headgate.priority import tier_of
from headgate.rate import MAX_LIMIT
from headgate.server.overload import Overload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i64

    from headgate.engine.engine import Engine
    from headgate.engine.pending import Pending
    from headgate.engine.reservations import Reservation
    from headgate.engine.stats import Usage
    from headgate.errors import HeadgateError
    from headgate.server.wire import CheckRequest

__all__ = ["CheckService", "RecentRequests"]

MAX_METADATA: Final = 64
_NS: Final = 1_000_000_000
_RECENT_KEYS: Final = 16_384
_RECENT_BYTES: Final = 4 * 1024 * 1024
_SMALL: Final = 1024


@final
class RecentRequests:
    """The attributes that the most recent keys came with.

    Policies may count by other dimensions than ``key``, and whoever reads the usage of a key knows only
    the key. Two generations: when the young one is full, it becomes the old one, and the old one is
    forgotten. So it holds at least the last 16,384 keys, or as many as 4 MiB of requests brought, and at
    most twice that.
    """

    def __init__(self, max_keys: int = _RECENT_KEYS, max_bytes: int = _RECENT_BYTES) -> None:
        self._max_keys: i64 = max_keys
        self._max_bytes: i64 = max_bytes
        self._young: dict[str, dict[str, str]] = {}
        self._old: dict[str, dict[str, str]] = {}
        self._bytes: i64 = 0

    def put(self, key: str, attributes: dict[str, str], size: i64) -> None:
        """Remember the attributes of a request of so many bytes."""
        # A small request may replace another of its key without being counted: what that can add up to
        # is bounded by the number of keys.
        if size > _SMALL or key not in self._young:
            self._bytes += size
            if self._bytes > self._max_bytes or len(self._young) >= self._max_keys:
                self._old = self._young
                self._young = {}
                self._bytes = size
        self._young[key] = attributes

    def get(self, key: str) -> dict[str, str]:
        """The attributes that the key last came with; only the key when that is not known."""
        attributes = self.find(key)
        return {"key": key} if attributes is None else attributes

    def find(self, key: str) -> dict[str, str] | None:
        """The attributes that the key last came with, if that is known."""
        attributes = self._young.get(key)
        return self._old.get(key) if attributes is None else attributes


@final
class CheckService:
    """Requests in, decisions out.

    The ``metadata`` of a call becomes the service's own: hand over a dict that nobody else keeps.

    Args:
        engine: decides.
        max_key_bytes: the longest key, dimension or value, in UTF-8.
        overload: says what is too much; a fresh one, which knows of no pressure, when left out.

    Attributes:
        remembers: whether the metadata of recent keys is kept, which only `usage` needs.
    """

    def __init__(
        self, engine: Engine, max_key_bytes: int = 1024, overload: Overload | None = None
    ) -> None:
        self.engine = engine
        self.overload = Overload(engine.clock) if overload is None else overload
        self.remembers = True
        self.max_key_bytes: i64 = max_key_bytes
        self._surely_short: i64 = max_key_bytes // 4
        self._recent = RecentRequests()

    def check(
        self,
        key: str | None,
        tokens: i64,
        metadata: dict[str, str],
        size: i64 = 0,
        priority: object = None,
    ) -> Decision | Pending[Decision]:
        """Decide, and spend when it passes.

        Args:
            key: the dimension ``key``; None when the request has none.
            tokens: the cost; 0 only asks.
            metadata: the other dimensions.
            size: about how many bytes the request had, to bound what is remembered.
            priority: a name or a tier; None leaves it to the policies that apply.

        Raises:
            InvalidInput: the key, the cost or the metadata break a constraint. Nothing was spent.
            Overloaded: the service has more to do than it can. Nothing was spent either.
        """
        decision = self.decide(key, tokens, metadata, size, priority)
        if (
            isinstance(decision, Decision)
            and not decision.allowed
            and self.overload.is_refusal(decision)
        ):
            raise Overloaded(decision)
        return decision

    def decide(
        self,
        key: str | None,
        tokens: i64,
        metadata: dict[str, str],
        size: i64,
        priority: object,
    ) -> Decision | Pending[Decision]:
        """`check`, with a refusal for what is too much in place of the error; see `Overload.is_refusal`."""
        attributes = self.attributes(key, tokens, metadata)
        self.overload.asked += 1
        if self.overload.sheds:
            shed = self.overload.refusal(self._tier(attributes, priority))
            if shed is not None:
                return shed
        decision = self.engine.begin_check(attributes, tokens)
        if key is not None and self.remembers:
            self._recent.put(key, attributes, size)
        return decision

    def check_all(self, checks: Sequence[CheckRequest]) -> list[Decision | Pending[Decision]]:
        """Decide each for itself, in order; what is too much now is refused with a decision of its own.

        All are begun before any is waited for.

        Raises:
            InvalidInput: one of them breaks a constraint; the context's ``index`` says which. Nothing
                was spent by any.
        """
        prepared: list[dict[str, str]] = []
        for one in checks:
            try:
                prepared.append(self.attributes(one.key, one.tokens, one.metadata))
            except InvalidInput as error:
                error.context["index"] = len(prepared)
                raise
        decisions: list[Decision | Pending[Decision]] = []
        for place, one in enumerate(checks):
            attributes = prepared[place]
            self.overload.asked += 1
            if self.overload.sheds:
                shed = self.overload.refusal(self._tier(attributes, one.priority))
                if shed is not None:
                    decisions.append(shed)
                    continue
            decisions.append(self.engine.begin_check(attributes, one.tokens))
            if one.key is not None and self.remembers:
                self._recent.put(one.key, attributes, _SMALL)
        return decisions

    def peek(
        self, key: str | None, tokens: i64, metadata: dict[str, str], priority: object = None
    ) -> Decision | Pending[Decision]:
        """What `check` would answer; nothing is spent. Raises `Overloaded` as it does."""
        attributes = self.attributes(key, tokens, metadata)
        self.overload.asked += 1
        if self.overload.sheds:
            self.overload.require_room(self._tier(attributes, priority))
        return self.engine.begin_peek(attributes, tokens)

    def refund(
        self, key: str | None, tokens: i64, metadata: dict[str, str]
    ) -> Decision | Pending[Decision]:
        """Give cost back; how things stand afterwards."""
        return self.engine.begin_refund(self.attributes(key, tokens, metadata), tokens)

    def reserve(
        self,
        key: str | None,
        tokens: i64,
        metadata: dict[str, str],
        ttl_seconds: float,
        priority: object = None,
    ) -> Reservation | Pending[Reservation]:
        """Set cost aside until it is committed, released, or the time is over.

        Raises `Overloaded` as `check` does. What ends a hold, or gives back, is never shed: it is the end of
        work that was let in.
        """
        attributes = self.attributes(key, tokens, metadata)
        self.overload.asked += 1
        if self.overload.sheds:
            self.overload.require_room(self._tier(attributes, priority))
        reservation = self.engine.begin_reserve(attributes, tokens, int(ttl_seconds * _NS))
        if key is not None and self.remembers:
            self._recent.put(key, attributes, _SMALL)
        return reservation

    def commit(
        self, reservation_id: str, tokens: int | None = None
    ) -> Decision | Pending[Decision | HeadgateError]:
        """Settle a reservation at its real cost, or at the reserved one when None."""
        return self.engine.begin_commit(reservation_id, tokens)

    def release(self, reservation_id: str) -> Decision | Pending[Decision | HeadgateError]:
        """Give a whole reservation back."""
        return self.engine.begin_commit(reservation_id, 0)

    def recall(self, key: str) -> dict[str, str] | None:
        """The attributes that a key last came with to this process, if it knows."""
        self._require_short(key, "key")
        return self._recent.find(key)

    def usage(self, key: str) -> list[Usage]:
        """What a key has spent and has left, under every limit that its last request met.

        Limits that are shared with other nodes look unused: see `headgate.server.key_usage`.
        """
        self._require_short(key, "key")
        return self.engine.usage(self._recent.get(key))

    def attributes(self, key: str | None, tokens: i64, metadata: dict[str, str]) -> dict[str, str]:
        """Dimension -> value, as the engine wants it.

        Raises:
            InvalidInput: something breaks a constraint.
        """
        if tokens < 0 or tokens > MAX_LIMIT:
            raise InvalidCost(
                f"tokens must be from 0 to {MAX_LIMIT}, got {tokens}; ask for less at a time",
                field="tokens",
            )
        if len(metadata) > 0:
            self._require_valid(metadata)
        if key is not None:
            if len(key) == 0:
                raise InvalidKey(
                    "key must not be empty; leave it out when the request has none", field="key"
                )
            self._require_short(key, "key")
            metadata["key"] = key
        return metadata

    def _tier(self, attributes: dict[str, str], priority: object) -> i64:
        """How important a request is: what it says itself goes before what policies say."""
        if priority is None:
            return self.engine.tier(attributes)
        return tier_of(priority)

    def _require_valid(self, metadata: dict[str, str]) -> None:
        if len(metadata) > MAX_METADATA:
            raise InvalidInput(
                f"metadata has at most {MAX_METADATA} entries, got {len(metadata)}; send those that "
                "policies count or match by",
                field="metadata",
            )
        if "key" in metadata:
            raise InvalidInput(
                "metadata must not have an entry 'key'; the request's own field 'key' is that dimension",
                field="metadata.key",
            )
        for name, value in metadata.items():
            if len(name) == 0:
                raise InvalidInput("a name in metadata must not be empty", field="metadata")
            self._require_short(name, "metadata")
            self._require_short(value, "metadata")

    def _require_short(self, text: str, field: str) -> None:
        """Refuse what is above the limit in UTF-8; four times the characters is never too short."""
        if len(text) > self._surely_short and len(text.encode("utf-8", "surrogatepass")) > (
            self.max_key_bytes
        ):
            raise InvalidKey(
                f"{field}: a key, a name or a value has at most {self.max_key_bytes} bytes in UTF-8; "
                "send a shorter one, such as its hash",
                field=field,
            )
