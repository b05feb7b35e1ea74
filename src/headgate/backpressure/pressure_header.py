"""Pressure as one header field, so that it travels upstream with every response (B8).

::

    X-Pressure: v=1;p=.83;adm=.62;ttl=1000;seq=41

``v``    the version of the format, always 1
``p``    pressure: 0 idle, 1 at the limit, more beyond it
``adm``  the share of arrivals that was admitted lately, 0 to 1
``ttl``  milliseconds for which the report is fresh
``seq``  grows with every new report, so that an answer that was overtaken is not believed. The wall
         clock in milliseconds is a good choice: nodes behind one address then need not know each other

A reader takes the parts in any order and passes over those it does not know, so that later versions
may add some. What it cannot believe it drops whole: a report is advice from outside, and may be hostile.
"""

from __future__ import annotations

from math import isnan
from typing import Final, NamedTuple

from headgate.errors import InvalidInput

__all__ = [
    "HEADER_NAME",
    "MAX_PRESSURE",
    "PressureReport",
    "format_pressure",
    "is_believable",
    "parse_pressure",
]

HEADER_NAME: Final = "X-Pressure"
MAX_PRESSURE: Final = 100.0
"""Beyond this nobody acts differently; what is higher is written as this, and not believed when read."""

_MAX_TTL_MS: Final = 600_000
_MAX_SEQ: Final = 2**63 - 1
_MAX_LENGTH: Final = 256
_MAX_DIGITS: Final = 19


class PressureReport(NamedTuple):
    """What a node said about itself.

    Attributes:
        p: pressure; 1 is at the limit.
        admitted: the share of arrivals that it admitted lately, 0 to 1.
        ttl_ms: how long the report is fresh.
        seq: higher is newer.
    """

    p: float
    admitted: float
    ttl_ms: int
    seq: int


def format_pressure(p: float, admitted: float, ttl_ms: int, seq: int) -> str:
    """The field's value.

    >>> format_pressure(0.83, 0.62, 1000, 41)
    'v=1;p=.83;adm=.62;ttl=1000;seq=41'

    Values outside their bounds are written as the nearest bound.

    Raises:
        InvalidInput: a share is not a number.
    """
    if isnan(p) or isnan(admitted):
        raise InvalidInput(
            f"pressure and admitted must be numbers, got {p!r} and {admitted!r}; "
            "send no report while there is no reading"
        )
    p_text = _short(min(max(p, 0.0), MAX_PRESSURE))
    admitted_text = _short(min(max(admitted, 0.0), 1.0))
    ttl = min(max(ttl_ms, 0), _MAX_TTL_MS)
    return f"v=1;p={p_text};adm={admitted_text};ttl={ttl};seq={min(max(seq, 0), _MAX_SEQ)}"


def parse_pressure(text: str) -> PressureReport | None:
    """The report that a field's value holds; None when it holds none that can be believed.

    >>> parse_pressure("v=1;p=.83;adm=.62;ttl=1000;seq=41")
    PressureReport(p=0.83, admitted=0.62, ttl_ms=1000, seq=41)
    >>> parse_pressure("v=1;p=-1e9;adm=nan;ttl=1000;seq=41")
    """
    if len(text) > _MAX_LENGTH or not text.isascii():
        return None
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.strip(" \t").partition("=")
        if not equals or name in parts:
            return None
        parts[name] = value
    if parts.get("v") != "1":
        return None
    p = _share(parts.get("p"), MAX_PRESSURE)
    admitted = _share(parts.get("adm"), 1.0)
    ttl_ms = _whole(parts.get("ttl"), _MAX_TTL_MS)
    seq = _whole(parts.get("seq"), _MAX_SEQ)
    if p is None or admitted is None or ttl_ms is None or seq is None:
        return None
    return PressureReport(p, admitted, ttl_ms, seq)


def is_believable(report: object) -> bool:
    """Whether it is a report, with values that `parse_pressure` could have read.

    >>> is_believable(PressureReport(0.83, 0.62, 1000, 41)), is_believable(None)
    (True, False)
    """
    if not isinstance(report, PressureReport):
        return False
    p: object = report.p
    admitted: object = report.admitted
    ttl_ms: object = report.ttl_ms
    seq: object = report.seq
    if not (isinstance(p, (int, float)) and isinstance(admitted, (int, float))):
        return False
    if not (isinstance(ttl_ms, int) and isinstance(seq, int)):
        return False
    # NaN compares with nothing.
    shares = 0.0 <= p <= MAX_PRESSURE and 0.0 <= admitted <= 1.0
    return shares and 0 <= ttl_ms <= _MAX_TTL_MS and 0 <= seq <= _MAX_SEQ


def _short(value: float) -> str:
    """Two places, without what says nothing: ``.83``, ``1``, ``1.5``."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return text[1:] if text.startswith("0.") else text


def _share(text: str | None, most: float) -> float | None:
    """Digits with at most one point among them: neither sign nor exponent, neither inf nor nan."""
    if text is None or len(text) > _MAX_DIGITS or not text.replace(".", "", 1).isdigit():
        return None
    value = float(text)
    return value if value <= most else None


def _whole(text: str | None, most: int) -> int | None:
    if text is None or len(text) > _MAX_DIGITS or not text.isdigit():
        return None
    value = int(text)
    return value if value <= most else None
