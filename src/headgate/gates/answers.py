"""What an upstream's answer says about its load and our limits: status, Retry-After, RateLimit, X-Pressure.

Read are

* ``Retry-After`` in seconds or as a date;
* ``RateLimit`` and ``RateLimit-Policy`` as in draft-ietf-httpapi-ratelimit-headers-10, and what came
  before: ``RateLimit: limit=, remaining=, reset=``, ``RateLimit-Remaining`` and ``-Reset``, and with ``X-``;
* ``X-Pressure``, see `headgate.backpressure.pressure_header`.

All of it comes from outside. What cannot be read says nothing, and no wait is believed beyond a day.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headgate.backpressure.pressure_header import HEADER_NAME, parse_pressure
from headgate.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.backpressure.pressure_header import PressureReport

    GetHeader = Callable[[str], str | None]

__all__ = ["Answer", "answer_of", "read_answer"]

OVERLOADED_STATUSES: Final = frozenset({503, 529})
LIMITED_STATUS: Final = 429
_MOST_NS: Final = 86_400 * NS_PER_SECOND
_MAX_LENGTH: Final = 1_024
_FIRST_EPOCH: Final = 1_000_000_000  # a reset above this is a moment and no number of seconds


class Answer(NamedTuple):
    """What an answer says.

    Attributes:
        status: of HTTP; 0 when there was none.
        retry_after_ns: the wait that it asks for; 0 when it asks for none.
        hold_ns: how long our own limit there is used up; 0 when it is not.
        pressure: the upstream's.
    """

    status: int
    retry_after_ns: int = 0
    hold_ns: int = 0
    pressure: PressureReport | None = None

    @property
    def is_overloaded(self) -> bool:
        """Whether the upstream refused because it has too much to do."""
        return self.status in OVERLOADED_STATUSES

    @property
    def is_limited(self) -> bool:
        """Whether the upstream refused because of a limit of ours."""
        return self.status == LIMITED_STATUS


def read_answer(status: int, header: GetHeader, wall_ns: int) -> Answer:
    """Read a status and header fields.

    Args:
        status: of HTTP.
        header: gives the value of a field by its name, in whatever case; None when it is not there.
        wall_ns: now, since the Unix epoch; dates are counted from it.
    """
    retry_after_ns = _retry_after(_field(header, "Retry-After"), wall_ns)
    if status == LIMITED_STATUS:
        hold_ns = retry_after_ns or _until_reset(header, wall_ns)
        retry_after_ns = hold_ns
    else:
        hold_ns = _until_next(header)
    text = _field(header, HEADER_NAME)
    return Answer(status, retry_after_ns, hold_ns, parse_pressure(text) if text else None)


def answer_of(thing: object, wall_ns: int) -> Answer | None:
    """What a response says, or an exception that carries one; None when it is neither.

    A response is what has a ``status_code`` (httpx, requests) or a ``status`` (aiohttp, urllib3), and
    ``headers``; an exception carries one as ``response``, or is one itself. What raises when it is looked at
    says nothing: the call itself is over, and its outcome is not to be lost for that.
    """
    try:
        return _answer_of(thing, wall_ns)
    except Exception:  # noqa: BLE001 - properties and mappings of anybody's making
        return None


def _answer_of(thing: object, wall_ns: int) -> Answer | None:
    response = getattr(thing, "response", None) if isinstance(thing, BaseException) else thing
    for one in (response, thing):
        status = getattr(one, "status_code", None)
        if status is None:
            status = getattr(one, "status", None)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return read_answer(int(status), _getter(getattr(one, "headers", None)), wall_ns)
    return None


def _getter(headers: Any) -> GetHeader:
    get = getattr(headers, "get", None)
    if not callable(get):
        return lambda _: None

    def header(name: str) -> str | None:
        value = get(name)
        if value is None:  # a plain dict knows one spelling only
            value = get(name.lower())
        return value if isinstance(value, str) else None

    return header


def _field(header: GetHeader, name: str) -> str:
    """A field as text; "" when it is not there, or too long to be meant well."""
    value = header(name)
    return value.strip() if value is not None and len(value) <= _MAX_LENGTH else ""


def _retry_after(text: str, wall_ns: int) -> int:
    seconds = _number(text)
    if seconds is not None:
        return _bounded(seconds)
    if not text:
        return 0
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _bounded(moment.timestamp() - wall_ns / NS_PER_SECOND)


def _until_reset(header: GetHeader, wall_ns: int) -> int:
    """A refusal without Retry-After: the longest reset of what is used up."""
    return max((reset for _, reset in _used_up(header, wall_ns)), default=0)


def _until_next(header: GetHeader) -> int:
    """An admission that was the last: the wait for the next token, no longer than until the reset.

    The whole allowance is back at the reset, but of a bucket the next token is there much sooner. If it
    turns out not to be, the refusal will say for how long.
    """
    policies = {
        name: _bounded(window / quota)
        for name, parameters in _items(_field(header, "RateLimit-Policy"))
        if (quota := _number(parameters.get("q", "")))
        and (window := _number(parameters.get("w", "")))
    }
    waits = [min(reset, policies.get(name, NS_PER_SECOND)) for name, reset in _used_up(header, 0)]
    return max(waits, default=0)


def _used_up(header: GetHeader, wall_ns: int) -> list[tuple[str, int]]:
    """Each limit of which nothing remains, with the nanoseconds until its reset."""
    found = []
    for name, parameters in _items(_field(header, "RateLimit")):
        remaining = parameters.get("r", parameters.get("remaining", ""))
        reset = _number(parameters.get("t", parameters.get("reset", "")))
        if _number(remaining) == 0 and reset is not None:
            found.append((name, _bounded(reset)))
    for prefix in ("RateLimit", "X-RateLimit"):
        reset = _number(_field(header, f"{prefix}-Reset"))
        if not found and _number(_field(header, f"{prefix}-Remaining")) == 0 and reset is not None:
            if reset >= _FIRST_EPOCH:
                reset = reset - wall_ns / NS_PER_SECOND if wall_ns else 0.0
            found.append(("", _bounded(reset)))
    return found


def _items(text: str) -> list[tuple[str, dict[str, str]]]:
    """A structured-field list: each item with its parameters; of older drafts, one item with all."""
    items = []
    together: dict[str, str] = {}
    for item in _split(text, ","):
        parts = [part.strip() for part in _split(item, ";")]
        pairs = [part.partition("=") for part in parts[1:]]
        parameters = {name: value for name, _, value in pairs}
        if "=" in parts[0] and not parts[0].startswith('"'):
            name, _, value = parts[0].partition("=")
            together[name] = value
        elif parts[0]:
            items.append((parts[0], parameters))
    return [*items, ("", together)] if together else items


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quoted strings."""
    parts = [""]
    quoted = escaped = False
    for character in text:
        if character == separator and not quoted:
            parts.append("")
            continue
        parts[-1] += character
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
    return parts


def _number(text: str) -> float | None:
    """Digits with at most one point among them, of a length that a number of seconds has."""
    text = text.strip()
    if len(text) > 20 or not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    return float(text)


def _bounded(seconds: float) -> int:
    if not isfinite(seconds) or seconds <= 0:
        return 0
    return min(ceil(seconds * NS_PER_SECOND), _MOST_NS)
